"""Walkers of policies with one lock an mm: a CPU that looks into a table, fills or frees one holds it.

    walker                              freer (pmap_mutex.py, pt_reclaim.py)
    ======                              ====================================
    pte_try_get(): reads the pmd, T     holds the lock of the mm
                                        T is empty: clears the pmd
    pte_lock(): waits for the lock      flushes (pmap-mutex)
                                        drops the lock
      the pmd names T still?            frees T, with no grace period
      no: gone

The lock is the one of the mm's top-level table, in place of each ptl and pmd_lock (ptl_of). It is found by the PMD
table, which lasts: those go by a grace period, with mmap_lock held for writing (upper.py). The hardware walks without
it: that is what the flush is for, which waits for a CPU with interrupts off, too.

Where entries are counted and the last one went, the table goes before the lock is dropped.

Source: pmap->pm_mtx, sys/amd64/amd64/pmap.c, FreeBSD; the aspace lock of Zircon's x86 page tables.
"""

from emulator.atomic import kernel, knob, read_once
from emulator.bug import detecting
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import PTE_LOCK, spin_lock, spin_lock_pair, spin_unlock, spin_unlock_pair
from emulator.pgtable import ptl_of, table_of
from emulator.policy.pins import check_use
from emulator.policy.pmap_mutex import free_spare, take_if_emptied
from emulator.policy.rcu_readers import still_at
from emulator.watch.points import point_number

LOCKED = point_number("pte_lock.mm-locked")


@kernel
def pte_lock_mm(m, cpu, pmd, table):
    """pte_lock by the lock of the mm."""
    lock = ptl_of(m, table_of(pmd))
    spin_lock(m, cpu, m.ptdesc.ptl, lock, PTE_LOCK)
    point(m, cpu, LOCKED, table, pmd)
    if not still_at(m, pmd, table) and not knob(m.config.lock_no_pmd_recheck):
        spin_unlock(m, cpu, m.ptdesc.ptl, lock, PTE_LOCK)
        return False
    if detecting(m):
        check_use(m, cpu, table)
    return True


@kernel
def pte_unlock_mm(m, cpu, table):
    """pte_unlock by the lock of the mm; a table whose last entry went under it goes."""
    if detecting(m):
        check_use(m, cpu, table)
    spare = take_if_emptied(m, cpu)
    spin_unlock(m, cpu, m.ptdesc.ptl, ptl_of(m, table), PTE_LOCK)
    free_spare(m, cpu, spare)


@kernel
def pte_lock_pair_mm(m, cpu, pmd, table, other_pmd, other):
    """pte_lock_pair by the locks of the mms, which may be one."""
    lock, beside = ptl_of(m, table_of(pmd)), ptl_of(m, table_of(other_pmd))
    spin_lock_pair(m, cpu, m.ptdesc.ptl, lock, beside, PTE_LOCK)
    stable = still_at(m, pmd, table) and still_at(m, other_pmd, other)
    if not stable and not knob(m.config.lock_no_pmd_recheck):
        spin_unlock_pair(m, cpu, m.ptdesc.ptl, lock, beside, PTE_LOCK)
        return False
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)
    return True


@kernel
def pte_unlock_pair_mm(m, cpu, table, other):
    """pte_unlock_pair by the locks of the mms. What goes from one table to another empties one at most."""
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)
    lock, beside = ptl_of(m, table), ptl_of(m, other)
    spare = take_if_emptied(m, cpu)
    spin_unlock_pair(m, cpu, m.ptdesc.ptl, lock, beside, PTE_LOCK)
    free_spare(m, cpu, spare)


@kernel
def pte_peek_mm(m, cpu, pmd, table, pte):
    """pte_peek by the lock of the mm."""
    lock = ptl_of(m, table_of(pmd))
    spin_lock(m, cpu, m.ptdesc.ptl, lock, PTE_LOCK)
    entry = read_once(m.entry, pte) if still_at(m, pmd, table) else 0
    spin_unlock(m, cpu, m.ptdesc.ptl, lock, PTE_LOCK)
    return entry
