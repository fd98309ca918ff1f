"""UFFDIO_REGISTER, UNREGISTER and WRITEPROTECT: which memory is for userfaultfd, and which stores.

Source: fs/userfaultfd.c; mwriteprotect_range, mm/userfaultfd.c.
"""

from emulator.atomic import kernel, write_once
from emulator.fault.userfaultfd import wake_userfault
from emulator.huge.huge_memory import vma_adjust_trans_huge
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import find_vma, vma_modify_flags
from emulator.pgtable_types import PAGE
from emulator.uapi import EINVAL, ENOENT, ENOMEM, VM_DROPPABLE, VM_PFNMAP, VM_UFFD, VM_UFFD_WP
from emulator.walks.uffd_wp import uffd_wp_range
from emulator.watch.lockdep import mmap_assert_write_locked


@kernel
def vma_can_userfault(m, mm, start, end, armed):
    """True if something is mapped in [start, end), and all of it is anonymous, or nothing is to be watched from now on.

    Locking: caller must hold mmap_lock.
    """
    row = find_vma(m, mm, start)
    if row == 0 or m.vma.start[row] >= end:
        return False
    while row != 0 and m.vma.start[row] < end:
        if (armed and m.vma.file[row] != 0) or m.vma.flags[row] & (VM_PFNMAP | VM_DROPPABLE):
            return False
        row = m.vma.next[row]
    return True


@kernel
def userfaultfd_modify(m, cpu, mm, start, end, armed):
    """Arm or disarm the VMAs of [start, end): 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    while start < end:
        row = find_vma(m, mm, start)
        if row == 0 or m.vma.start[row] >= end:
            break
        start, until = max(start, m.vma.start[row]), min(m.vma.end[row], end)
        before = m.vma.flags[row]
        flags = before & ~VM_UFFD | armed
        if flags != before and not (armed and before & armed == armed):
            if not armed and before & VM_UFFD_WP:
                uffd_wp_range(m, cpu, mm, row, start, until, False)
            vma_adjust_trans_huge(m, cpu, mm, start, until)
            if vma_modify_flags(m, cpu, mm, row, start, until, flags) < 0:
                return -ENOMEM
        start = until
    return 0


@kernel
def userfaultfd_register(m, cpu, mm, start, length, armed, patience):
    """UFFDIO_REGISTER for what the VM_UFFD flags `armed` say, UFFDIO_UNREGISTER if that is 0: 0 or -errno.

    Linux watches shared memory and huge pages as well. Locking: takes and releases mmap_lock for writing.
    """
    if (start | length) & (PAGE - 1) or length <= 0 or patience < 0:
        return -EINVAL
    result = -EINVAL
    mmap_write_lock(m, cpu, mm)
    if vma_can_userfault(m, mm, start, start + length, armed):
        if armed:
            write_once(m.mm.uffd_patience, mm, patience)
        result = userfaultfd_modify(m, cpu, mm, start, start + length, armed)
    mmap_write_unlock(m, cpu, mm)
    if armed == 0:
        wake_userfault(m, cpu, mm)
    return result


@kernel
def userfaultfd_writeprotect(m, cpu, mm, start, length, enable):
    """UFFDIO_WRITEPROTECT: 0 or -errno; a waiter looks again. Holes are passed over.

    Locking: takes and releases mmap_lock for reading. Source: mwriteprotect_range, mm/userfaultfd.c.
    """
    end = start + length
    if (start | length) & (PAGE - 1) or length <= 0:
        return -EINVAL
    result = -ENOENT
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    while row != 0 and m.vma.start[row] < end:
        result = -ENOENT
        if m.vma.flags[row] & VM_UFFD_WP:
            first, until = max(start, m.vma.start[row]), min(end, m.vma.end[row])
            result = uffd_wp_range(m, cpu, mm, row, first, until, enable)
        row = m.vma.next[row] if result == 0 else 0
    mmap_read_unlock(m, cpu, mm)
    if not enable:
        wake_userfault(m, cpu, mm)
    return result
