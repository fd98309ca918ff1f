"""mremap: a VMA goes to another place with its pages, or becomes longer or shorter where it is.

The destination is unmapped first, its VMA entered, the page tables moved (move_page_tables.py), the source unmapped.
It holds mmap_lock for writing all the time, so no CPU faults. The driver's rmap walk can come in at any time, and so
can a walk of the i_mmap of a file. It has the range at both places from before the move until after it.

Several VMAs move together if they keep their sizes. One alone may grow or shrink on its way, and with old size 0 shared
memory gets a second mapping. MREMAP_DONTUNMAP leaves the old VMA, empty.

Source: do_mremap, check_prep_vma, move_vma and copy_vma, mm/mremap.c and mm/vma.c, as of 6.18.
"""

from emulator.atomic import DEBUG, kernel, write_once
from emulator.locking.mmap_lock import mmap_read_unlock, mmap_write_downgrade, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.mm_types import MAX_MAP_COUNT
from emulator.pages.vma import (
    detach_vmas,
    find_vma,
    get_unmapped_area,
    linear_page_index,
    vma_complete,
    vma_dup,
    vma_link,
    vma_lookup,
    vma_merge,
    vma_prepare,
    vmas_lock,
    vmas_short,
    vmas_unlock,
)
from emulator.pgtable_types import PAGE, TASK_SIZE
from emulator.syscalls.device import move_device_vma
from emulator.syscalls.mmap import munmap_locked, unmap_region
from emulator.uapi import (
    EFAULT,
    EINVAL,
    ENOMEM,
    EPERM,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_PFNMAP,
    VM_SEALED,
    VM_SHARED,
    VM_UFFD,
)
from emulator.walks.gup import mm_populate
from emulator.walks.move_page_tables import move_page_tables
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked


@kernel
def copy_vma(m, cpu, mm, row, addr, length, new):
    """Enter a VMA of `length` bytes at `new` like that at `row` from `addr` on.

    An anonymous one without pages belongs wholly to its new place, and userfaultfd does not follow.
    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    file = m.vma.file[row]
    pgoff = linear_page_index(m, row, addr)
    if m.vma.anon_vma[row] == 0 and file == 0:
        pgoff = new // PAGE
    vma_prepare(m, cpu, mm, file)
    at = vma_dup(m, mm, row)
    m.vma.start[at] = new
    m.vma.end[at] = new + length
    m.vma.flags[at] &= ~VM_UFFD
    m.vma.pgoff[at] = pgoff
    vma_link(m, cpu, mm, at)
    vma_merge(m, cpu, mm, at)
    vma_complete(m, cpu, mm, file)
    m.mm.total_vm[mm] += length // PAGE


@kernel
def dontunmap_complete(m, cpu, mm, addr, end):
    """The VMA that was at [addr, end) stays, and has neither pages nor a lock. Locking: as move_vma."""
    row = find_vma(m, mm, addr)
    vmas_lock(m, cpu, mm)
    m.vma.flags[row] &= ~VM_LOCKED_MASK
    if m.vma.start[row] == addr and m.vma.end[row] == end:
        m.vma.anon_vma[row] = 0
    vmas_unlock(m, cpu, mm)


@kernel
def move_vma(m, cpu, mm, row, addr, end, new, new_length, keep):
    """Move [addr, end), which lies in the VMA at `row`, to `new`, where nothing is, and let it have `new_length` bytes:
    `new` or -ENOMEM. With `keep` the VMA stays where it is as well.

    If memory runs out, what was moved goes back. Its old tables may have been freed, so that can fail as well, and what
    is left behind then is unmapped. Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if m.mm.vmas[mm] >= MAX_MAP_COUNT - 3 or vmas_short(m, cpu, mm, 3):
        return -ENOMEM
    device = m.vma.flags[row] & VM_PFNMAP
    watched = m.vma.flags[row] & VM_UFFD != 0
    copy_vma(m, cpu, mm, row, addr, new_length, new)
    if device:
        move_device_vma(m, cpu, mm, addr, new, 0)
    length = end - addr
    moved = move_page_tables(m, cpu, mm, addr, new, length, watched)
    if moved < length:
        move_page_tables(m, cpu, mm, new, addr, moved, watched)
    if device:
        move_device_vma(m, cpu, mm, addr, new, 1 if moved == length else -1)
    if moved < length:
        unmap_region(m, cpu, mm, detach_vmas(m, cpu, mm, new, new + new_length), new, new + new_length)
        return -ENOMEM
    if keep:
        dontunmap_complete(m, cpu, mm, addr, end)
    elif length != 0:
        unmap_region(m, cpu, mm, detach_vmas(m, cpu, mm, addr, end), addr, end)
    return new


@kernel
def check_prep_vma(m, cpu, mm, addr, length, new_length, flags):
    """What keeps [addr, addr + length) from being moved or made `new_length` long: 0 or -errno.

    Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    row = find_vma(m, mm, addr)
    if row == 0 or m.vma.start[row] > addr:
        return -EFAULT
    if m.vma.flags[row] & VM_SEALED:
        return -EPERM
    elsewhere = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    if not elsewhere and new_length <= length:
        return 0
    if m.vma.flags[row] & VM_HUGETLB:
        return -EINVAL  # as before 5.16
    if length == 0 and m.vma.flags[row] & VM_SHARED == 0:
        return -EINVAL
    if flags & MREMAP_DONTUNMAP and m.vma.flags[row] & VM_PFNMAP:
        return -EINVAL
    if min(length, new_length) > m.vma.end[row] - addr:
        return -EFAULT
    return -EFAULT if new_length > length and m.vma.flags[row] & VM_PFNMAP else 0


@kernel
def mremap_to(m, cpu, mm, addr, length, new_length, flags, new):
    """Move a range to `new`, and let it grow or shrink: `new` or -errno. What is there goes first, if that is allowed.

    Locking: caller must hold mmap_lock for writing; check_prep_vma has looked.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if m.mm.vmas[mm] + 2 >= MAX_MAP_COUNT - 3:
        return -ENOMEM
    if flags & MREMAP_FIXED:
        error = munmap_locked(m, cpu, mm, new, new + new_length)
        if error != 0:
            return error
    if not 0 <= length <= TASK_SIZE - addr:
        return -EINVAL
    if new_length < length:
        error = munmap_locked(m, cpu, mm, addr + new_length, addr + length)
        if error != 0:
            return error
        length = new_length
    row = find_vma(m, mm, addr)
    return move_vma(m, cpu, mm, row, addr, addr + length, new, new_length, flags & MREMAP_DONTUNMAP)


@kernel
def remap_move(m, cpu, mm, addr, end, new, flags):
    """Move all VMAs of [addr, end) and the gaps between them: `new` or -errno of the first that failed.

    Locking: caller must hold mmap_lock for writing. Source: remap_move, mm/mremap.c, since 6.17.
    """
    mmap_assert_write_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    if row == 0:
        return -EFAULT
    offset = new - addr
    while addr < end and row != 0 and m.vma.start[row] < end:
        addr = max(addr, m.vma.start[row])
        until = min(m.vma.end[row], end)
        if m.vma.flags[row] & VM_UFFD and (addr + offset != new or until < end):
            return -EFAULT  # such a VMA moves alone, if at all: vma_multi_allowed
        error = check_prep_vma(m, cpu, mm, addr, until - addr, until - addr, flags)
        if error == 0:
            error = min(0, mremap_to(m, cpu, mm, addr, until - addr, until - addr, flags, addr + offset))
        if error != 0:
            return error
        addr = until
        row = find_vma(m, mm, addr)
    return new


@kernel
def expand_vma(m, cpu, mm, row, end, new_end):
    """Let the VMA at `row`, which ends at `end`, end at `new_end`: 0 or -ENOMEM.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if m.vma.end[row] != end or new_end > TASK_SIZE:
        return -ENOMEM
    following = m.vma.next[row]
    if following != 0 and m.vma.start[following] < new_end:
        return -ENOMEM
    file = m.vma.file[row]
    vma_prepare(m, cpu, mm, file)
    m.vma.end[row] = new_end
    vma_merge(m, cpu, mm, row)
    vma_complete(m, cpu, mm, file)
    m.mm.total_vm[mm] += (new_end - end) // PAGE
    return 0


@kernel
def mremap_resize(m, cpu, mm, addr, length, new_length, flags):
    """Shrink or grow where it is, or grow elsewhere if that is allowed: where it is then, or -errno.

    Linux zaps under mmap_lock for reading when it shrinks; here it is kept as it is.
    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if not 0 <= length <= TASK_SIZE - addr:
        return -EINVAL
    if new_length <= length:
        error = munmap_locked(m, cpu, mm, addr + new_length, addr + length) if new_length < length else 0
        return addr if error == 0 else error
    row = find_vma(m, mm, addr)
    if length != 0 and expand_vma(m, cpu, mm, row, addr + length, addr + new_length) == 0:
        return addr
    new = get_unmapped_area(m, mm, new_length) if flags & MREMAP_MAYMOVE else 0
    return move_vma(m, cpu, mm, row, addr, addr + length, new, new_length, 0) if new != 0 else -ENOMEM


@kernel
def mremap_locked(m, cpu, mm, addr, length, new_length, flags, new):
    """mremap(2) of what check_mremap_params let pass: where it is then, or -errno. Locking: as mremap_resize."""
    if flags & MREMAP_FIXED and length == new_length:
        return remap_move(m, cpu, mm, addr, addr + length, new, flags)
    error = check_prep_vma(m, cpu, mm, addr, length, new_length, flags)
    if error != 0:
        return error
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) == 0:
        return mremap_resize(m, cpu, mm, addr, length, new_length, flags)
    if flags & MREMAP_FIXED == 0:
        new = get_unmapped_area(m, mm, new_length)
        if new == 0:
            return -ENOMEM
    return mremap_to(m, cpu, mm, addr, length, new_length, flags, new)


@kernel
def check_mremap_params(addr, length, new_length, flags, new):
    """What is wrong with the operands of mremap(2), whose lengths are whole pages: 0 or -EINVAL."""
    if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) or addr & (PAGE - 1):
        return -EINVAL
    if new_length <= 0 or new_length > TASK_SIZE:
        return -EINVAL
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) == 0:
        return 0
    if new < 0 or new > TASK_SIZE - new_length or new & (PAGE - 1) or flags & MREMAP_MAYMOVE == 0:
        return -EINVAL
    if flags & MREMAP_DONTUNMAP and length != new_length:
        return -EINVAL
    end = addr + length  # of a length beyond 2^63 it is negative
    return -EINVAL if (end > new or end < 0) and new + new_length > addr else 0


@kernel
def do_mremap_call(m, cpu, mm, addr, length, new_length, flags, new):
    """mremap(2) with all its operands: 0 or -errno. What a locked VMA has got more is populated.

    Locking: takes and releases mmap_lock, for writing until it populates.
    """
    length, new_length = (length + PAGE - 1) & -PAGE, (new_length + PAGE - 1) & -PAGE
    error = check_mremap_params(addr, length, new_length, flags, new)
    if error != 0:
        return error
    mmap_write_lock(m, cpu, mm)
    at = mremap_locked(m, cpu, mm, addr, length, new_length, flags, new)
    if DEBUG and at != addr:
        write_once(m.mm.moves, mm, m.mm.moves[mm] + 1)  # for a look, under mmap_lock, whether a page is where it was
    if at >= 0 and 0 <= length < new_length and m.vma.flags[find_vma(m, mm, at)] & VM_LOCKED:
        mmap_write_downgrade(m, cpu, mm)
        mm_populate(m, cpu, mm, at + length, at + new_length)
        mmap_read_unlock(m, cpu, mm)
        return 0
    mmap_write_unlock(m, cpu, mm)
    return min(at, 0)


@kernel
def do_mremap_fixed(m, cpu, mm, addr, length, new):
    """mremap(2) with MREMAP_MAYMOVE | MREMAP_FIXED and the same length: 0 or -errno. Locking: as do_mremap_call."""
    return do_mremap_call(m, cpu, mm, addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, new)


@kernel
def do_mremap(m, cpu, mm, addr, old_length, new_length):
    """mremap(2) in place: shrink, or grow if there is room: 0 or -errno. Locking: as do_mremap_call."""
    return do_mremap_call(m, cpu, mm, addr, old_length, new_length, 0, 0)
