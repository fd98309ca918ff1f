"""Fast GUP: pin a page of the mm that this CPU runs without any lock, with interrupts off.

    fast GUP                            a CPU that takes the entry, or the table, away
    ========                            ==============================================
    local_irq_disable()
    reads the pmd                       clears the entry, or the pmd
    reads the entry                     flush: an IPI, which waits
    counts the frame, unless zero
    reads the entry and the pmd again
      changed: puts it, slow GUP
    local_irq_enable()                  all acks are there: the frame, or the table, may be used again

Either the second look finds the entry gone, or the CPU that cleared it finds the frame counted. The table is not
pinned. It stays because the IPI of the flush that comes before its freeing is not acknowledged. Where tables wait for a
grace period it stays because no quiescent state is reported.

Source: gup_pte_range and lockless_pages_from_mm, mm/gup.c; 70cbc3cc78a9 (the second look at the pmd).
"""

from emulator.atomic import atomic_inc_not_zero, cmpxchg, data_race, kernel, knob, read_once, write_once
from emulator.bug import BUG, detecting, stopped
from emulator.cpu.interrupts import local_irq_disable, local_irq_enable, point
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.mm_types import LAZYFREE
from emulator.pages.page_alloc import put_page
from emulator.pages.vma import vma_lookup
from emulator.pgtable import (
    access_ok,
    huge_piece,
    is_hugetlb,
    is_migration_entry,
    is_swap_entry,
    pgtable_of,
    pmd_lookup,
    pmd_offset_lockless,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    table_of,
)
from emulator.pgtable_types import FILE, PAGE, PAGE_SHIFT, PRESENT, RW, SPECIAL, ZERO_PAGE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.tables.rcu import cond_resched
from emulator.uapi import EFAULT, EINTR
from emulator.walks.gup import get_user_page
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lockdep_assert_irqs_disabled, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_device_store, zaps_of_others

GUP_FAST = path_number("GUP, fast")

GUP_FAST_HUGE = path_number("GUP, fast, huge page")
BUG_USE_AFTER_FREE = int(Bug.TABLE_USE_AFTER_FREE)
BUG_PIN_NOT_MAPPED = int(Bug.PIN_NOT_MAPPED)
BUG_FOREIGN_PIN = int(Bug.FOREIGN_PIN)
READ_PUD = point_number("gup.read-pud")
READ_PMD = point_number("gup.read-pmd")
READ_PTE = point_number("gup.read-pte")
PINNED = point_number("gup.pinned")
USED = point_number("gup.used")


@kernel
def gup_pte_range(m, cpu, pmd, named, addr, write):
    """Count the frame of `addr` once more, in the table that `named`, what the pmd held, names: the frame, or 0.

    Locking: caller must have interrupts off.
    """
    lockdep_assert_irqs_disabled(m, cpu)
    took(m, cpu, GUP_FAST)
    table = pgtable_of(named)
    generation = data_race(m.ptdesc.generation, table)
    point(m, cpu, READ_PMD, table, named)
    pte = pte_offset(table, addr)
    entry = read_once(m.entry, pte)
    frame = entry >> PAGE_SHIFT
    point(m, cpu, READ_PTE, table, entry)
    wanted = PRESENT | (RW if write else 0)
    usable = entry & wanted == wanted and entry & SPECIAL == 0 and frame != ZERO_PAGE and not (write and entry & FILE)
    if not usable or not atomic_inc_not_zero(m.page.refcount, frame):
        frame = 0
    else:
        point(m, cpu, PINNED, table, frame)
        same = read_once(m.entry, pmd) == named or knob(m.config.gup_no_pmd_recheck)
        if not same or read_once(m.entry, pte) != entry:
            put_page(m, cpu, frame)
            frame = 0
    if detecting(m) and data_race(m.ptdesc.generation, table) != generation:
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, generation, data_race(m.ptdesc.state, table))
    return frame


@kernel
def gup_huge_pmd(m, cpu, pmd, named, addr, write):
    """Count the frame of `addr` once more, in the leaf `named`, what the pmd held: the frame, or 0."""
    entry = huge_piece(named, addr)
    frame = entry >> PAGE_SHIFT
    of_file = entry & FILE != 0 and not is_hugetlb(named)
    usable = frame != ZERO_PAGE and not (write and (entry & RW == 0 or of_file))
    if not usable or not atomic_inc_not_zero(m.page.refcount, frame):
        return 0
    took(m, cpu, GUP_FAST_HUGE)
    point(m, cpu, PINNED, 0, frame)
    if read_once(m.entry, pmd) != named:
        put_page(m, cpu, frame)
        return 0
    return frame


@kernel
def check_owner(m, cpu, mm, pmd, named, frame):
    """Detector: a frame that fast GUP has counted is mapped in this mm, or is a page of hugetlbfs, which many map.

    Locking: caller must have interrupts off still.
    """
    lockdep_assert_irqs_disabled(m, cpu)
    table = table_of(pmd) if pmd_trans_huge(named) else pgtable_of(named)
    owner = data_race(m.ptdesc.mm, table) - 1
    if owner != mm and not is_hugetlb(named):
        BUG(m, cpu, BUG_FOREIGN_PIN, frame, mm, owner)


@kernel
def get_user_page_fast_only(m, cpu, mm, addr, write):
    """Pin the page at `addr` if it is there, and may be written if that is wanted: its frame, or 0.

    Locking: none; `mm` must be the one this CPU has loaded. Upper tables go as PTE tables do.
    """
    frame = 0
    local_irq_disable(m, cpu)
    pmd = pmd_offset_lockless(m, mm, addr)
    point(m, cpu, READ_PUD, table_of(pmd), addr)
    named = 0 if pmd == 0 else read_once(m.entry, pmd)
    if named & PRESENT and pmd_trans_huge(named):
        frame = gup_huge_pmd(m, cpu, pmd, named, addr, write)
    elif named & PRESENT:
        frame = gup_pte_range(m, cpu, pmd, named, addr, write)
    if detecting(m) and frame != 0:
        check_owner(m, cpu, mm, pmd, named, frame)
    local_irq_enable(m, cpu)
    return frame


@kernel
def frame_of_entry(m, entry):
    """The frame that an entry maps or will map again: with no access, being migrated, in the swap cache. Else 0."""
    if is_swap_entry(entry):
        return read_once(m.cache.frame, entry >> PAGE_SHIFT)
    return entry >> PAGE_SHIFT if pte_present(entry) or is_migration_entry(entry) else 0


@kernel
def frame_at(m, cpu, mm, addr):
    """frame_of_entry for `addr`. Locking: caller must hold mmap_lock, and know a VMA there; takes and releases ptl."""
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    named = 0 if pmd == 0 else read_once(m.entry, pmd)
    if pmd_trans_huge(named):
        return huge_piece(named, addr) >> PAGE_SHIFT
    table = 0 if named == 0 else pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return 0
    frame = frame_of_entry(m, read_once(m.entry, pte_offset(table, addr)))
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return frame


@kernel
def check_pin(m, cpu, mm, addr, frame, zaps, moves):
    """Detector: the page pinned for a store is the one mapped at `addr`, unless pages were zapped or moved meanwhile.

    Without a VMA munmap may be taking the tables down there, with mmap_lock for reading as well.
    """
    mmap_read_lock(m, cpu, mm)
    mapped = vma_lookup(m, mm, addr) != 0
    found = frame_at(m, cpu, mm, addr) if mapped else frame
    same = zaps >= 0 and zaps_of_others(m, cpu, mm) == zaps and read_once(m.mm.moves, mm) == moves
    if found != frame and same:
        BUG(m, cpu, BUG_PIN_NOT_MAPPED, addr, frame, found)
    mmap_read_unlock(m, cpu, mm)


@kernel
def set_stored(m, frame):
    """A device has stored to a page it has pinned: what MADV_FREE said before is over, though the PTE is clean.

    Source: unpin_user_pages_dirty_lock, mm/gup.c.
    """
    mapping = read_once(m.page.mapping, frame)
    while mapping & LAZYFREE:
        seen = cmpxchg(m.page.mapping, frame, mapping, mapping & ~LAZYFREE)
        mapping = 0 if seen == mapping else seen


@kernel
def use_page(m, cpu, mm, addr, value):
    """What a device does with a page of user memory: pin it, store `value` at `addr`, unpin it. It loads that word if
    `value` is 0. 0 or -errno.
    """
    zaps = zaps_of_others(m, cpu, mm) if detecting(m) else 0
    moves = read_once(m.mm.moves, mm) if detecting(m) else 0
    frame = get_user_page_fast_only(m, cpu, mm, addr, value)
    if frame == 0:
        frame = get_user_page(m, cpu, mm, addr, value)
    if frame <= 0:
        return frame
    words = m.config.frame_words[0]
    word = frame * words + (addr >> 3 & (words - 1))
    if value == 0:
        m.cpu.loaded[cpu] = read_once(m.frame, word)
    else:
        if detecting(m):
            shadow_device_store(m, mm, frame, addr, value)
        write_once(m.frame, word, value)
        set_stored(m, frame)
    point(m, cpu, USED, frame, value)
    if detecting(m) and value != 0:
        check_pin(m, cpu, mm, addr, frame, zaps, moves)
    put_page(m, cpu, frame)
    return 0


@kernel
def gup(m, cpu, mm, addr, length, value):
    """Let a device use the pages of [addr, addr + length), one after another: 0, or the -errno of the first that
    cannot be pinned."""
    if not access_ok(addr, length):
        return -EFAULT
    for at in range(addr, addr + length, PAGE):
        error = use_page(m, cpu, mm, at, value)
        if error != 0:
            return error
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
    return 0
