"""The page walk of the calls that look at entries, or change them where they are: one loop for all.

Linux hands a table of functions to walk_page_range. A kernel here gets the number of the walk, and branches on it: per
table, and in the walks of /proc per entry. Zap has a loop of its own, as it is what the plain figures measure; fork and
mremap hold two tables.

A walker stays inside of VMAs. mmap_lock for reading keeps those, and the VMAs keep the upper tables. Outside,

    walker                                      munmap
    ======                                      ======
                                                detaches the VMA, downgrades mmap_lock
    find_vma(): one above the address
    walks from the address on
                                                frees the tables of what it has detached, with no ptl
    reads the entry of a PMD table

it reads what is free (a8b92b8c1eac, 3f489c2067c5).

Source: walk_page_range, mm/pagewalk.c.
"""

from emulator.atomic import DEBUG, kernel, knob, read_once
from emulator.bug import BUG, detecting, stopped
from emulator.cpu.interrupts import point
from emulator.fault.swap_fault import unuse_pte_range
from emulator.huge.huge_memory import split_huge_pmd
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.mm_types import NR_MEMCGS
from emulator.pages.memcontrol import move_charge_pte
from emulator.pages.vma import find_vma
from emulator.pgtable import (
    entry_at,
    huge_piece,
    pgd_addr_end,
    pgd_offset,
    pgtable_of,
    pmd_addr_end,
    pmd_index,
    pmd_trans_huge,
    pte_offset,
    pud_addr_end,
    pud_index,
    table_of,
)
from emulator.pgtable_types import (
    ACCESSED,
    DIRTY,
    PAGE,
    PMD_SIZE,
    PRESENT,
    TABLE_INSTALLED,
    TASK_SIZE,
)
from emulator.policy.pte_alloc import pte_try_get_retry
from emulator.policy.pte_ref import pte_lock, pte_put, pte_put_many_tlb, pte_try_get, pte_unlock
from emulator.tables.mmu_gather import tlb_finish_mmu, tlb_gather_mmu
from emulator.tables.rcu import cond_resched
from emulator.uapi import EINTR, EINVAL, VM_HUGETLB
from emulator.walks.change_ptes import (
    change_huge_pmd,
    change_pte_range,
    clear_young_dirty_ptes,
    clear_young_huge_pmd,
    free_swap_ptes,
    swapin_walk_pte_range,
)
from emulator.walks.guard import guard_remove_pte_range
from emulator.walks.task_mmu import clear_refs_pte, clear_soft_dirty_pte, pagemap_word, smaps_clear, smaps_pte_entry
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

BUG_WALKED_FREED = int(Bug.WALKED_FREED_TABLE)
WALK = path_number("smaps, pagemap, clear_refs, memcg")
UPPER = point_number("pagewalk.upper")
WALK_SMAPS, WALK_PAGEMAP, WALK_CLEAR_REFS, WALK_CLEAR_SOFT_DIRTY, WALK_CHARGE = range(5)
WALK_PROTECT, WALK_FREE, WALK_COLD, WALK_WILLNEED, WALK_GUARD_REMOVE, WALK_UNUSE = range(5, 11)
WALK_PAGEMAP_COUNT = 11
LOOKS = (WALK_SMAPS, WALK_PAGEMAP, WALK_PAGEMAP_COUNT)
CLEARS = (WALK_CLEAR_REFS, WALK_CLEAR_SOFT_DIRTY)
GATHERS = (WALK_PROTECT, WALK_FREE, WALK_COLD, WALK_WILLNEED, WALK_GUARD_REMOVE)  # they put through their gather
NOT_IN_LEAVES = (WALK_WILLNEED, WALK_GUARD_REMOVE, WALK_UNUSE)  # a huge page has neither swap entries nor guards


@kernel
def read_pmd(m, cpu, pmd, addr):
    """The entry at `pmd`, in a table that was just found. Its table must be there still: a detector."""
    table = table_of(pmd)
    generation = m.ptdesc.generation[table]
    point(m, cpu, UPPER, table, addr)
    entry = read_once(m.entry, pmd)
    if detecting(m):
        now = m.ptdesc.generation[table]
        if now != generation or read_once(m.ptdesc.state, table) != TABLE_INSTALLED:
            BUG(m, cpu, BUG_WALKED_FREED, table, generation, now)
    return entry


@kernel
def next_table(m, cpu, mm, addr, end):
    """The next address from `addr` on that has a PTE table, and its pmd; `end` and 0 if there is none.

    Locking: caller must hold mmap_lock, and [addr, end) lie in a VMA.
    """
    mmap_assert_locked(m, cpu, mm)
    while addr < end:
        following = pgd_addr_end(addr, end)
        entry = read_once(m.entry, pgd_offset(m, mm, addr))
        if entry & PRESENT:
            following = pud_addr_end(addr, end)
            entry = read_once(m.entry, entry_at(pgtable_of(entry), pud_index(addr)))
            if entry & PRESENT:
                following = pmd_addr_end(addr, end)
                pmd = entry_at(pgtable_of(entry), pmd_index(addr))
                if read_pmd(m, cpu, pmd, addr) != 0:
                    return addr, pmd
        addr = following
    return end, 0


@kernel
def look_at_entry(m, cpu, walk, entry, addr):
    """One entry of a walk that only looks. Locking: caller must hold ptl, or pmd_lock of a leaf."""
    if walk == WALK_SMAPS:
        smaps_pte_entry(m, cpu, entry)
    elif walk == WALK_PAGEMAP_COUNT:
        m.cpu.loaded[cpu] += 1 if pagemap_word(entry) & m.mm_walk.private[cpu] else 0
    elif addr == m.mm_walk.private[cpu]:
        m.cpu.loaded[cpu] = pagemap_word(entry)


@kernel
def walk_pte(m, cpu, walk, pte, addr):
    """One entry of a walk. Locking: caller must hold ptl."""
    assert_ptl_held(m, cpu, table_of(pte))
    if walk in LOOKS:
        look_at_entry(m, cpu, walk, read_once(m.entry, pte), addr)
    elif walk == WALK_CLEAR_REFS:
        clear_refs_pte(m, cpu, pte, addr)
    elif walk == WALK_CLEAR_SOFT_DIRTY:
        clear_soft_dirty_pte(m, cpu, pte, addr)
    elif DEBUG:
        move_charge_pte(m, pte, m.mm_walk.private[cpu])


@kernel
def walk_huge_pmd(m, cpu, walk, pmd, addr, end):
    """Look at [addr, end) of a leaf, page by page, if one stands at `pmd`. Locking: takes and releases pmd_lock."""
    if not pmd_trans_huge(read_once(m.entry, pmd)):
        return
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    while pmd_trans_huge(entry) and addr < end:
        look_at_entry(m, cpu, walk, huge_piece(entry, addr), addr)
        addr += PAGE
    pmd_unlock(m, cpu, pmd)


@kernel
def walk_pte_range(m, cpu, walk, pmd, table, addr, end):
    """Walk [addr, end) of one PTE table. Locking: takes and releases ptl; caller must hold a reference."""
    took(m, cpu, WALK)
    if not pte_lock(m, cpu, pmd, table):
        return
    while addr < end:
        walk_pte(m, cpu, walk, pte_offset(table, addr), addr)
        addr += PAGE
    pte_unlock(m, cpu, table)


@kernel
def walk_table(m, cpu, mm, walk, pmd, table, addr, end):
    """Walk [addr, end) of one PTE table: 0, or the -errno of a walk that cannot go on.

    Locking: caller must hold a reference, and have a gather open if entries change.
    """
    if walk == WALK_PROTECT:
        change_pte_range(m, cpu, pmd, table, addr, end, m.mm_walk.private[cpu])
    elif walk == WALK_FREE:
        clear_young_dirty_ptes(m, cpu, pmd, table, addr, end, ACCESSED | DIRTY)
        free_swap_ptes(m, cpu, mm, pmd, table, addr, end)
    elif walk == WALK_COLD:
        clear_young_dirty_ptes(m, cpu, pmd, table, addr, end, ACCESSED)
    elif walk == WALK_WILLNEED:
        swapin_walk_pte_range(m, cpu, pmd, table, addr, end)
    elif walk == WALK_GUARD_REMOVE:
        guard_remove_pte_range(m, cpu, mm, pmd, table, addr, end)
    elif walk == WALK_UNUSE:
        return unuse_pte_range(m, cpu, mm, m.mm_walk.private[cpu], pmd, table, addr, end)
    else:
        walk_pte_range(m, cpu, walk, pmd, table, addr, end)
    return 0


@kernel
def change_leaf(m, cpu, mm, walk, pmd, addr, end):
    """What a walk that changes entries does to [addr, end) of the leaf at `pmd`, which it splits if that is a part.

    MADV_FREE and COLD have split it before (folio.py), unless it came meanwhile, or others map it: then they leave it.
    /proc and memcg go on page by page. Locking: caller must have a gather open, where there is one.
    """
    if walk in NOT_IN_LEAVES:
        return
    if walk == WALK_FREE or walk == WALK_COLD:
        if end - addr == PMD_SIZE:
            clear_young_huge_pmd(m, cpu, pmd, addr, ACCESSED | DIRTY if walk == WALK_FREE else ACCESSED)
    elif walk == WALK_PROTECT and end - addr == PMD_SIZE:
        change_huge_pmd(m, cpu, pmd, addr, m.mm_walk.private[cpu])
    else:
        split_huge_pmd(m, cpu, mm, pmd, addr)


@kernel
def walk_put(m, cpu, mm, walk, pmd, addr):
    """Drop the reference of a walk."""
    if walk in GATHERS:
        pte_put_many_tlb(m, cpu, mm, pmd, addr, 1)
    else:
        pte_put(m, cpu, mm, pmd, addr)


@kernel
def walk_page_range(m, cpu, mm, addr, end, walk):
    """Walk the entries of [addr, end), which lies in a VMA: 0 or -errno. A table that is dying is empty, and skipped;
    mprotect waits for it, as in v1.

    Locking: caller must hold mmap_lock, and have a gather open if entries change.
    """
    mmap_assert_locked(m, cpu, mm)
    error = 0
    addr, pmd = next_table(m, cpu, mm, addr, end)
    while addr < end and error == 0:
        following = pmd_addr_end(addr, end)
        if walk not in LOOKS and pmd_trans_huge(read_once(m.entry, pmd)):
            change_leaf(m, cpu, mm, walk, pmd, addr, following)
        table = pte_try_get_retry(m, cpu, pmd) if walk == WALK_PROTECT else pte_try_get(m, cpu, pmd)
        if table != 0:
            error = walk_table(m, cpu, mm, walk, pmd, table, addr, following)
            walk_put(m, cpu, mm, walk, pmd, addr)
        elif walk in LOOKS:
            walk_huge_pmd(m, cpu, walk, pmd, addr, following)
        cond_resched(m, cpu)
        addr, pmd = next_table(m, cpu, mm, following, end)
    return error


@kernel
def walk_vmas(m, cpu, mm, start, end, walk):
    """Walk the VMAs of [start, end): 0 or -EINTR. Locking: as walk_page_range."""
    while start < end:
        row = find_vma(m, mm, start)
        if row == 0 or m.vma.start[row] >= end:
            return 0
        if not knob(m.config.walk_outside_vma):
            start = max(start, m.vma.start[row])
        until = min(end, m.vma.end[row])
        if walk == WALK_PAGEMAP or walk == WALK_PAGEMAP_COUNT or not m.vma.flags[row] & VM_HUGETLB:
            walk_page_range(m, cpu, mm, start, until, walk)
        start = until
        if stopped(m):
            return -EINTR
    return 0


@kernel
def do_walk(m, cpu, mm, start, length, walk, arg):
    """SMAPS, PAGEMAP, CLEAR_REFS and MOVE_CHARGE: 0 or -errno. What a walk finds is in `m.smaps` and cpu.loaded.

    Locking: takes and releases mmap_lock, for writing where entries lose RW: no fault may see half of it.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    start &= -PAGE
    if length <= 0 or start < 0 or end > TASK_SIZE or (walk == WALK_CHARGE and not 0 <= arg < NR_MEMCGS):
        return -EINVAL
    if walk == WALK_SMAPS:
        smaps_clear(m, cpu)
    if walk == WALK_PAGEMAP:
        arg = end - PAGE
    m.cpu.loaded[cpu] = 0
    m.mm_walk.private[cpu] = arg
    if walk == WALK_CLEAR_SOFT_DIRTY:
        mmap_write_lock(m, cpu, mm)
    else:
        mmap_read_lock(m, cpu, mm)
    if walk in CLEARS:
        tlb_gather_mmu(m, cpu, mm, 0)
    result = walk_vmas(m, cpu, mm, start, end, walk)
    if walk in CLEARS:
        tlb_finish_mmu(m, cpu)
    if walk == WALK_CLEAR_SOFT_DIRTY:
        mmap_write_unlock(m, cpu, mm)
    else:
        mmap_read_unlock(m, cpu, mm)
    return result
