"""Per-VMA locks, a setting (vma_locks): faults and MADV_DONTNEED read-lock one VMA in place of mmap_lock.

    holder of a VMA's lock                  holder of mmap_lock for writing
    ======================                  ===============================
    mmap_lock for reading, for a moment     mmap_lock
      finds the VMA, lock_readers += 1      vma_start_write(): waits until lock_readers == 0
    drops mmap_lock                         changes the VMA
    works on the VMA's pages
    lock_readers -= 1 (full barrier)        lets mmap_lock go
      a writer waits?  wakes it

A holder of mmap_lock that does not write-lock the VMA runs beside those readers: so does khugepaged until it says
otherwise. Linux finds the VMA under RCU, which spares mmap_lock's cache line; the exclusion is the same.
Every other writer locks all VMAs of its mm: it may change any of them.

Source: lock_vma_under_rcu and __vma_start_write, mm/mmap_lock.c, since 6.4; MADV_DONTNEED: a6fde7add78d.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    kernel,
    kernel_inline,
    read_once,
    smp_load_acquire,
    smp_mb,
    smp_mb__after_atomic,
    smp_mb__before_atomic,
)
from emulator.bug import waits_for
from emulator.locking.mmap_lock import (
    MMAP_LOCK,
    WAIT_NOTHING,
    mmap_lock_wait,
    mmap_lock_wake,
    mmap_read_unlock,
    mmap_write_lock_only,
    mmap_write_trylock_only,
    mmap_write_unlock,
)
from emulator.watch.lockdep import lock_acquired, lock_release, mmap_assert_locked, mmap_assert_write_locked


@kernel_inline
def vma_locks(m):
    """True on a machine with per-VMA locks."""
    return DEBUG and m.config.vma_locks[0] != 0


@kernel
def vma_start_read(m, cpu, mm, row):
    """Read-lock the VMA at `row`, and let mmap_lock go. Locking: caller must hold mmap_lock for reading."""
    mmap_assert_locked(m, cpu, mm)
    atomic_add(m.vma.lock_readers, row, 1)
    m.cpu.vma_lock_held[cpu] = row
    mmap_read_unlock(m, cpu, mm)
    lock_acquired(m, cpu, MMAP_LOCK)  # its place in the lock order


@kernel
def vma_end_read(m, cpu, mm):
    """Drop the lock of the VMA that this CPU holds. A writer may be waiting for that."""
    row = m.cpu.vma_lock_held[cpu]
    lock_release(m, cpu, MMAP_LOCK)
    m.cpu.vma_lock_held[cpu] = 0
    smp_mb__before_atomic()  # pairs with smp_mb in vma_start_write
    atomic_add(m.vma.lock_readers, row, -1)
    smp_mb__after_atomic()  # as in mmap_put_reader: the writer sees the count, or is seen
    if read_once(m.mm.mmap_writer, mm) != 0:
        mmap_lock_wake(m, mm)


@kernel
def vma_start_write(m, cpu, mm, row):
    """Wait until nobody holds the lock of the VMA at `row`. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    if not vma_locks(m):
        return
    waits_for(m, cpu, MMAP_LOCK, mm)
    while True:
        seq = smp_load_acquire(m.mm.mmap_lock_seq, mm)
        if read_once(m.vma.lock_readers, row) == 0:
            break
        mmap_lock_wait(m, cpu, mm, seq)
    smp_mb()  # what the reader did comes first; pairs with the barrier in vma_end_read
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def mmap_write_lock(m, cpu, mm):
    """Take mmap_lock for writing, and the locks of all VMAs of the mm. Locking: returns with them held."""
    mmap_write_lock_only(m, cpu, mm)
    if vma_locks(m):
        row = m.mm.first_vma[mm]
        while row != 0:
            vma_start_write(m, cpu, mm, row)
            row = m.vma.next[row]


@kernel
def mmap_write_trylock(m, cpu, mm):
    """Take mmap_lock for writing, and the locks of all VMAs of the mm, if nobody holds one; True if so."""
    if not mmap_write_trylock_only(m, cpu, mm):
        return False
    if vma_locks(m):
        row = m.mm.first_vma[mm]
        while row != 0:
            if read_once(m.vma.lock_readers, row) != 0:
                mmap_write_unlock(m, cpu, mm)
                return False
            row = m.vma.next[row]
        smp_mb()  # as in vma_start_write
    return True


@kernel_inline
def release_fault_lock(m, cpu, mm):
    """Drop the lock that a fault holds: of its VMA, or mmap_lock."""
    if vma_locks(m) and m.cpu.vma_lock_held[cpu] != 0:
        vma_end_read(m, cpu, mm)
    else:
        mmap_read_unlock(m, cpu, mm)
