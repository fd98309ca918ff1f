"""Reader-writer spinlocks: a word that counts its readers, or is -(owner + 1) of its writer.

A CPU that waits takes interrupts meanwhile, as with a spinlock. Nobody goes first: a writer waits until no reader is
in.
Source: qrwlock, kernel/locking/qrwlock.c, without its queue.
"""

from emulator.atomic import (
    atomic_add_return,
    cmpxchg,
    cpu_relax,
    kernel,
    kernel_inline,
    read_once,
    sched_yield,
    smp_store_release,
)
from emulator.bug import BUG, waits_for
from emulator.cpu.interrupts import take_interrupts
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lock_acquire, lock_release
from emulator.watch.waits import Wait

BUG_UNLOCK = int(Bug.UNLOCK_NOT_OWNER)
WAIT_NOTHING = int(Wait.NOTHING)
_YIELD = 200  # turns before a waiter yields


@kernel_inline
def try_read(lock, i):
    """Be one more reader of lock[i], unless somebody writes; True if so."""
    readers = read_once(lock, i)
    return readers >= 0 and cmpxchg(lock, i, readers, readers + 1) == readers


@kernel_inline
def try_write(cpu, lock, i):
    """Be the writer of lock[i], if nobody is in; True if so."""
    return read_once(lock, i) == 0 and cmpxchg(lock, i, 0, -cpu - 1) == 0


@kernel
def lock_slow(m, cpu, lock, i, lock_class, write):
    """Wait for lock[i]."""
    waits_for(m, cpu, lock_class, i)
    turns = 0
    while not (try_write(cpu, lock, i) if write else try_read(lock, i)):
        take_interrupts(m, cpu)
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        else:
            sched_yield()
    m.cpu.lock_spins[cpu] += turns
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def read_lock(m, cpu, lock, i, lock_class):
    """Take lock[i] of a class beside other readers. Locking: returns with it held."""
    lock_acquire(m, cpu, lock_class, i)
    if not try_read(lock, i):
        lock_slow(m, cpu, lock, i, lock_class, False)


@kernel_inline
def read_unlock(m, cpu, lock, i, lock_class):
    """Release what read_lock has taken."""
    lock_release(m, cpu, lock_class)
    atomic_add_return(lock, i, -1)


@kernel_inline
def write_lock(m, cpu, lock, i, lock_class):
    """Take lock[i] of a class alone. Locking: returns with it held."""
    lock_acquire(m, cpu, lock_class, i)
    if not try_write(cpu, lock, i):
        lock_slow(m, cpu, lock, i, lock_class, True)


@kernel_inline
def write_unlock(m, cpu, lock, i, lock_class):
    """Release what write_lock has taken."""
    owner = read_once(lock, i)
    if owner != -cpu - 1:
        BUG(m, cpu, BUG_UNLOCK, i, -cpu - 1, owner)
    lock_release(m, cpu, lock_class)
    smp_store_release(lock, i, 0)  # pairs with the cmpxchg of the next owner
