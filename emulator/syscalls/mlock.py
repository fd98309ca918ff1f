"""mlock, munlock, mlockall: a flag of the VMA, and all pages there. MADV_DONTNEED and MADV_FREE leave such VMAs alone.

Source: mm/mlock.c.
"""

from emulator.atomic import kernel, kernel_inline
from emulator.huge.huge_memory import vma_adjust_trans_huge
from emulator.locking.mmap_lock import mmap_read_unlock, mmap_write_downgrade, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import find_vma, vma_lookup, vma_modify_flags
from emulator.pgtable_types import PAGE, TASK_SIZE
from emulator.uapi import (
    EAGAIN,
    EFAULT,
    EINVAL,
    ENOMEM,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_PFNMAP,
)
from emulator.walks.gup import mm_populate
from emulator.watch.lockdep import mmap_assert_write_locked


@kernel
def apply_vma_lock_flags(m, cpu, mm, start, end, locked):
    """Set or clear VM_LOCKED of [start, end): 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    while start < end:
        row = vma_lookup(m, mm, start)
        if row == 0:
            return -ENOMEM
        until = min(m.vma.end[row], end)
        flags = m.vma.flags[row] & ~VM_LOCKED_MASK | locked
        if flags != m.vma.flags[row] and not flags & (VM_PFNMAP | VM_HUGETLB | VM_DROPPABLE):
            vma_adjust_trans_huge(m, cpu, mm, start, until)
            if vma_modify_flags(m, cpu, mm, row, start, until, flags) < 0:
                return -ENOMEM
        start = until
    return 0


@kernel_inline
def lock_flags(how):
    """The VMA flags of mlock2(2) if `how` is 2 (MLOCK_ONFAULT), of mlock(2) if it is 1, of munlock(2) if it is 0."""
    if how == 2:
        return VM_LOCKED | VM_LOCKONFAULT
    return VM_LOCKED if how else 0


@kernel
def do_mlock(m, cpu, mm, start, length, locked):
    """mlock(2) and mlock2(2) with the flags `locked`, munlock(2) if they are 0: 0 or -errno.

    A length that wraps to nothing is nothing. Linux drops mmap_lock before it populates; here it is kept for reading,
    but for what waits for a page. Locking: takes and releases mmap_lock.
    """
    length = (length + (start & (PAGE - 1)) + PAGE - 1) & -PAGE
    start &= -PAGE
    if length < 0 and start + length >= 0:
        return -EINVAL
    end = start + length if 0 <= length <= TASK_SIZE else TASK_SIZE
    if length == 0:
        return 0
    mmap_write_lock(m, cpu, mm)
    error = apply_vma_lock_flags(m, cpu, mm, start, end, locked)
    if error != 0 or locked == 0:
        mmap_write_unlock(m, cpu, mm)
        return error
    mmap_write_downgrade(m, cpu, mm)
    error = mm_populate(m, cpu, mm, start, end)
    mmap_read_unlock(m, cpu, mm)
    if error == -EFAULT:
        return -ENOMEM
    return -EAGAIN if error == -ENOMEM else error


@kernel
def lock_everything(m, cpu, mm, locked):
    """Give every VMA the lock flags `locked`. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    at = 0
    row = find_vma(m, mm, at)
    while row != 0:
        at = m.vma.end[row]
        apply_vma_lock_flags(m, cpu, mm, m.vma.start[row], at, locked)
        row = find_vma(m, mm, at)


@kernel
def do_mlockall(m, cpu, mm, how):
    """mlockall(2) with MCL_* flags, munlockall(2) if `how` is 0: 0 or -EINVAL. What cannot be locked is passed over.

    Locking: takes and releases mmap_lock.
    """
    if how & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or how == MCL_ONFAULT:
        return -EINVAL
    locked = 0
    if how != 0:
        locked = VM_LOCKED | VM_LOCKONFAULT if how & MCL_ONFAULT else VM_LOCKED
    mmap_write_lock(m, cpu, mm)
    m.mm.def_flags[mm] = locked if how & MCL_FUTURE else 0
    if how == 0 or how & MCL_CURRENT:
        lock_everything(m, cpu, mm, locked)
    mmap_write_downgrade(m, cpu, mm)
    at = 0
    while how & MCL_CURRENT and at < TASK_SIZE:
        row = find_vma(m, mm, at)
        if row == 0:
            break
        at = m.vma.end[row]
        mm_populate(m, cpu, mm, m.vma.start[row], at)
    mmap_read_unlock(m, cpu, mm)
    return 0
