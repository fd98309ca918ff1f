"""mseal: what is mapped stays as it is: no munmap, mmap, mremap or mprotect there, and no advice that loses pages.

Source: mm/mseal.c; can_modify_mm and can_madvise_modify.
"""

from emulator.atomic import kernel
from emulator.locking.mmap_lock import mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import find_vma, vma_modify_flags
from emulator.pgtable import range_end
from emulator.pgtable_types import PAGE
from emulator.uapi import (
    EINVAL,
    ENOMEM,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    VM_SEALED,
    VM_SHARED,
    VM_WRITE,
)


@kernel
def any_sealed(m, mm, start, end):
    """True if a VMA of [start, end) is sealed. Locking: caller must hold mmap_lock."""
    row = find_vma(m, mm, start)
    while row != 0 and m.vma.start[row] < end:
        if m.vma.flags[row] & VM_SEALED:
            return True
        row = m.vma.next[row]
    return False


@kernel
def madvise_loses(advice):
    """True for advice that loses what pages hold."""
    return (
        advice in (MADV_FREE, MADV_DONTNEED, MADV_DONTNEED_LOCKED)
        or advice in (MADV_REMOVE, MADV_DONTFORK)
        or advice in (MADV_WIPEONFORK, MADV_GUARD_INSTALL)
    )


@kernel
def can_madvise_modify(m, row, advice):
    """False if the seal of the VMA at `row` forbids the advice: it loses anonymous pages that nobody may write."""
    flags = m.vma.flags[row]
    if flags & VM_SEALED == 0 or flags & (VM_SHARED | VM_WRITE) != 0 or m.vma.file[row] != 0:
        return True
    return not madvise_loses(advice)


@kernel
def do_mseal(m, cpu, mm, start, length):
    """mseal(2): 0 or -errno; nothing is sealed where something is not mapped.

    Locking: takes and releases mmap_lock for writing.
    """
    end = range_end(start, length)
    if start & (PAGE - 1) or end < start:
        return -EINVAL
    mmap_write_lock(m, cpu, mm)
    at, error = start, 0
    while at < end and error == 0:
        row = find_vma(m, mm, at)
        error = -ENOMEM if row == 0 or m.vma.start[row] > at else 0
        at = m.vma.end[row] if error == 0 else end
    at = start
    while at < end and error == 0:
        row = find_vma(m, mm, at)
        until = min(m.vma.end[row], end)
        error = min(0, vma_modify_flags(m, cpu, mm, row, at, until, m.vma.flags[row] | VM_SEALED))
        at = until
    mmap_write_unlock(m, cpu, mm)
    return error
