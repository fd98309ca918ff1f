"""Spinlocks: a word that holds owner + 1.

A CPU that spins takes interrupts, as Linux does with interrupts enabled. The owner of the lock may be waiting for it to
acknowledge a TLB flush.
"""

from emulator.atomic import (
    cmpxchg,
    cpu_relax,
    data_race,
    kernel,
    kernel_inline,
    read_once,
    sched_yield,
    sleep_on,
    smp_store_release,
)
from emulator.bug import BUG, waits_for
from emulator.cpu.interrupts import take_interrupts
from emulator.pgtable import ptl_of, table_of
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lock_acquire, lock_acquired, lock_release
from emulator.watch.waits import Wait

_YIELD, _SLEEP = 200, 400  # pauses before a spinner yields, turns before it sleeps
_SLEEP_US = 50  # nobody wakes it: a spinlock is held for less

BUG_UNLOCK = int(Bug.UNLOCK_NOT_OWNER)
MMAP_LOCK = int(Wait.MMAP_LOCK)
WAIT_NOTHING = int(Wait.NOTHING)
PMD_LOCK = int(Wait.PMD_LOCK)
PTE_LOCK = int(Wait.PTE_LOCK)
ZONE_LOCK = int(Wait.ZONE_LOCK)
HTABLE_LOCK = int(Wait.HTABLE_LOCK)


@kernel
def spin_lock_slow(m, cpu, lock, i, lock_class):
    """Wait for lock[i]: pause, then yield, then sleep. The owner may not be running."""
    waits_for(m, cpu, lock_class, i)
    turns = 0
    while True:
        owner = read_once(lock, i)
        if owner == 0 and cmpxchg(lock, i, 0, cpu + 1) == 0:
            break
        take_interrupts(m, cpu)
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        elif turns < _SLEEP:
            sched_yield()
        else:
            sleep_on(m, cpu, lock, i, owner, _SLEEP_US)
    m.cpu.lock_spins[cpu] += turns
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def spin_lock(m, cpu, lock, i, lock_class):
    """Take the lock lock[i] of a class. Locking: returns with it held."""
    lock_acquire(m, cpu, lock_class, i)
    if cmpxchg(lock, i, 0, cpu + 1) != 0:
        spin_lock_slow(m, cpu, lock, i, lock_class)


@kernel
def spin_trylock(m, cpu, lock, i, lock_class):
    """Take lock[i] of a class if it is free; True if so. Locking: returns True with it held."""
    if cmpxchg(lock, i, 0, cpu + 1) != 0:
        return False
    lock_acquired(m, cpu, lock_class)
    return True


@kernel_inline
def spin_unlock(m, cpu, lock, i, lock_class):
    """Release lock[i]. Locking: caller must hold it."""
    owner = data_race(lock, i)  # a CPU that tries to take it changes nothing while it is ours
    if owner != cpu + 1:
        BUG(m, cpu, BUG_UNLOCK, i, cpu + 1, owner)
    lock_release(m, cpu, lock_class)
    smp_store_release(lock, i, 0)  # pairs with the cmpxchg in spin_lock


@kernel
def spin_lock_pair(m, cpu, lock, i, j, lock_class):
    """Take two locks of a class, which may be one: in the order of their numbers, so that no two CPUs do it crosswise.

    Locking: returns with both held. Lockdep is told of the first only, as with SINGLE_DEPTH_NESTING.
    """
    spin_lock(m, cpu, lock, min(i, j), lock_class)
    if i != j and cmpxchg(lock, max(i, j), 0, cpu + 1) != 0:
        spin_lock_slow(m, cpu, lock, max(i, j), lock_class)


@kernel
def spin_unlock_pair(m, cpu, lock, i, j, lock_class):
    """Release the locks of spin_lock_pair. Locking: caller must hold both."""
    if i != j:
        owner = data_race(lock, max(i, j))
        if owner != cpu + 1:
            BUG(m, cpu, BUG_UNLOCK, max(i, j), cpu + 1, owner)
        smp_store_release(lock, max(i, j), 0)  # pairs with the cmpxchg in spin_lock_pair
    spin_unlock(m, cpu, lock, min(i, j), lock_class)


@kernel
def pmd_lock(m, cpu, entry):
    """Take the ptl of the upper table that `entry` stands in, a pmd or a pud. Locking: returns with it held."""
    spin_lock(m, cpu, m.ptdesc.ptl, ptl_of(m, table_of(entry)), PMD_LOCK)


@kernel
def pmd_trylock(m, cpu, entry):
    """Take pmd_lock if it is free; True if so."""
    return spin_trylock(m, cpu, m.ptdesc.ptl, ptl_of(m, table_of(entry)), PMD_LOCK)


@kernel
def pmd_unlock(m, cpu, entry):
    """Release pmd_lock. Locking: caller must hold it."""
    spin_unlock(m, cpu, m.ptdesc.ptl, ptl_of(m, table_of(entry)), PMD_LOCK)


@kernel
def pmd_lock_pair(m, cpu, entry, other):
    """Take pmd_lock of two entries, which may stand in one table. Locking: as spin_lock_pair."""
    spin_lock_pair(m, cpu, m.ptdesc.ptl, ptl_of(m, table_of(entry)), ptl_of(m, table_of(other)), PMD_LOCK)


@kernel
def pmd_unlock_pair(m, cpu, entry, other):
    """Release the locks of pmd_lock_pair. Locking: caller must hold both."""
    spin_unlock_pair(m, cpu, m.ptdesc.ptl, ptl_of(m, table_of(entry)), ptl_of(m, table_of(other)), PMD_LOCK)
