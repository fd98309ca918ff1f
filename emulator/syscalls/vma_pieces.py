"""System calls that go VMA by VMA and hold no mmap_lock in between, or in what they do: msync, MADV_REMOVE and
MADV_COLLAPSE. Each VMA is looked up anew; gaps are skipped and reported as -ENOMEM at the end.

Source: msync, mm/msync.c; madvise_remove, mm/madvise.c; madvise_collapse, mm/khugepaged.c.
"""

from emulator.atomic import kernel
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.vma import find_vma, linear_page_index
from emulator.pgtable_types import PAGE
from emulator.rmap_walks.page_writeback import write_cache_pages
from emulator.syscalls.collapse import collapse_vma
from emulator.syscalls.truncate import punch_hole
from emulator.uapi import EACCES, EBUSY, EINVAL, ENOMEM, MS_ASYNC, MS_INVALIDATE, MS_SYNC, VM_FILE, VM_LOCKED, VM_SHARED

NO_FILE, GAP = -1, -2  # in the place of a file
REMOVE, COLLAPSE = 16, 32  # calls, beside the flags of msync


@kernel
def find_piece(m, cpu, mm, start, end):
    """What [start, end) maps, as far as its first VMA goes.

    Returns the end of that, or -ENOMEM if there is none; the file, NO_FILE or GAP; its first page; the VMA's flags.

    Locking: takes and releases mmap_lock for reading.
    """
    until, file, first, flags = -ENOMEM, GAP, 0, 0
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    if row != 0 and m.vma.start[row] < end:
        until = m.vma.start[row]
        if until <= start:
            until = min(end, m.vma.end[row])
            flags = m.vma.flags[row]
            file = m.vma.file[row] - 1 if flags & VM_FILE else NO_FILE
            first = linear_page_index(m, row, start)
    mmap_read_unlock(m, cpu, mm)
    return until, file, first, flags


@kernel
def sync_piece(m, cpu, file, first, pages, flags):
    """Write the pages of a piece, if it maps a file, shared: 0."""
    if file != NO_FILE and flags & VM_SHARED:
        write_cache_pages(m, cpu, file, first, first + pages)
    return 0


@kernel
def remove_piece(m, cpu, file, first, pages, flags):
    """Punch a hole where a piece maps a file, shared: 0 or -errno. The inode lock comes before mmap_lock."""
    if file == NO_FILE or flags & VM_LOCKED:
        return -EINVAL
    if flags & VM_SHARED == 0:
        return -EACCES
    return punch_hole(m, cpu, file, first, pages)


@kernel
def walk_pieces(m, cpu, mm, start, length, call):
    """Go through a range piece by piece: 0 or the -errno of the first that cannot be. Locking: as find_piece."""
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length < 0 or end < start or (end == start and length != 0):
        return -EINVAL
    result = error = 0
    while start < end and error == 0:
        until, file, first, flags = find_piece(m, cpu, mm, start, end)
        if until < 0:
            return until
        if file == GAP:
            result = -ENOMEM
        elif call == COLLAPSE:
            error = collapse_vma(m, cpu, mm, start, until)
        elif call == REMOVE:
            error = remove_piece(m, cpu, file, first, (until - start) // PAGE, flags)
        elif call & MS_INVALIDATE and flags & VM_LOCKED:
            error = -EBUSY
        elif call & MS_SYNC:
            error = sync_piece(m, cpu, file, first, (until - start) // PAGE, flags)
        if call & MS_ASYNC and call & ~MS_ASYNC == 0 and result != 0:
            return result  # as Linux, which looks no further then
        start = until
    return result if error == 0 else error


@kernel
def do_msync(m, cpu, mm, start, length, flags):
    """msync(2), with MS_SYNC if `flags` is 0: write what the range maps, shared: 0 or -errno."""
    if flags == 0:
        flags = MS_SYNC
    if start & (PAGE - 1) or flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or flags & (MS_ASYNC | MS_SYNC) == 5:
        return -EINVAL
    length = (length + PAGE - 1) & -PAGE
    if length < 0:
        return -ENOMEM
    return walk_pieces(m, cpu, mm, start, length, flags)


@kernel
def madvise_remove(m, cpu, mm, start, length):
    """MADV_REMOVE: punch a hole where the range is mapped: 0 or -errno."""
    return walk_pieces(m, cpu, mm, start, length, REMOVE)


@kernel
def madvise_collapse(m, cpu, mm, start, length):
    """MADV_COLLAPSE: a huge page for each 2 MiB of the range: 0 or -errno."""
    return walk_pieces(m, cpu, mm, start, length, COLLAPSE)
