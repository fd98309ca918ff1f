"""What madvise and mprotect do to entries: to those of a range in one PTE table, or to a leaf. pagewalk.py comes here
with each table pinned, and a gather open.

Source: mm/madvise.c; change_pte_range, mm/mprotect.c.
"""

from emulator.atomic import atomic_add, kernel, read_once, write_once, xchg
from emulator.cpu.interrupts import point
from emulator.huge.huge_memory import HUGE_ZERO_PAGE
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.mm_types import LARGE, LAZYFREE
from emulator.pages.swap_state import free_swap_and_cache, read_swap_cache_async
from emulator.pages.vma import pte_modify
from emulator.pgtable import (
    from_migration_entry,
    is_migration_entry,
    is_swap_entry,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    to_migration_entry,
)
from emulator.pgtable_types import DIRTY, FILE, HPAGE_PMD_NR, PAGE, PAGE_SHIFT, PMD_SIZE, PRESENT, PSE, RW, ZERO_PAGE
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_peek, pte_put_entries_tlb, pte_unlock
from emulator.rmap_walks.folio import folio_busy, maps_whole_folio
from emulator.tables.mmu_gather import tlb_adjust_range, tlb_remove_tlb_entry
from emulator.watch.lockdep import assert_gather_open
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

YOUNG_DIRTY = path_number("MADV_FREE, COLD, PAGEOUT")
WILLNEED = path_number("MADV_WILLNEED")
FREE_SWAP = path_number("MADV_FREE of swap entries")
MPROTECT = path_number("mprotect")
CHANGE_HUGE = path_number("huge page, mprotect")

PROTECTED = point_number("mprotect.changed")


@kernel
def mark_lazyfree(m, frame):
    """Reclaim may forget an anonymous page unless it is stored to.

    Where there is swap, not one that others have as well: their entries may be clean since it was read from there.
    Locking: caller must hold the ptl of a PTE that maps it.
    """
    mapping = read_once(m.page.mapping, frame)
    alone = m.config.n_swap[0] == 0 or read_once(m.page.mapcount, frame) == 1
    if mapping != 0 and alone and read_once(m.page_slot, frame) == 0:
        write_once(m.page.mapping, frame, mapping | LAZYFREE)


@kernel
def clear_young_dirty_ptes(m, cpu, pmd, table, addr, end, bits):
    """Clear `bits` of the present entries of [addr, end) in one PTE table. The hardware sets them again, without a
    fault. MADV_FREE makes pages clean and old, MADV_COLD old. Pages of a folio that could not be split are spared.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    assert_gather_open(m, cpu)
    took(m, cpu, YOUNG_DIRTY)
    if not pte_lock(m, cpu, pmd, table):
        return
    whole = maps_whole_folio(m, table) if end - addr == PMD_SIZE else 0
    spared = LARGE if whole == 0 or folio_busy(m, whole) else 0
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        due = pte_present(entry) and entry >> PAGE_SHIFT != ZERO_PAGE and entry & bits
        if due and read_once(m.page.mapping, entry >> PAGE_SHIFT) & spared == 0:
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting these bits
            write_once(m.entry, pte, entry & ~bits)
            tlb_remove_tlb_entry(m, cpu, addr)
            if bits & DIRTY:
                mark_lazyfree(m, entry >> PAGE_SHIFT)
        addr += PAGE
    pte_unlock(m, cpu, table)


@kernel
def free_swap_ptes(m, cpu, mm, pmd, table, addr, end):
    """MADV_FREE: clear the swap entries of [addr, end) in one PTE table, and take them out of its count.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    assert_gather_open(m, cpu)
    start = addr
    cleared = 0
    if not pte_lock(m, cpu, pmd, table):
        return
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if is_swap_entry(entry):
            took(m, cpu, FREE_SWAP)
            write_once(m.entry, pte, 0)
            entry_changed(m, cpu, pmd, table, entry, 0, 1)
            free_swap_and_cache(m, cpu, entry >> PAGE_SHIFT)
            cleared += 1
        addr += PAGE
    pte_unlock(m, cpu, table)
    if cleared != 0:
        atomic_add(m.mm.rss_swap, mm, -cleared)
        pte_put_entries_tlb(m, cpu, mm, pmd, start, cleared)


@kernel
def swapin_walk_pte_range(m, cpu, pmd, table, addr, end):
    """MADV_WILLNEED: read the pages of the swap entries of [addr, end) in one PTE table into the swap cache.

    Locking: caller must hold a reference on the table.
    """
    took(m, cpu, WILLNEED)
    while addr < end:
        entry = pte_peek(m, cpu, pmd, table, pte_offset(table, addr))
        if is_swap_entry(entry):
            read_swap_cache_async(m, cpu, entry >> PAGE_SHIFT)
        addr += PAGE


@kernel
def clear_young_huge_pmd(m, cpu, pmd, addr, bits):
    """If a leaf stands at `pmd` that nobody else maps, clear `bits` of it, as clear_young_dirty_ptes does.

    Locking: takes and releases pmd_lock; caller must hold an open gather. Source: madvise_free_huge_pmd.
    """
    assert_gather_open(m, cpu)
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    head = entry >> PAGE_SHIFT
    if pmd_trans_huge(entry) and head != HUGE_ZERO_PAGE and not folio_busy(m, head):
        entry = xchg(m.entry, pmd, PSE | entry & FILE)  # a leaf still, for a look without the lock
        write_once(m.entry, pmd, entry & ~bits)
        tlb_adjust_range(m, cpu, addr, PMD_SIZE)
        for frame in range(head, head + HPAGE_PMD_NR if bits & DIRTY else head):
            mark_lazyfree(m, frame)
    pmd_unlock(m, cpu, pmd)


@kernel
def change_pte_range(m, cpu, pmd, table, addr, end, flags):
    """Give the pages of [addr, end) in one PTE table the permissions of `flags`; those in swap get them when they come.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    assert_gather_open(m, cpu)
    took(m, cpu, MPROTECT)
    if not pte_lock(m, cpu, pmd, table):
        return
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if is_migration_entry(entry):
            changed = pte_modify(from_migration_entry(entry, entry >> PAGE_SHIFT), flags)
            write_once(m.entry, pte, to_migration_entry(changed))
        elif pte_present(entry):
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
            changed = pte_modify(entry, flags)
            write_once(m.entry, pte, changed)
            if entry & ~changed & (PRESENT | RW):
                tlb_remove_tlb_entry(m, cpu, addr)
        addr += PAGE
    point(m, cpu, PROTECTED, table, flags)
    pte_unlock(m, cpu, table)


@kernel
def change_huge_pmd(m, cpu, pmd, addr, flags):
    """If a leaf stands at `pmd`, give it the permissions of `flags`. Locking: takes and releases pmd_lock; caller must
    hold an open gather. Source: mm/huge_memory.c.
    """
    assert_gather_open(m, cpu)
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    if pmd_trans_huge(entry):
        took(m, cpu, CHANGE_HUGE)
        entry = xchg(m.entry, pmd, PSE | entry & FILE)  # a leaf still; the hardware may be setting the dirty bit
        changed = pte_modify(entry, flags)
        write_once(m.entry, pmd, changed)
        if entry & ~changed & (PRESENT | RW):
            tlb_adjust_range(m, cpu, addr, PMD_SIZE)
    pmd_unlock(m, cpu, pmd)
