"""Tables above the PTE level: allocated where an address needs them, freed by munmap and exit (mmap.py) alone.

Source: pud_alloc and pmd_alloc, include/linux/mm.h; __pud_alloc and __pmd_alloc, mm/memory.c.
"""

from emulator.atomic import kernel, kernel_inline, read_once
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.pages.page_alloc import alloc_table, free_table
from emulator.pgtable import mm_inc_nr_tables, pgd_offset, pmd_offset, populate, pud_offset
from emulator.pgtable_types import PMD_LEVEL, PUD_LEVEL
from emulator.uapi import ENOMEM
from emulator.watch.lockdep import mmap_assert_locked


@kernel
def alloc_upper(m, cpu, mm, entry, level):
    """Install a PMD or PUD table at `entry` unless one is there: pmd_alloc and pud_alloc. 0 or -ENOMEM.

    Locking: takes and releases the lock of the table that holds `entry`.
    """
    table = alloc_table(m, cpu, level)
    if table == 0:
        return -ENOMEM
    pmd_lock(m, cpu, entry)
    free = read_once(m.entry, entry) == 0
    if free:
        mm_inc_nr_tables(m, mm)
        populate(m, mm, entry, table)
    pmd_unlock(m, cpu, entry)
    if not free:
        free_table(m, cpu, table)
    return 0


@kernel_inline
def pud_alloc(m, cpu, mm, addr):
    """The PUD entry for `addr`, with the table above it; or -ENOMEM. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    pgd = pgd_offset(m, mm, addr)
    if read_once(m.entry, pgd) == 0 and alloc_upper(m, cpu, mm, pgd, PUD_LEVEL) != 0:
        return -ENOMEM
    return pud_offset(m, pgd, addr)


@kernel_inline
def pmd_alloc(m, cpu, mm, addr):
    """The PMD entry for `addr`, with the tables above it; or -ENOMEM. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    pud = pud_alloc(m, cpu, mm, addr)
    if pud < 0 or (read_once(m.entry, pud) == 0 and alloc_upper(m, cpu, mm, pud, PMD_LEVEL) != 0):
        return -ENOMEM
    return pmd_offset(m, pud, addr)
