"""mremap: a VMA goes to another place with its pages, or becomes longer or shorter where it is.

The destination is unmapped first, its VMA entered, the page tables moved (move_page_tables.py), the source unmapped;
all with mmap_lock held for writing, so nobody faults meanwhile. The driver's rmap walk can come in at any time, and so
can who walks the i_mmap of a file: it has the range at both places from before the move until after it.

Source: do_mremap, move_vma and copy_vma, mm/mremap.c and mm/vma.c.
"""

from emulator.atomic import DEBUG, kernel, write_once
from emulator.locking.mmap_lock import mmap_read_unlock, mmap_write_downgrade, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.rmap import link_file_vma
from emulator.pages.vma import (
    detach_vmas,
    find_vma,
    linear_page_index,
    vma_insert,
    vma_limit,
    vma_lookup,
    vma_merge,
    vmas_lock,
    vmas_unlock,
)
from emulator.pgtable_types import PAGE, TASK_SIZE
from emulator.syscalls.device import move_device_vma
from emulator.syscalls.mmap import munmap_locked, unmap_region
from emulator.uapi import EFAULT, EINVAL, ENOMEM, VM_HUGETLB, VM_LOCKED, VM_PFNMAP, VM_UFFD_MISSING
from emulator.walks.gup import mm_populate
from emulator.walks.move_page_tables import move_page_tables
from emulator.watch.lockdep import mmap_assert_write_locked


@kernel
def copy_vma(m, cpu, mm, row, addr, end, new):
    """Enter a VMA at `new` like that of [addr, end), which lies in the VMA at `row`, and link it if it maps a file.

    An anonymous one without pages belongs wholly to its new place, and userfaultfd does not follow.
    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    flags, anon_vma, file = m.vma.flags[row] & ~VM_UFFD_MISSING, m.vma.anon_vma[row], m.vma.file[row]
    pgoff = linear_page_index(m, row, addr)
    if anon_vma == 0 and file == 0:
        pgoff = new // PAGE
    at = find_vma(m, mm, new)
    vmas_lock(m, cpu, mm)
    vma_insert(m, mm, at, new, new + end - addr, flags, anon_vma, pgoff)
    m.vma.file[at] = file
    vma_merge(m, mm, at)
    vmas_unlock(m, cpu, mm)
    if file != 0:
        link_file_vma(m, cpu, mm, file - 1, new, new + end - addr, pgoff)
    m.mm.total_vm[mm] += (end - addr) // PAGE


@kernel
def move_vma(m, cpu, mm, row, addr, end, new):
    """Move [addr, end), which lies in the VMA at `row`, to `new`, where nothing is: 0 or -ENOMEM.

    If memory runs out, what was moved goes back; its old tables may have been freed, so that can fail as well, and
    what is left behind then is unmapped. Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if m.mm.vmas[mm] + 3 > m.config.vma_per_mm[0]:
        return -ENOMEM
    device = m.vma.flags[row] & VM_PFNMAP
    copy_vma(m, cpu, mm, row, addr, end, new)
    if device:
        move_device_vma(m, cpu, mm, addr, new, 0)
    length = end - addr
    moved = move_page_tables(m, cpu, mm, addr, new, length)
    if moved < length:
        move_page_tables(m, cpu, mm, new, addr, moved)
    if device:
        move_device_vma(m, cpu, mm, addr, new, 1 if moved == length else -1)
    gone = addr if moved == length else new
    detach_vmas(m, cpu, mm, gone, gone + length)
    unmap_region(m, cpu, mm, gone, gone + length)
    return 0 if moved == length else -ENOMEM


@kernel
def remap_move(m, cpu, mm, addr, end, new):
    """Move all VMAs of [addr, end) and the gaps between them: 0 or -errno of the first that failed.

    Locking: caller must hold mmap_lock for writing. Source: remap_move, mm/mremap.c, since 6.17.
    """
    mmap_assert_write_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    if row < 0:
        return -EFAULT
    offset = new - addr
    while row < vma_limit(m, mm) and m.vma.start[row] < end:
        if m.vma.flags[row] & VM_HUGETLB:
            return -EINVAL  # as before 5.16
        addr = max(addr, m.vma.start[row])
        until = min(m.vma.end[row], end)
        if m.vma.flags[row] & VM_UFFD_MISSING and (addr + offset != new or until < end):
            return -EFAULT  # such a VMA moves alone, if at all: vma_multi_allowed
        error = munmap_locked(m, cpu, mm, addr + offset, until + offset)
        if error == 0:
            error = move_vma(m, cpu, mm, find_vma(m, mm, addr), addr, until, addr + offset)
        if error != 0:
            return error
        addr = until
        row = find_vma(m, mm, addr)
    return 0


@kernel
def do_mremap_fixed(m, cpu, mm, addr, length, new):
    """mremap(2) with MREMAP_MAYMOVE | MREMAP_FIXED and the same length: 0 or -errno.

    Locking: takes and releases mmap_lock for writing.
    """
    length = (length + PAGE - 1) & -PAGE
    if (addr | new) & (PAGE - 1) or length <= 0 or length > TASK_SIZE or new < 0 or new > TASK_SIZE - length:
        return -EINVAL
    if addr + length > new and new + length > addr:
        return -EINVAL
    mmap_write_lock(m, cpu, mm)
    error = remap_move(m, cpu, mm, addr, addr + length, new)
    if DEBUG:
        write_once(m.mm.moves, mm, m.mm.moves[mm] + 1)  # for who looks, under mmap_lock, whether a page is where it was
    mmap_write_unlock(m, cpu, mm)
    return error


@kernel
def expand_vma(m, cpu, mm, addr, end, new_end):
    """Let the VMA that holds [addr, end) end at `new_end`, further up: 0 or -errno.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    if row < 0:
        return -EFAULT
    if new_end == end:
        return 0  # also where the range goes on behind its VMA
    if end == addr:
        return -EINVAL
    if m.vma.end[row] < end:
        return -EFAULT
    if m.vma.flags[row] & VM_HUGETLB:
        return -EINVAL
    if m.vma.flags[row] & VM_PFNMAP:
        return -EFAULT
    if m.vma.end[row] != end or new_end > TASK_SIZE:
        return -ENOMEM
    if row + 1 < vma_limit(m, mm) and m.vma.start[row + 1] < new_end:
        return -ENOMEM
    if m.vma.file[row] != 0:
        link_file_vma(m, cpu, mm, m.vma.file[row] - 1, end, new_end, linear_page_index(m, row, end))
    vmas_lock(m, cpu, mm)
    m.vma.end[row] = new_end
    vma_merge(m, mm, row)
    vmas_unlock(m, cpu, mm)
    m.mm.total_vm[mm] += (new_end - end) // PAGE
    return 0


@kernel
def shrink_vma(m, cpu, mm, addr, new_end, end):
    """Unmap [new_end, end): 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    if row < 0:
        return -EFAULT
    return munmap_locked(m, cpu, mm, new_end, end)


@kernel
def do_mremap(m, cpu, mm, addr, old_length, new_length):
    """mremap(2) in place: shrink, or grow if there is room: 0 or -errno. A locked VMA is populated.

    Linux zaps under mmap_lock for reading when it shrinks; here it is kept as it is.
    Locking: takes and releases mmap_lock, for writing until it populates.
    """
    end, new_end = addr + ((old_length + PAGE - 1) & -PAGE), addr + ((new_length + PAGE - 1) & -PAGE)
    if addr & (PAGE - 1) or old_length < 0 or new_length <= 0 or new_length > TASK_SIZE:
        return -EINVAL
    mmap_write_lock(m, cpu, mm)
    if new_end < end:
        error = shrink_vma(m, cpu, mm, addr, new_end, end)
    else:
        error = expand_vma(m, cpu, mm, addr, end, new_end)
        if error == 0 and m.vma.flags[find_vma(m, mm, addr)] & VM_LOCKED:
            mmap_write_downgrade(m, cpu, mm)
            mm_populate(m, cpu, mm, end, new_end)
            mmap_read_unlock(m, cpu, mm)
            return 0
    mmap_write_unlock(m, cpu, mm)
    return error
