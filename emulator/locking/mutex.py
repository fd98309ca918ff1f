"""Sleeping locks: page locks, the inode lock and the i_mmap_lock of each file, the anon_vma lock of each family of mms.

They are rows of `m.mutex`: page locks first, in the order of `m.cache`, then inode locks, i_mmap_locks, and anon_vma
locks. The last two i_mmap_locks are those of the device's file and of hugetlbfs. A CPU that waits sleeps and is idle;
so it may hold mmap_lock, references and an open gather, but no spinlock. What a waiter sleeps on is a word that counts
releases, and the end of a page's write-back as well. A waiter for either looks again. The first sleeper is the next to
get the lock (handoff), or a CPU that takes it over and over would keep it.
"""

from emulator.atomic import (
    cmpxchg,
    data_race,
    kernel,
    kernel_inline,
    read_once,
    smp_load_acquire,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, waits_for
from emulator.cpu.idle import wait_idle
from emulator.cpu.wait import wake_up
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lock_acquire, lock_acquired, lock_release, might_sleep
from emulator.watch.waits import Wait

BUG_UNLOCK = int(Bug.UNLOCK_NOT_OWNER)
WAIT_NOTHING = int(Wait.NOTHING)
I_MMAP_LOCK = int(Wait.I_MMAP_LOCK)
ANON_VMA_LOCK = int(Wait.ANON_VMA_LOCK)


@kernel
def mutex_sleep(m, cpu, i, seq):
    """Sleep until somebody wakes the waiters of row `i` after `seq` was read; idle meanwhile."""
    wait_idle(m, cpu, m.mutex.seq, m.mutex.sleepers, i, seq)


@kernel
def mutex_wake(m, i):
    """Let the waiters of row `i` look again."""
    wake_up(m, m.mutex.seq, m.mutex.sleepers, i)


@kernel_inline
def mutex_take(m, cpu, i):
    """Take row `i` if it is free and promised to nobody else; True if so."""
    waiter = read_once(m.mutex.waiter, i)
    return (waiter == 0 or waiter == cpu + 1) and cmpxchg(m.mutex.owner, i, 0, cpu + 1) == 0


@kernel
def mutex_lock(m, cpu, i, lock_class):
    """Take row `i`. Locking: caller must hold no spinlock; returns with it held."""
    might_sleep(m, cpu)
    lock_acquire(m, cpu, lock_class, i)
    if mutex_take(m, cpu, i):
        return
    waits_for(m, cpu, lock_class, i)
    while True:
        seq = smp_load_acquire(m.mutex.seq, i)
        cmpxchg(m.mutex.waiter, i, 0, cpu + 1)
        if mutex_take(m, cpu, i):
            break
        mutex_sleep(m, cpu, i, seq)
    if read_once(m.mutex.waiter, i) == cpu + 1:
        write_once(m.mutex.waiter, i, 0)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def mutex_trylock(m, cpu, i, lock_class):
    """Take row `i` if it is free; True if so. Under a spinlock, too."""
    if not mutex_take(m, cpu, i):
        return False
    lock_acquired(m, cpu, lock_class)
    return True


@kernel
def mutex_unlock(m, cpu, i, lock_class):
    """Release row `i`. Locking: caller must hold it."""
    owner = data_race(m.mutex.owner, i)  # of ours only a look at a lock that is not held could be wrong
    if owner != cpu + 1:
        BUG(m, cpu, BUG_UNLOCK, i, cpu + 1, owner)
    lock_release(m, cpu, lock_class)
    smp_store_release(m.mutex.owner, i, 0)  # pairs with the cmpxchg in mutex_lock and mutex_trylock
    mutex_wake(m, i)


@kernel
def mutex_wait(m, cpu, i, lock_class):
    """Wait until the holder of row `i` has released it, without taking it: another may be first."""
    seq = smp_load_acquire(m.mutex.seq, i)
    waits_for(m, cpu, lock_class, i)
    while read_once(m.mutex.owner, i) != 0 and read_once(m.mutex.seq, i) == seq:
        mutex_sleep(m, cpu, i, seq)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def i_mmap_row(m, file):
    """The row of a file's i_mmap_lock; the device's file is number config.n_file, that of hugetlbfs the next."""
    return m.config.n_slot[0] + m.config.n_file[0] + file


@kernel
def i_mmap_lock(m, cpu, file):
    """Keep the mappings of a file as they are, with their tables. Locking: caller must hold no spinlock."""
    might_sleep(m, cpu)
    mutex_lock(m, cpu, i_mmap_row(m, file), I_MMAP_LOCK)


@kernel
def i_mmap_unlock(m, cpu, file):
    """Release i_mmap_lock."""
    mutex_unlock(m, cpu, i_mmap_row(m, file), I_MMAP_LOCK)


@kernel_inline
def anon_vma_row(m, family):
    """The row of the anon_vma lock of a family."""
    return i_mmap_row(m, m.config.n_file[0] + 2) + family


@kernel
def anon_vma_lock(m, cpu, family):
    """Keep the VMA arrays of a family of mms, and so the upper tables of what they map.

    Locking: caller must hold no spinlock. A CPU that changes an array holds mmap_lock as well, a walker this lock
    alone.
    """
    might_sleep(m, cpu)
    mutex_lock(m, cpu, anon_vma_row(m, family), ANON_VMA_LOCK)


@kernel
def anon_vma_unlock(m, cpu, family):
    """Release the anon_vma lock."""
    mutex_unlock(m, cpu, anon_vma_row(m, family), ANON_VMA_LOCK)
