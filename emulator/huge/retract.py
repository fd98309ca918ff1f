"""Retract: khugepaged takes the empty PTE tables of a file's ranges out, where nobody counts their users.

    retract                              a walk of the table
    =======                              ===================
    i_mmap_lock of the file              a fault, madvise: mmap_lock
    mmap_lock for writing, if it is free write-back, truncate: i_mmap_lock
    anon_vma lock                        swap-out, migration: anon_vma lock
    is the table empty?
    clears the pmd under pmd_lock
    flush; frees the table               fast GUP: interrupts are off

A walk needs any one of the three locks. ptl lets its holder change entries, pmd_lock put a table in; neither lets
anybody take a table out, and so retract needs all three. Where walkers look at the pmd again under the ptl (since 6.5)
i_mmap_lock, pmd_lock and ptl are enough for the table. Where tables are counted there is no empty one to be found. A
table that several VMAs have a part of stays, as does that of a VMA with private copies.

Source: retract_page_tables, mm/khugepaged.c; 8d3c106e19e8, 1d65b771bc08.
"""

from emulator.atomic import kernel, knob, or_words, read_once
from emulator.cpu.interrupts import point
from emulator.locking.mmap_lock import mmap_write_unlock
from emulator.locking.mutex import anon_vma_lock, anon_vma_unlock, i_mmap_lock, i_mmap_row, i_mmap_unlock
from emulator.locking.vma_lock import mmap_write_trylock
from emulator.pages.rmap import file_range
from emulator.pages.vma import find_vma, vma_mm, vmas_lock, vmas_unlock
from emulator.pgtable import pmd_lookup, pmd_pgtable
from emulator.pgtable_types import PMD_SIZE, PTRS_PER_PTE
from emulator.policy.policies import GOES_LATER, GOES_NOW
from emulator.policy.pte_ref import pte_table_goes, walkers_look_again
from emulator.tables.unhook import (
    flush_and_free_table,
    flush_table,
    free_pte_table,
    unhook_if_empty,
    unhook_pte_table,
)
from emulator.uapi import EINVAL
from emulator.watch.lockdep import lockdep_assert_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

RETRACT = path_number("retract")
EMPTY = point_number("retract.empty")


@kernel
def retract_table(m, cpu, mm, addr):
    """Take the PTE table for the 2 MiB at `addr` out if there is one and it is empty.

    Locking: caller must hold i_mmap_lock and, unless walkers look again, mmap_lock for writing and vmas_lock.
    """
    pmd = pmd_lookup(m, mm, addr)
    table = 0 if pmd == 0 else pmd_pgtable(read_once(m.entry, pmd))
    if table == 0:
        return
    if walkers_look_again(m):
        if unhook_if_empty(m, cpu, mm, pmd, table):
            took(m, cpu, RETRACT)
            flush_and_free_table(m, cpu, mm, table, addr)
    elif or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE) == 0:
        took(m, cpu, RETRACT)
        point(m, cpu, EMPTY, table, pmd)
        goes = pte_table_goes(m, cpu, pmd, table)
        if goes == GOES_NOW:
            free_pte_table(m, cpu, mm, pmd, table, addr)
        elif goes == GOES_LATER and unhook_pte_table(m, cpu, mm, pmd, table):
            flush_table(m, cpu, mm, addr)


@kernel
def one_vma_covers(m, mm, addr):
    """True if one VMA without private copies covers the 2 MiB at `addr`. Locking: VMAs must not change."""
    row = find_vma(m, mm, addr)
    if row == 0 or m.vma.start[row] > addr or m.vma.end[row] < addr + PMD_SIZE:
        return False
    return read_once(m.vma.anon_vma, row) == 0


@kernel
def retract_tables(m, cpu, mm, start, end):
    """Take the empty tables of [start, end) out. Locking: as retract_table, and the VMAs must not change."""
    addr = (start + PMD_SIZE - 1) & -PMD_SIZE
    while addr + PMD_SIZE <= end:
        if one_vma_covers(m, mm, addr):
            retract_table(m, cpu, mm, addr)
        addr += PMD_SIZE


@kernel
def retract_range(m, cpu, file, mm, start, end):
    """Take the empty tables of [start, end) out, unless mmap_lock is in use.

    Locking: caller must hold i_mmap_lock; takes the anon_vma lock, and mmap_lock for writing where walkers need it.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    if walkers_look_again(m):
        family = read_once(m.mm.family, mm) - 1
        anon_vma_lock(m, cpu, family)  # for the VMAs
        retract_tables(m, cpu, mm, start, end)
        anon_vma_unlock(m, cpu, family)
    elif mmap_write_trylock(m, cpu, mm):
        if knob(m.config.retract_unlocked):
            i_mmap_unlock(m, cpu, file)
            retract_tables(m, cpu, mm, start, end)
        else:
            vmas_lock(m, cpu, mm)
            retract_tables(m, cpu, mm, start, end)
            vmas_unlock(m, cpu, mm)
        mmap_write_unlock(m, cpu, mm)
        if knob(m.config.retract_unlocked):
            i_mmap_lock(m, cpu, file)


@kernel
def retract_page_tables(m, cpu, file, first, end):
    """Take the empty tables of all ranges that map pages [first, end) of a file out: 0 or -EINVAL.

    Locking: takes and releases i_mmap_lock.
    """
    if not 0 <= file < m.config.n_file[0]:
        return -EINVAL
    i_mmap_lock(m, cpu, file)
    row = m.file.i_mmap[file]
    while row != 0:
        start, until = file_range(m, row, first, end)
        retract_range(m, cpu, file, vma_mm(m, row), start, until)
        row = m.vma.i_mmap_next[row]
    i_mmap_unlock(m, cpu, file)
    return 0
