"""mmap_lock, the reader-writer lock of an mm. A CPU that waits for it sleeps and is idle.

It is two words, so that readers need not look at each other. A reader and a writer cannot miss each other, by
the store-buffer (Dekker) pattern:

    reader (mmap_get_reader)             writer (mmap_write_lock_only)
    ========================             =============================
    mmap_readers += 1                    mmap_writer: 0 -> its number + 1
    full barrier                         full barrier (cmpxchg)
    mmap_writer == 0?  then it holds it  mmap_readers == 0?  then it holds it
    else mmap_readers -= 1, and waits    else waits until it is
      until mmap_writer == 0

If both see each other the reader backs out: a writer waits for those that are in, and each later reader comes once.

A CPU that has to wait sleeps on mmap_lock_seq, which each release counts up (cpu/wait.py). A reader that leaves does
nothing of this unless it sees a writer after its decrement and a full barrier. A writer that counted it had set
mmap_writer before it looked, so it is seen.
"""

from emulator.atomic import (
    atomic_add,
    cmpxchg,
    kernel,
    kernel_inline,
    read_once,
    smp_load_acquire,
    smp_mb,
    smp_mb__after_atomic,
    smp_mb__before_atomic,
    smp_store_release,
)
from emulator.bug import BUG, waits_for
from emulator.cpu.idle import wait_idle
from emulator.cpu.wait import wake_up
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lock_acquire, lock_acquired, lock_release
from emulator.watch.waits import Wait

BUG_UNLOCK = int(Bug.UNLOCK_NOT_OWNER)
MMAP_LOCK = int(Wait.MMAP_LOCK)
WAIT_NOTHING = int(Wait.NOTHING)


@kernel
def mmap_lock_wait(m, cpu, mm, seq):
    """Sleep until somebody releases mmap_lock after `seq` was read; idle meanwhile."""
    wait_idle(m, cpu, m.mm.mmap_lock_seq, m.mm.mmap_lock_sleepers, mm, seq)


@kernel
def mmap_lock_wake(m, mm):
    """Let the waiters of mmap_lock look again."""
    wake_up(m, m.mm.mmap_lock_seq, m.mm.mmap_lock_sleepers, mm)


@kernel_inline
def mmap_get_reader(m, mm):
    """Count a reader; True if there was no writer, so that it holds the lock."""
    atomic_add(m.mm.mmap_readers, mm, 1)
    smp_mb__after_atomic()
    return smp_load_acquire(m.mm.mmap_writer, mm) == 0  # pairs with the releases of mmap_writer


@kernel_inline
def mmap_put_reader(m, mm):
    """Count a reader less; a writer may be waiting for that."""
    smp_mb__before_atomic()  # pairs with smp_mb in mmap_write_lock_only
    atomic_add(m.mm.mmap_readers, mm, -1)
    smp_mb__after_atomic()
    if read_once(m.mm.mmap_writer, mm) != 0:
        mmap_lock_wake(m, mm)


@kernel
def mmap_read_lock_slow(m, cpu, mm):
    """Take back the reader that met a writer, and wait for the writer to leave."""
    waits_for(m, cpu, MMAP_LOCK, mm)
    while True:
        mmap_put_reader(m, mm)
        while True:
            seq = smp_load_acquire(m.mm.mmap_lock_seq, mm)
            if read_once(m.mm.mmap_writer, mm) == 0:
                break
            mmap_lock_wait(m, cpu, mm, seq)
        if mmap_get_reader(m, mm):
            waits_for(m, cpu, WAIT_NOTHING, 0)
            return


@kernel_inline
def mmap_read_lock(m, cpu, mm):
    """Take mmap_lock for reading: the VMAs stay as they are. Locking: returns with it held."""
    lock_acquire(m, cpu, MMAP_LOCK, mm)
    if not mmap_get_reader(m, mm):
        mmap_read_lock_slow(m, cpu, mm)
    m.cpu.mmap_lock_held[cpu] = 2 * mm + 1


@kernel
def mmap_read_trylock(m, cpu, mm):
    """Take mmap_lock for reading unless a writer has it or waits for it; True if so. Locking: returns True with it."""
    if not mmap_get_reader(m, mm):
        mmap_put_reader(m, mm)
        return False
    lock_acquired(m, cpu, MMAP_LOCK)
    m.cpu.mmap_lock_held[cpu] = 2 * mm + 1
    return True


@kernel_inline
def mmap_read_unlock(m, cpu, mm):
    """Release mmap_lock. Locking: caller must hold it for reading."""
    if m.cpu.mmap_lock_held[cpu] != 2 * mm + 1:
        BUG(m, cpu, BUG_UNLOCK, mm, 2 * mm + 1, m.cpu.mmap_lock_held[cpu])
    lock_release(m, cpu, MMAP_LOCK)
    m.cpu.mmap_lock_held[cpu] = 0
    mmap_put_reader(m, mm)


@kernel
def mmap_write_lock_only(m, cpu, mm):
    """Take mmap_lock for writing, but no VMA's own lock (vma_lock.py). Locking: returns with it held."""
    lock_acquire(m, cpu, MMAP_LOCK, mm)
    waits_for(m, cpu, MMAP_LOCK, mm)
    while True:
        seq = smp_load_acquire(m.mm.mmap_lock_seq, mm)
        if cmpxchg(m.mm.mmap_writer, mm, 0, cpu + 1) == 0:
            break
        mmap_lock_wait(m, cpu, mm, seq)
    while True:
        seq = smp_load_acquire(m.mm.mmap_lock_seq, mm)
        if read_once(m.mm.mmap_readers, mm) == 0:
            break
        mmap_lock_wait(m, cpu, mm, seq)
    smp_mb()  # what the readers did comes first; pairs with the barrier in mmap_put_reader
    waits_for(m, cpu, WAIT_NOTHING, 0)
    m.cpu.mmap_lock_held[cpu] = 2 * mm + 2


@kernel
def mmap_write_trylock_only(m, cpu, mm):
    """Take mmap_lock for writing if nobody holds it; True if so. Under i_mmap_lock, too, which comes after it."""
    if cmpxchg(m.mm.mmap_writer, mm, 0, cpu + 1) != 0:
        return False
    if read_once(m.mm.mmap_readers, mm) != 0:
        smp_store_release(m.mm.mmap_writer, mm, 0)
        mmap_lock_wake(m, mm)
        return False
    smp_mb()  # as in mmap_write_lock_only
    lock_acquired(m, cpu, MMAP_LOCK)
    m.cpu.mmap_lock_held[cpu] = 2 * mm + 2
    return True


@kernel
def mmap_write_lock_nested(m, cpu, mm):
    """Take mmap_lock of a child that fork has just begun, beside the parent's: nobody else has it, or waits for it yet.

    A walk that comes to the child by i_mmap or its family finds it held until fork is done. Lockdep is told of the
    parent's only, as with SINGLE_DEPTH_NESTING.
    """
    cmpxchg(m.mm.mmap_writer, mm, 0, cpu + 1)


@kernel
def mmap_write_unlock_nested(m, mm):
    """Release the child's mmap_lock."""
    smp_store_release(m.mm.mmap_writer, mm, 0)
    mmap_lock_wake(m, mm)


@kernel
def mmap_write_unlock(m, cpu, mm):
    """Release mmap_lock. Locking: caller must hold it for writing."""
    if m.cpu.mmap_lock_held[cpu] != 2 * mm + 2:
        BUG(m, cpu, BUG_UNLOCK, mm, 2 * mm + 2, m.cpu.mmap_lock_held[cpu])
    lock_release(m, cpu, MMAP_LOCK)
    m.cpu.mmap_lock_held[cpu] = 0
    smp_store_release(m.mm.mmap_writer, mm, 0)
    mmap_lock_wake(m, mm)


@kernel
def mmap_write_downgrade(m, cpu, mm):
    """Turn mmap_lock held for writing into one held for reading.

    Locking: caller must hold it for writing. Source: dd2283f2605e, munmap zaps under mmap_lock for reading.
    """
    atomic_add(m.mm.mmap_readers, mm, 1)  # before the release: no writer may come in between
    smp_store_release(m.mm.mmap_writer, mm, 0)
    m.cpu.mmap_lock_held[cpu] = 2 * mm + 1
    mmap_lock_wake(m, mm)
