"""Two counters, 2022: how many entries of a table are set, and how many map the zero page; looked at when asked.

    instruction free_ptes                           another CPU
    =====================                           ===========
    mmap_lock for reading; each 2 MiB of each VMA:
      0 entries set, or 512 of the zero page?
    as posted:                                      (rmap: waits for the ptl of the table)
      drops mmap_lock, takes it for writing
      pmd_lock; 0 or 512 still? clears the pmd
      flushes, frees the table at once              rmap: has the ptl of a freed table (D14)
    two-counter-safe:
      pmd_lock, ptl; 0 or 512 still? clears the pmd
      drops both, flushes, grace period, free       pte_lock(): the pmd is none: begins again

A table of zero pages may go, for a load brings them back. It may not where userfaultfd has to be asked for that (H42),
memory is locked, or a VMA does not fill the slot. two-counter-safe looks, the posted design does not.

The counts change under the ptl, with the entries, and cost no atomic. Adapted: the writer of /proc/sys/vm/free_ptes
names a process, the instruction means its own. Where memory is short the process looks as well, which the cover
letter has as an idea. The frame number alone told the zero page there; here an entry must be present, too.

Source: the RFC of 2022-08-25 (Qi Zheng, "Try to free empty and zero user PTE page table pages"), 4 to 7.
"""

from emulator.atomic import kernel, kernel_inline, knob, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.page_alloc import free_table
from emulator.pages.vma import find_vma
from emulator.pgtable import pmd_lookup, pmd_pgtable
from emulator.pgtable_types import PMD_SIZE, PTRS_PER_PTE
from emulator.policy.policies import DEMAND_POSTED
from emulator.tables.mmu_gather import tlb_remove_table_free
from emulator.tables.rcu import cond_resched
from emulator.tables.unhook import flush_table, lock_named, note_unhooked, unlock_named
from emulator.uapi import VM_LOCKED_MASK, VM_UFFD
from emulator.watch.lockdep import might_sleep, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

FOUND = point_number("free_ptes.found")
CLEARED = point_number("free_ptes.cleared")
ON_DEMAND = path_number("free_ptes")


@kernel_inline
def posted(m):
    """True if it is to be done as posted: under mmap_lock for writing, and with no grace period."""
    return m.config.demand[0] == DEMAND_POSTED or knob(m.config.free_ptes_at_once)


@kernel
def zeros_may_go(m, row, addr):
    """True if loads bring the zero pages of the 2 MiB at `addr` back, and nobody is asked. Locking: mmap_lock."""
    if m.config.demand[0] == DEMAND_POSTED or knob(m.config.zeros_under_uffd):
        return True
    fills = m.vma.start[row] <= addr and addr + PMD_SIZE <= m.vma.end[row]
    return fills and m.vma.flags[row] & (VM_LOCKED_MASK | VM_UFFD) == 0


@kernel_inline
def reclaimable(m, table, zeros):
    """True if a table has no entry, or if `zeros` nothing but zero pages. Locking: the ptl, or it is a hint."""
    return read_once(m.ptnote.nr_entries, table) == 0 or (
        zeros and read_once(m.ptnote.policy_word, table) == PTRS_PER_PTE
    )


@kernel
def take_reclaimable(m, cpu, pmd, table, zeros):
    """Clear the pmd if it names the table and that is reclaimable still; True if so.

    Locking: takes and releases pmd_lock and, unless as posted, the ptl.
    """
    ptl = not posted(m)
    named = lock_named(m, cpu, pmd, table, ptl)
    gone = named and reclaimable(m, table, zeros)
    if gone:
        write_once(m.entry, pmd, 0)
    unlock_named(m, cpu, pmd, table, named and ptl)
    return gone


@kernel
def free_reclaimable(m, cpu, mm, addr, zeros):
    """Free the table of the 2 MiB at `addr` if it is reclaimable. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    table = 0 if pmd == 0 else pmd_pgtable(read_once(m.entry, pmd))
    if table == 0 or not take_reclaimable(m, cpu, pmd, table, zeros):
        return
    took(m, cpu, ON_DEMAND)
    note_unhooked(m, cpu, mm, pmd, table)
    point(m, cpu, CLEARED, table, pmd)
    flush_table(m, cpu, mm, addr)
    if posted(m):
        free_table(m, cpu, table)
    else:
        tlb_remove_table_free(m, cpu, table)


@kernel
def free_slot(m, cpu, mm, row, addr):
    """Free the table of the 2 MiB at `addr` if its counts say so; True if mmap_lock was dropped on the way.

    Locking: caller must hold mmap_lock for reading; returns with it.
    """
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    table = 0 if pmd == 0 else pmd_pgtable(read_once(m.entry, pmd))
    zeros = zeros_may_go(m, row, addr)
    if table == 0 or not reclaimable(m, table, zeros):
        return False
    point(m, cpu, FOUND, table, pmd)
    if not posted(m):
        free_reclaimable(m, cpu, mm, addr, zeros)
        return False
    mmap_read_unlock(m, cpu, mm)
    mmap_write_lock(m, cpu, mm)
    free_reclaimable(m, cpu, mm, addr, zeros)
    mmap_write_unlock(m, cpu, mm)
    mmap_read_lock(m, cpu, mm)
    return True


@kernel
def free_ptes(m, cpu, mm):
    """Free what tables of an mm are empty or hold nothing but zero pages. Locking: takes and releases mmap_lock.

    Where mmap_lock was dropped the VMA is looked for again; as posted the walk goes on with the old one (D13).
    """
    might_sleep(m, cpu)
    mmap_read_lock(m, cpu, mm)
    addr = 0
    row = find_vma(m, mm, 0)
    while row != 0:
        addr = max(addr, m.vma.start[row] & -PMD_SIZE)
        if addr >= m.vma.end[row]:
            row = m.vma.next[row]
            continue
        if free_slot(m, cpu, mm, row, addr):
            row = find_vma(m, mm, addr)
        addr += PMD_SIZE
        cond_resched(m, cpu)
    mmap_read_unlock(m, cpu, mm)
