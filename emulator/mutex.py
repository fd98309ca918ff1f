"""Sleeping locks: the page lock of each page of a file, and the inode lock of each file.

They are rows of `m.mutex`: page locks first, in the order of `m.cache`, then a row per file. A CPU that waits sleeps
and is idle; so it may hold mmap_lock and references, but no spinlock. What a waiter sleeps on is a word that counts
releases, and the end of a page's write-back as well: whoever waits for either looks again.
"""

from emulator.atomic import (
    atomic_add,
    cmpxchg,
    kernel,
    kernel_inline,
    read_once,
    sleep_on,
    smp_load_acquire,
    smp_store_release,
    wake_all,
)
from emulator.bugs import Bug
from emulator.kernel import BUG, Wait, number, waits_for
from emulator.lockdep import lock_acquire, lock_acquired, lock_release
from emulator.tlb import enter_idle, exit_idle

BUG_UNLOCK, WAIT_NOTHING = number(Bug.UNLOCK_NOT_OWNER), number(Wait.NOTHING)
NAP_US = 2000


@kernel
def mutex_sleep(m, cpu, i, seq):
    """Sleep until somebody wakes the waiters of row `i` after `seq` was read; idle meanwhile."""
    enter_idle(m, cpu)
    atomic_add(m.mutex.sleepers, i, 1)
    if read_once(m.mutex.seq, i) == seq:
        m.cpu.sleeps[cpu] += 1
        sleep_on(m, cpu, m.mutex.seq, i, seq, NAP_US)
    atomic_add(m.mutex.sleepers, i, -1)
    exit_idle(m, cpu)


@kernel
def mutex_wake(m, i):
    """Let the waiters of row `i` look again."""
    atomic_add(m.mutex.seq, i, 1)
    if read_once(m.mutex.sleepers, i) != 0:
        wake_all(m, m.mutex.seq, i)


@kernel
def mutex_lock(m, cpu, i, lock_class):
    """Take row `i`. Locking: caller must hold no spinlock; returns with it held."""
    lock_acquire(m, cpu, lock_class, i)
    if cmpxchg(m.mutex.owner, i, 0, cpu + 1) == 0:
        return
    waits_for(m, cpu, lock_class, i)
    while True:
        seq = smp_load_acquire(m.mutex.seq, i)
        if cmpxchg(m.mutex.owner, i, 0, cpu + 1) == 0:
            break
        mutex_sleep(m, cpu, i, seq)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def mutex_trylock(m, cpu, i, lock_class):
    """Take row `i` if it is free; True if so. Under a spinlock, too."""
    if cmpxchg(m.mutex.owner, i, 0, cpu + 1) != 0:
        return False
    lock_acquired(m, cpu, lock_class)
    return True


@kernel
def mutex_unlock(m, cpu, i, lock_class):
    """Release row `i`. Locking: caller must hold it."""
    if m.mutex.owner[i] != cpu + 1:
        BUG(m, cpu, BUG_UNLOCK, i, cpu + 1, m.mutex.owner[i])
    lock_release(m, cpu, lock_class)
    smp_store_release(m.mutex.owner, i, 0)  # pairs with the cmpxchg in mutex_lock and mutex_trylock
    mutex_wake(m, i)


@kernel
def mutex_wait(m, cpu, i, lock_class):
    """Wait until row `i` is free, without taking it: whoever takes it next may be first."""
    waits_for(m, cpu, lock_class, i)
    while True:
        seq = smp_load_acquire(m.mutex.seq, i)
        if read_once(m.mutex.owner, i) == 0:
            break
        mutex_sleep(m, cpu, i, seq)
    waits_for(m, cpu, WAIT_NOTHING, 0)
