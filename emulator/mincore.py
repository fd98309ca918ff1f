"""mincore: a walker that only looks. It stands for every such walker: smaps, pagemap, KSM's and khugepaged's scans.

    v1 (patch 5)                  since 6.5 (setting rcu_walk)
    ============                  ============================
    pte_try_get(): pins           rcu_read_lock()
    ptl, look at the entries      read the pmd, ptl, read the pmd again: the same?
    pte_put(): may be the last    look at the entries, unlock, rcu_read_unlock()

Source: mm/mincore.c; pte_offset_map_lock, mm/pgtable-generic.c.
"""

from emulator.atomic import DEBUG, data_race, kernel, knob, read_once
from emulator.kernel import ENOMEM
from emulator.pgtable import (
    PAGE,
    PAGE_SHIFT,
    PRESENT,
    is_migration_entry,
    is_swap_entry,
    pgtable_of,
    pmd_addr_end,
    pmd_lookup,
    pte_offset,
    pte_present,
)
from emulator.points import point_number
from emulator.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.rcu import cond_resched, rcu_read_lock, rcu_read_unlock
from emulator.spinlock import mmap_read_lock, mmap_read_unlock
from emulator.tlb import point
from emulator.vma import find_vma, vma_limit

WALKING = point_number("mincore.walking")


@kernel
def in_memory(m, entry):
    """True if the page of an entry is in memory, be it in the swap cache alone."""
    if is_swap_entry(entry):
        return read_once(m.cache.frame, entry >> PAGE_SHIFT) != 0
    return pte_present(entry) or is_migration_entry(entry)


@kernel
def mincore_pte_range(m, cpu, pmd, table, addr, end):
    """Pages of [addr, end) that one table has in memory, in the swap cache too; 0 if the pmd names it no longer.

    Locking: takes and releases ptl; caller must hold a reference or rcu_read_lock.
    """
    point(m, cpu, WALKING, table, data_race(m.ptdesc.pte_refcount, table))
    pte_lock(m, cpu, table)
    present = 0
    if pgtable_of(read_once(m.entry, pmd)) == table:
        while addr < end:
            present += in_memory(m, read_once(m.entry, pte_offset(table, addr)))
            addr += PAGE
    pte_unlock(m, cpu, table)
    return present


@kernel
def mincore_pmd(m, cpu, mm, pmd, addr, end):
    """Pages of [addr, end) that are present under one pmd."""
    if DEBUG and (m.config.rcu_walk[0] or knob(m.config.uncounted_walker)):
        if m.config.rcu_walk[0]:
            rcu_read_lock(m, cpu)
        entry = read_once(m.entry, pmd)
        m.cpu.pin_table[cpu] = pgtable_of(entry)  # for the detectors
        m.cpu.pin_generation[cpu] = m.ptdesc.generation[pgtable_of(entry)]
        present = mincore_pte_range(m, cpu, pmd, pgtable_of(entry), addr, end) if entry & PRESENT else 0
        if m.config.rcu_walk[0]:
            rcu_read_unlock(m, cpu)
        return present
    table = pte_try_get(m, cpu, pmd)
    if table == 0:
        return 0
    present = mincore_pte_range(m, cpu, pmd, table, addr, end)
    pte_put(m, cpu, mm, pmd, addr)
    return present


@kernel
def do_mincore(m, cpu, mm, start, length):
    """mincore(2): 0, with the number of present pages in cpu.loaded, or -ENOMEM if no VMA begins the range.

    Locking: takes and releases mmap_lock for reading.
    """
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    if row == vma_limit(m, mm) or m.vma.start[row] > start:
        mmap_read_unlock(m, cpu, mm)
        return -ENOMEM
    addr, end = start, min(start + length, m.vma.end[row])
    present = 0
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        if pmd != 0:
            present += mincore_pmd(m, cpu, mm, pmd, addr, following)
        addr = following
        cond_resched(m, cpu)
    mmap_read_unlock(m, cpu, mm)
    m.cpu.loaded[cpu] = present
    return 0
