"""UFFD_WRITEPROTECT: stores to a range are for userfaultfd from now on, or no longer.

    what an entry is                 protected                        no longer
    ================                 =========                        =========
    a page, the zero page            UFFD_WP, without RW              as mprotect would have it
    a leaf, whole                    the same                         the same
    in swap, or being migrated       UFFD_WP                          without
    none, or no table at all         a marker                         -
    a marker                         stays                            none

A page that comes where a marker is has UFFD_WP. So the table must stay as long as the marker does: a marker counts as
an entry. It goes with MADV_DONTNEED, as a page does.

This is userfaultfd with UFFD_FEATURE_WP_UNPOPULATED. Without it none entries stay none.

Source: mwriteprotect_range, mm/userfaultfd.c; change_pte_range, mm/mprotect.c.
"""

from emulator.atomic import kernel, read_once, write_once, xchg
from emulator.huge.huge_memory import split_huge_pmd
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.pages.vma import pte_modify
from emulator.pgtable import is_migration_entry, is_swap_entry, pmd_addr_end, pmd_trans_huge, pte_offset, pte_present
from emulator.pgtable_types import (
    FILE,
    MIGRATION_WRITE,
    PAGE,
    PMD_SIZE,
    PSE,
    PTE_MARKER_UFFD_WP,
    RW,
    UFFD_WP,
)
from emulator.policy.pte_alloc import pte_alloc_try_get, pte_try_get_retry
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_put_entries_tlb, pte_put_many_tlb, pte_unlock
from emulator.tables.mmu_gather import tlb_adjust_range, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.walks.pagewalk import next_table
from emulator.watch.lockdep import assert_gather_open, mmap_assert_locked
from emulator.watch.paths import path_number, took

PROTECT = path_number("UFFD_WRITEPROTECT")


@kernel
def wp_word(entry, flags, enable):
    """A present entry, or leaf, of a VMA with `flags`, protected or no longer."""
    return (entry | UFFD_WP) & ~RW if enable else pte_modify(entry & ~UFFD_WP, flags)


@kernel
def uffd_wp_ptes(m, cpu, pmd, table, addr, end, flags, enable):
    """Protect the entries of [addr, end) in one PTE table, or no longer: how many became none.

    Locking: caller must hold ptl and an open gather. Source: change_pte_range.
    """
    assert_gather_open(m, cpu)
    marked = removed = 0
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if pte_present(entry):
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
            write_once(m.entry, pte, wp_word(entry, flags, enable))
            if enable and entry & RW:
                tlb_remove_tlb_entry(m, cpu, addr)
        elif is_swap_entry(entry) or is_migration_entry(entry):
            kept = entry & ~MIGRATION_WRITE if is_migration_entry(entry) else entry
            write_once(m.entry, pte, kept | UFFD_WP if enable else kept & ~UFFD_WP)
        elif entry == 0 and enable:
            write_once(m.entry, pte, PTE_MARKER_UFFD_WP)
            marked += 1
        elif entry == PTE_MARKER_UFFD_WP and not enable:
            write_once(m.entry, pte, 0)
            removed += 1
        addr += PAGE
    entry_changed(m, cpu, pmd, table, 0, PTE_MARKER_UFFD_WP, marked)
    entry_changed(m, cpu, pmd, table, PTE_MARKER_UFFD_WP, 0, removed)
    return removed


@kernel
def uffd_wp_huge_pmd(m, cpu, pmd, addr, flags, enable):
    """Protect the leaf at `pmd`, or no longer; True unless it has gone.

    Locking: takes and releases pmd_lock; caller must hold an open gather. Source: change_huge_pmd.
    """
    assert_gather_open(m, cpu)
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    done = pmd_trans_huge(entry)
    if done:
        entry = xchg(m.entry, pmd, PSE | entry & FILE)  # a leaf still; the hardware may be setting the dirty bit
        write_once(m.entry, pmd, wp_word(entry, flags, enable))
        if enable and entry & RW:
            tlb_adjust_range(m, cpu, addr, PMD_SIZE)
    pmd_unlock(m, cpu, pmd)
    return done


@kernel
def uffd_wp_pmd(m, cpu, mm, pmd, addr, end, flags, enable):
    """Protect [addr, end), which `pmd` maps, or no longer: 0, 1 to look again, or -ENOMEM.

    Locking: caller must hold mmap_lock and an open gather.
    """
    mmap_assert_locked(m, cpu, mm)
    assert_gather_open(m, cpu)
    if pmd_trans_huge(read_once(m.entry, pmd)):
        if end - addr == PMD_SIZE and uffd_wp_huge_pmd(m, cpu, pmd, addr, flags, enable):
            return 0
        split_huge_pmd(m, cpu, mm, pmd, addr)
    table = pte_alloc_try_get(m, cpu, mm, pmd) if enable else pte_try_get_retry(m, cpu, pmd)
    if table < 0:
        return table
    if table == 0:
        return 1 if enable or pmd_trans_huge(read_once(m.entry, pmd)) else 0
    took(m, cpu, PROTECT)
    again = 1
    if pte_lock(m, cpu, pmd, table):
        removed = uffd_wp_ptes(m, cpu, pmd, table, addr, end, flags, enable)
        pte_unlock(m, cpu, table)
        again = 0
        if removed != 0:
            pte_put_entries_tlb(m, cpu, mm, pmd, addr, removed)
    pte_put_many_tlb(m, cpu, mm, pmd, addr, 1)
    return again


@kernel
def uffd_wp_range(m, cpu, mm, row, addr, end, enable):
    """Protect [addr, end), which lies in the anonymous VMA at `row`, or no longer: 0 or -ENOMEM.

    Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    error = 0
    tlb_gather_mmu(m, cpu, mm, 0)
    while addr < end and error >= 0:
        pmd = 0
        if enable:
            pmd = pmd_alloc(m, cpu, mm, addr)
        else:
            addr, pmd = next_table(m, cpu, mm, addr, end)
        if pmd <= 0:
            error = pmd
            break
        following = pmd_addr_end(addr, end)
        error = uffd_wp_pmd(m, cpu, mm, pmd, addr, following, m.vma.flags[row], enable)
        addr = following if error == 0 else addr
        cond_resched(m, cpu)
    tlb_finish_mmu(m, cpu)
    return min(error, 0)
