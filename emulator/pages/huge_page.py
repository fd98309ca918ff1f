"""Aligned blocks of 512 frames, for huge pages: from frames never used, or from a huge page that went back whole.

A frame of a block is counted by itself, as if it were mapped by a PTE of its own; Linux counts the compound page. So a
huge page that is split needs no change of any count, and its frames go back one by one as their users leave. Frames
that went back one by one never make a block again: there is no compaction.

Source: prep_compound_page and split_huge_page, mm/huge_memory.c; alloc_pages(order 9).
"""

from emulator.atomic import DEBUG, atomic_add, kernel, memset, read_once
from emulator.locking.spinlock import ZONE_LOCK, spin_lock, spin_unlock
from emulator.mm_types import FRAMES
from emulator.pages.page_alloc import pcp_push, put_page_testzero
from emulator.pgtable_types import HPAGE_PMD_NR


@kernel
def take_block(m):
    """The first frame of a free block, or 0. Locking: caller must hold the zone lock."""
    if m.zone.blocks[FRAMES] != 0:
        m.zone.blocks[FRAMES] -= 1
        return m.block_slot[m.zone.blocks[FRAMES]]
    fresh = m.zone.fresh[FRAMES]
    head = (fresh + HPAGE_PMD_NR - 1) & -HPAGE_PMD_NR
    if head + HPAGE_PMD_NR > m.zone.limit[FRAMES]:
        return 0
    for frame in range(fresh, head):  # on the way to an aligned one
        m.zone_slot[m.zone.slots[FRAMES] + m.zone.count[FRAMES]] = frame
        m.zone.count[FRAMES] += 1
    m.zone.fresh[FRAMES] = head + HPAGE_PMD_NR
    return head


@kernel
def alloc_huge_page(m, cpu):
    """The first of 512 aligned frames, each with one user and undefined contents; or 0.

    Locking: takes and releases the zone lock; never waits.
    """
    spin_lock(m, cpu, m.zone.lock, FRAMES, ZONE_LOCK)
    head = take_block(m)
    spin_unlock(m, cpu, m.zone.lock, FRAMES, ZONE_LOCK)
    if head != 0:
        memset(m.page.refcount, head, HPAGE_PMD_NR, 1)
    else:
        m.cpu.oom[cpu] += 1
        m.cpu.oom_zone[cpu] = FRAMES
    return head


@kernel
def clear_huge_page(m, head):
    """Zero the contents of a block."""
    words = m.config.frame_words[0]
    for part in range(words):
        memset(m.frame, head * words + part * HPAGE_PMD_NR, HPAGE_PMD_NR, 0)
    if DEBUG:
        memset(m.page_stored_by, head, HPAGE_PMD_NR, 0)
        memset(m.page_values, head, HPAGE_PMD_NR, 0)


@kernel
def add_mapcounts(m, head, n):
    """Let each frame of a block be mapped n times more."""
    for frame in range(head, head + HPAGE_PMD_NR):
        atomic_add(m.page.mapcount, frame, n)


@kernel
def sole_user(m, head):
    """True if each frame of a block has one user."""
    for frame in range(head, head + HPAGE_PMD_NR):
        if read_once(m.page.refcount, frame) != 1:
            return False
    return True


@kernel
def put_huge_page(m, cpu, head):
    """Drop a user of each frame of a block. If it was the last of all, the block is free as a whole.

    Locking: takes and releases the zone lock.
    """
    first = cpu * HPAGE_PMD_NR
    free = 0
    for frame in range(head, head + HPAGE_PMD_NR):
        if put_page_testzero(m, cpu, frame):
            m.block_freed[first + free] = frame
            free += 1
    if free == HPAGE_PMD_NR:
        spin_lock(m, cpu, m.zone.lock, FRAMES, ZONE_LOCK)
        m.block_slot[m.zone.blocks[FRAMES]] = head
        m.zone.blocks[FRAMES] += 1
        spin_unlock(m, cpu, m.zone.lock, FRAMES, ZONE_LOCK)
        return
    for i in range(free):
        pcp_push(m, cpu, FRAMES, m.block_freed[first + i])
