"""Zap: entries are cleared into an open mmu_gather, table by table."""

from emulator.atomic import (
    BODIES_APART,
    DEBUG,
    atomic_add,
    data_race,
    kernel,
    kernel_inline,
    knob,
    read_once,
    write_once,
    xchg,
)
from emulator.bug import detecting
from emulator.cpu.interrupts import point
from emulator.huge.huge_memory import split_huge_pmd, zap_huge_pmd
from emulator.pages.bodies import free_body_if_none
from emulator.pages.rmap import zap_file_pte
from emulator.pages.rss import sync_mm_rss
from emulator.pages.swap_state import free_swap_and_cache
from emulator.pgtable import (
    is_migration_entry,
    is_swap_entry,
    pgd_addr_end,
    pgd_offset,
    pmd_addr_end,
    pmd_offset,
    pmd_pgtable,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    pud_addr_end,
    pud_offset,
    table_of,
)
from emulator.pgtable_types import FILE, PAGE, PAGE_SHIFT, PMD_SIZE, PTE_MARKER_UFFD_WP, SPECIAL, ZERO_PAGE
from emulator.policy.pte_ref import (
    entry_changed,
    pte_lock,
    pte_put_entries_tlb,
    pte_put_many_tlb,
    pte_try_get,
    pte_unlock,
    pte_zap_begins,
    pte_zapped,
    zap_ended,
    zap_only_clears,
)
from emulator.policy.ptlock import lock_table
from emulator.tables.mmu_gather import (
    ZAP_DROP_MARKERS,
    ZAP_KEEP_COWS,
    tlb_finish_mmu,
    tlb_flush_mmu,
    tlb_flush_mmu_tlbonly,
    tlb_gather_mmu,
    tlb_remove_page,
    tlb_remove_tlb_entry,
)
from emulator.tables.rcu import cond_resched
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_release

ZAP_CLEARED = point_number("zap.cleared")
ZAP_ENTRIES = path_number("zap, entries")
ZAP_LOCKED = point_number("zap.locked")
ZAP_NONPRESENT = path_number("zap of a swap or migration entry")
ZAP_TABLE = path_number("zap, per table")


@kernel_inline
def zap_present_pte(m, cpu, mm, pmd, pte, addr):
    """Clear a PTE and gather its frame; True if the gather is full. Locking: caller must hold ptl."""
    assert_ptl_held(m, cpu, table_of(pte))
    entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
    entry_changed(m, cpu, pmd, table_of(pte), entry, 0, 1)
    tlb_remove_tlb_entry(m, cpu, addr)
    frame = entry >> PAGE_SHIFT
    if frame == ZERO_PAGE or entry & (SPECIAL | FILE):
        if entry & FILE == 0:
            return False
        zap_file_pte(m, cpu, mm, entry)
        return tlb_remove_page(m, cpu, frame)
    atomic_add(m.page.mapcount, frame, -1)
    m.cpu.rss_cache[cpu] -= 1
    return tlb_remove_page(m, cpu, frame)


@kernel
def zap_nonpresent_pte(m, cpu, mm, pmd, pte, entry, details):
    """Clear a swap entry, a migration entry, a marker of userfaultfd, or a guard if told to; True if cleared. No
    hardware looks at them, so nothing is flushed. Locking: caller must hold ptl.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    only = details & ZAP_KEEP_COWS
    if entry & only != only:
        return False
    if is_swap_entry(entry):
        atomic_add(m.mm.rss_swap, mm, -1)
        free_swap_and_cache(m, cpu, entry >> PAGE_SHIFT)
    elif is_migration_entry(entry):
        atomic_add(m.mm.rss_file, mm, -1 if entry & FILE else 0)
        atomic_add(m.mm.rss_anon, mm, 0 if entry & FILE else -1)
    elif entry != PTE_MARKER_UFFD_WP and not details & ZAP_DROP_MARKERS:
        return False  # a guard
    took(m, cpu, ZAP_NONPRESENT)
    write_once(m.entry, pte, 0)
    entry_changed(m, cpu, pmd, table_of(pte), entry, 0, 1)
    return True


@kernel_inline
def zap_entries(m, cpu, mm, pmd, table, addr, end, details):
    """Clear entries of one table from `addr` on: where it stopped, how many it cleared, and how many had to stay.

    It stops short of `end` if the gather is full, or somebody wants the processor. Locking: caller must hold the ptl.
    """
    assert_ptl_held(m, cpu, table)
    cleared = kept = 0
    full = False
    only = details & ZAP_KEEP_COWS
    until = min(end, addr + m.config.zap_batch[0] * PAGE) if DEBUG and m.config.zap_batch[0] else end
    while addr < until and not full:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if pte_present(entry):
            if entry & only == only:
                cleared += 1
                full = zap_present_pte(m, cpu, mm, pmd, pte, addr)
            else:
                kept += 1
        elif entry != 0:
            if zap_nonpresent_pte(m, cpu, mm, pmd, pte, entry, details):
                cleared += 1
            else:
                kept += 1
        addr += PAGE
    return addr, cleared, kept, full


@kernel
def zap_pte_range(m, cpu, mm, pmd, table, addr, end, details):
    """Clear the entries of [addr, end) in one PTE table, markers only if told to. Returns the address where it stopped,
    short of `end` if the table has gone. A full gather is flushed.

    Locking: takes and releases ptl; caller must have come to the table, and have an open gather.
    """
    assert_gather_open(m, cpu)
    took(m, cpu, ZAP_ENTRIES)
    if m.cpu.mm[cpu] != mm:
        sync_mm_rss(m, cpu, m.cpu.mm[cpu])  # what it counts from here on is the other's
    start = addr
    skipped = dropped = False
    cleared_pmd = unhooked = pte_zap_begins(m, cpu, pmd, table, details, end - start)
    while addr < end:
        if unhooked:
            lock_table(m, cpu, table)
        elif not pte_lock(m, cpu, pmd, table):
            return addr
        point(m, cpu, ZAP_LOCKED, table, data_race(m.ptdesc.pte_refcount, table))
        first = addr
        addr, cleared, kept, full = zap_entries(m, cpu, mm, pmd, table, first, end, details)
        if BODIES_APART and cleared != 0:
            free_body_if_none(m, cpu, table)
        skipped = skipped or kept != 0
        if addr >= end and not unhooked:
            cleared_pmd = pte_zapped(m, cpu, pmd, table, details, end - start, skipped, dropped or full)
        sync_mm_rss(m, cpu, mm)
        if m.cpu.gather_force[cpu] != 0:
            m.cpu.gather_force[cpu] = 0
            tlb_flush_mmu_tlbonly(m, cpu)
        pte_unlock(m, cpu, table)
        dropped = True
        m.cpu.zapped[cpu] += cleared
        point(m, cpu, ZAP_CLEARED, table, cleared)
        if full:
            tlb_flush_mmu(m, cpu)  # also behind the last page: the batch has no room for the next
        if cleared != 0:
            pte_put_entries_tlb(m, cpu, mm, pmd, first, cleared)
    zap_ended(m, cpu, mm, pmd, table, details, start, end, skipped, cleared_pmd)
    return addr


@kernel
def zap_or_split(m, cpu, mm, pmd, addr, end):
    """Zap the huge page at `pmd` if [addr, end) is all of it, else split it. Locking: as zap_pmd_range."""
    if end - addr == PMD_SIZE:
        zap_huge_pmd(m, cpu, mm, pmd, addr)
    else:
        split_huge_pmd(m, cpu, mm, pmd, addr)


@kernel_inline
def nothing_to_zap(m, table):
    """True if a table has no body, so no entry, and that is all that matters. Locking: such a machine has one CPU."""
    return BODIES_APART and m.body[table] == 0 and zap_only_clears(m)


@kernel
def zap_pmd_range(m, cpu, mm, pud, addr, end, details):
    """Zap [addr, end) within one GiB, table by table. A dying table is empty: skip it. A leaf that a fault brings
    between the two looks came after the call. It is skipped as well, and not taken for a table (pmd_trans_unstable).
    A table that goes while it is zapped may have a successor: look again.

    Locking: as unmap_page_range, and with an open gather.
    """
    assert_gather_open(m, cpu)
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_offset(m, pud, addr)
        if pmd_trans_huge(read_once(m.entry, pmd)):
            zap_or_split(m, cpu, mm, pmd, addr, following)
        while addr < following:
            named = read_once(m.entry, pmd)
            table = 0 if named == 0 or nothing_to_zap(m, pmd_pgtable(named)) else pte_try_get(m, cpu, pmd)
            if table == 0:
                break
            took(m, cpu, ZAP_TABLE)
            start = addr
            addr = zap_pte_range(m, cpu, mm, pmd, table, addr, following, details)
            pte_put_many_tlb(m, cpu, mm, pmd, addr if knob(m.config.advanced_address) else start, 1)
        addr = following
        cond_resched(m, cpu)


@kernel
def unmap_page_range(m, cpu, mm, addr, end, details):
    """Clear every entry of [addr, end) into this CPU's gather, as `details` says (mmu_gather.py).

    Locking: caller must hold mmap_lock, or i_mmap_lock of the file mapped there. Source: unmap_page_range, mm/memory.c.
    """
    if detecting(m) and details & ZAP_KEEP_COWS == 0:
        shadow_release(m, cpu, mm, addr, end)
    while addr < end:
        following = pgd_addr_end(addr, end)
        pgd = pgd_offset(m, mm, addr)
        if read_once(m.entry, pgd) != 0:
            while addr < following:
                in_pud = pud_addr_end(addr, following)
                pud = pud_offset(m, pgd, addr)
                if read_once(m.entry, pud) != 0:
                    zap_pmd_range(m, cpu, mm, pud, addr, in_pud, details)
                addr = in_pud
        addr = following


@kernel
def zap_page_range(m, cpu, mm, start, end, details):
    """Clear [start, end), which lies in one VMA, in one gather. Guards stay. Locking: as unmap_page_range."""
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, start, end, details)
    tlb_finish_mmu(m, cpu)
