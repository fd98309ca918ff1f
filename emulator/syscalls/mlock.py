"""mlock and munlock: a flag of the VMA, and all pages there. MADV_DONTNEED and MADV_FREE leave locked VMAs alone.

Source: mm/mlock.c.
"""

from emulator.atomic import kernel
from emulator.huge.huge_memory import vma_adjust_trans_huge
from emulator.locking.mmap_lock import mmap_read_unlock, mmap_write_downgrade, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import vma_lookup, vma_modify_flags
from emulator.pgtable_types import PAGE
from emulator.uapi import EAGAIN, EFAULT, EINVAL, ENOMEM, VM_HUGETLB, VM_LOCKED, VM_PFNMAP
from emulator.walks.gup import mm_populate
from emulator.watch.lockdep import mmap_assert_write_locked


@kernel
def apply_vma_lock_flags(m, cpu, mm, start, end, locked):
    """Set or clear VM_LOCKED of [start, end): 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    while start < end:
        row = vma_lookup(m, mm, start)
        if row < 0:
            return -ENOMEM
        until = min(m.vma.end[row], end)
        flags = m.vma.flags[row] & ~VM_LOCKED | locked
        if flags != m.vma.flags[row] and not flags & (VM_PFNMAP | VM_HUGETLB):
            vma_adjust_trans_huge(m, cpu, mm, start, until)
            if vma_modify_flags(m, cpu, mm, row, start, until, flags) < 0:
                return -ENOMEM
        start = until
    return 0


@kernel
def do_mlock(m, cpu, mm, start, length, locked):
    """mlock(2) if `locked` is VM_LOCKED, munlock(2) if it is 0: 0 or -errno.

    Linux drops mmap_lock before it populates; here it is kept for reading, but for what waits for a page.
    Locking: takes and releases mmap_lock.
    """
    end = (start + length + PAGE - 1) & -PAGE
    start &= -PAGE
    if length < 0 or end < start:
        return -EINVAL
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
