"""mincore: a walker that only looks. It stands for every such walker: smaps, pagemap, KSM's and khugepaged's scans.

Source: mm/mincore.c.
"""

from emulator.atomic import data_race, kernel, knob, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.pagemap import cache_slot
from emulator.pages.vma import linear_page_index, vma_lookup
from emulator.pgtable import (
    access_ok,
    is_migration_entry,
    is_swap_entry,
    pmd_addr_end,
    pmd_lookup,
    pmd_pgtable,
    pmd_trans_huge,
    pte_offset,
    pte_present,
)
from emulator.pgtable_types import PAGE, PAGE_SHIFT, TASK_SIZE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.tables.rcu import cond_resched
from emulator.uapi import EINVAL, ENOMEM
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

MINCORE = path_number("mincore")

READ_PMD = point_number("mincore.read-pmd")
WALKING = point_number("mincore.walking")


@kernel
def mincore_page(m, row, addr):
    """1 if the page that the VMA at `row` maps at `addr` is in the page cache. Locking: caller must hold mmap_lock."""
    file = m.vma.file[row] - 1
    if file < 0:
        return 0
    pgoff = linear_page_index(m, row, addr)
    if pgoff >= read_once(m.file.size, file):
        return 0
    return 1 if read_once(m.cache.frame, cache_slot(m, file, pgoff)) != 0 else 0


@kernel
def mincore_unmapped_range(m, row, addr, end):
    """Pages of [addr, end) that are in memory without being mapped. Locking: as mincore_page."""
    present = 0
    while m.vma.file[row] != 0 and addr < end:
        present += mincore_page(m, row, addr)
        addr += PAGE
    return present


@kernel
def mincore_entry(m, row, addr, entry):
    """1 if the page of an entry is in memory, be it in the swap cache or the page cache. Locking: as mincore_page."""
    if is_swap_entry(entry):
        return 1 if read_once(m.cache.frame, entry >> PAGE_SHIFT) != 0 else 0
    return 1 if pte_present(entry) or is_migration_entry(entry) else mincore_page(m, row, addr)


@kernel
def mincore_pte_range(m, cpu, row, pmd, table, addr, end):
    """Pages of [addr, end) that are in memory by one table and the page cache, -1 if the table has gone.

    Locking: takes and releases ptl; caller must have come to the table.
    """
    point(m, cpu, WALKING, table, data_race(m.ptdesc.pte_refcount, table))
    if not pte_lock(m, cpu, pmd, table):
        return -1
    present = 0
    while addr < end:
        present += mincore_entry(m, row, addr, read_once(m.entry, pte_offset(table, addr)))
        addr += PAGE
    pte_unlock(m, cpu, table)
    return present


@kernel
def mincore_uncounted(m, cpu, row, pmd, addr, end):
    """mincore_pmd by a walker that holds no reference: a piece that is left out."""
    table = pmd_pgtable(read_once(m.entry, pmd))
    m.cpu.pin_table[cpu] = table  # for the detectors
    m.cpu.pin_generation[cpu] = m.ptdesc.generation[table]
    return mincore_pte_range(m, cpu, row, pmd, table, addr, end) if table != 0 else -1


@kernel
def mincore_pmd(m, cpu, mm, row, pmd, addr, end):
    """Pages of [addr, end), in the VMA at `row`, that are in memory by what the pmd names, -1 if that is no table."""
    entry = read_once(m.entry, pmd)
    if pmd_trans_huge(entry):
        return (end - addr) // PAGE
    point(m, cpu, READ_PMD, pmd_pgtable(entry), entry)
    if knob(m.config.pmd_read_twice) and pmd_trans_huge(read_once(m.entry, pmd)):
        write_once(m.entry, pmd, 0)  # pmd_clear_bad
    if knob(m.config.uncounted_walker):
        return mincore_uncounted(m, cpu, row, pmd, addr, end)
    table = pte_try_get(m, cpu, pmd)
    if table == 0:
        return -1
    took(m, cpu, MINCORE)
    present = mincore_pte_range(m, cpu, row, pmd, table, addr, end)
    pte_put(m, cpu, mm, pmd, addr)
    return present


@kernel
def mincore_vma(m, cpu, mm, row, addr, end):
    """Pages of [addr, end), in the VMA at `row`, that are in memory. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    present = 0
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        found = -1 if pmd == 0 else mincore_pmd(m, cpu, mm, row, pmd, addr, following)
        present += found if found >= 0 else mincore_unmapped_range(m, row, addr, following)
        addr = following
        cond_resched(m, cpu)
    return present


@kernel
def do_mincore(m, cpu, mm, start, length):
    """mincore(2): 0, with the number of pages that are in memory in cpu.loaded, -EINVAL for a place in a page, or
    -ENOMEM for a hole.

    Locking: takes and releases mmap_lock for reading.
    """
    m.cpu.loaded[cpu] = 0
    if start & (PAGE - 1):
        return -EINVAL
    if not access_ok(start, length) or start + length > TASK_SIZE + PAGE:
        return -ENOMEM
    addr, end = start, start + ((length + PAGE - 1) & -PAGE)
    present = 0
    mmap_read_lock(m, cpu, mm)
    while addr < end:
        row = vma_lookup(m, mm, addr)
        if row == 0:
            mmap_read_unlock(m, cpu, mm)
            return -ENOMEM
        until = min(end, m.vma.end[row])
        present += mincore_vma(m, cpu, mm, row, addr, until)
        addr = until
    mmap_read_unlock(m, cpu, mm)
    m.cpu.loaded[cpu] = present
    return 0
