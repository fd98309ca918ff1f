"""The seam of all policies: what walkers, faults and zaps say about a PTE table, and what the policy answers.

Under policy `none` the same functions pin nothing and count nothing; every walker calls them, so a policy is decided
here and in mmu_gather.py. Only teardown (mmap.py:free_pte_range) and the checks ask as well whether tables are counted.
"""

from emulator.atomic import (
    DEBUG,
    data_race,
    kernel,
    kernel_inline,
    read_once,
)
from emulator.bug import BUG, detecting
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import PTE_LOCK, spin_lock, spin_lock_pair, spin_unlock, spin_unlock_pair
from emulator.pgtable import pgtable_of, pmd_pgtable
from emulator.policy.counted import pte_put_last, pte_ref_add, pte_try_get_locked, pte_try_get_rcu
from emulator.tables.mmu_gather import pte_free_tlb
from emulator.tables.unhook import free_pte_table, unhook_pte_table
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import mark_life
from emulator.watch.pins import check_raised, check_use, pinned
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
BUG_PTLOCK_DEAD = int(Bug.PTLOCK_DEAD)
DYING_TABLE = int(Wait.DYING_TABLE)
NOTHING = int(Wait.NOTHING)
PINNED = point_number("pte_try_get.pinned")


@kernel_inline
def pte_get_many(m, cpu, pmd, n):
    """Count n more entries. Locking: caller must hold a reference."""
    if m.config.pte_counted[0]:
        entry = read_once(m.entry, pmd)
        table = pgtable_of(entry)
        if detecting(m) and pmd_pgtable(entry) == 0:
            BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
        count = pte_ref_add(m, cpu, table, n)
        mark_life(m, cpu, m.life.get, table)
        if detecting(m):
            check_raised(m, cpu, table, n, count)


@kernel_inline
def pte_get(m, cpu, pmd):
    """Count one more entry. Locking: caller must hold a reference."""
    pte_get_many(m, cpu, pmd, 1)


@kernel_inline
def pte_lock(m, cpu, table):
    """Take the ptl of a PTE table. Locking: caller must hold a reference; returns with the ptl held."""
    if detecting(m) and read_once(m.ptdesc.ptl_dead, table) != 0:
        BUG(m, cpu, BUG_PTLOCK_DEAD, table, 0, 1)
    spin_lock(m, cpu, m.ptdesc.ptl, table, PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)


@kernel_inline
def pte_unlock(m, cpu, table):
    """Release the ptl of a PTE table. Locking: caller must hold it."""
    if detecting(m):
        check_use(m, cpu, table)
    spin_unlock(m, cpu, m.ptdesc.ptl, table, PTE_LOCK)


@kernel
def pte_lock_pair(m, cpu, table, other):
    """Take the ptls of two PTE tables, which may be one. Locking: caller must hold references; returns with both."""
    spin_lock_pair(m, cpu, m.ptdesc.ptl, table, other, PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)


@kernel
def pte_unlock_pair(m, cpu, table, other):
    """Release the ptls of two PTE tables. Locking: caller must hold them."""
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)
    spin_unlock_pair(m, cpu, m.ptdesc.ptl, table, other, PTE_LOCK)


@kernel_inline
def pte_try_get(m, cpu, pmd):
    """Pin the table at `pmd`: its number, or 0 if there is none, it is dying, or the pmd is a leaf.

    Locking: returns with one reference. Source: patch 6; patch 5 did it under pmd_lock.
    """
    if not m.config.pte_counted[0]:
        table = pmd_pgtable(read_once(m.entry, pmd))
    elif m.config.try_get_rcu[0]:
        table = pte_try_get_rcu(m, cpu, pmd)
    else:
        table = pte_try_get_locked(m, cpu, pmd)
    if DEBUG and table != 0:
        mark_life(m, cpu, m.life.get, table)
        point(m, cpu, PINNED, table, data_race(m.ptdesc.pte_refcount, table))
        if detecting(m):
            pinned(m, cpu, pmd, table)
    return table


@kernel
def free_pte_table_tlb(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero through this CPU's open gather: one flush for all of them. Source: patch 7."""
    if not m.config.table_free_gather[0]:
        free_pte_table(m, cpu, mm, pmd, table, addr)
    elif unhook_pte_table(m, cpu, mm, pmd, table):
        pte_free_tlb(m, cpu, table, addr)


@kernel_inline
def pte_put_many(m, cpu, mm, pmd, addr, n):
    """Drop n references; the last one frees the table. Locking: caller must hold the references and no ptl."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table(m, cpu, mm, pmd, table, addr)


@kernel_inline
def pte_put(m, cpu, mm, pmd, addr):
    """Drop a reference; the last one frees the table. Locking: as pte_put_many."""
    pte_put_many(m, cpu, mm, pmd, addr, 1)


@kernel_inline
def pte_put_many_tlb(m, cpu, mm, pmd, addr, n):
    """Drop n references; the last one frees the table through this CPU's gather. Locking: as pte_put."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table_tlb(m, cpu, mm, pmd, table, addr)
