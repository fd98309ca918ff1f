"""The ptl of a PTE table, taken and dropped: what every policy's pte_lock ends in, with the detectors of its use."""

from emulator.atomic import DEBUG, kernel, kernel_inline, read_once
from emulator.bug import BUG, detecting
from emulator.locking.spinlock import PTE_LOCK, spin_lock, spin_lock_pair, spin_unlock, spin_unlock_pair
from emulator.pgtable import ptl_of
from emulator.policy.pins import check_use
from emulator.watch.bugs import Bug

BUG_PTLOCK_DEAD = int(Bug.PTLOCK_DEAD)


@kernel_inline
def own_ptl(m, table):
    """ptl_of where the policy does not have one lock an mm: only a setting can, so the plain build need not ask."""
    return ptl_of(m, table) if DEBUG else table


@kernel_inline
def lock_table(m, cpu, table):
    """Take the ptl of a PTE table. Locking: the table must not go, or the caller be in a read section."""
    if detecting(m) and read_once(m.ptnote.ptl_dead, table) != 0:
        BUG(m, cpu, BUG_PTLOCK_DEAD, table, 0, 1)
    spin_lock(m, cpu, m.ptdesc.ptl, own_ptl(m, table), PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)


@kernel_inline
def unlock_table(m, cpu, table):
    """Drop the ptl of a PTE table. Locking: caller must hold it."""
    if detecting(m):
        check_use(m, cpu, table)
    spin_unlock(m, cpu, m.ptdesc.ptl, own_ptl(m, table), PTE_LOCK)


@kernel
def lock_tables(m, cpu, table, other):
    """Take the ptls of two PTE tables, which may be one. Locking: as lock_table."""
    spin_lock_pair(m, cpu, m.ptdesc.ptl, ptl_of(m, table), ptl_of(m, other), PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)


@kernel
def unlock_tables(m, cpu, table, other):
    """Drop the ptls of two PTE tables. Locking: caller must hold them."""
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)
    spin_unlock_pair(m, cpu, m.ptdesc.ptl, ptl_of(m, table), ptl_of(m, other), PTE_LOCK)
