"""Slow GUP, as far as populating goes: look at each page of a range, and fault in what is not there.

The look pins the table (try_get, a table that is dying is as good as none) and takes ptl; the fault pins it again.
mmap_lock is held all the time, so the pmd may come and go in between, the VMA not.

Source: __get_user_pages and faultin_page_range, mm/gup.c; follow_page_pte in patch 5.
"""

from emulator.atomic import kernel, read_once
from emulator.filemap import FAULT_FLAG_WRITE
from emulator.kernel import EFAULT, EINTR, EINVAL, ENOMEM, stopped
from emulator.memory import __handle_mm_fault
from emulator.paths import path_number, took
from emulator.pgtable import PAGE, PRESENT, RW, pmd_lookup, pte_offset
from emulator.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.rcu import cond_resched
from emulator.vma import VM_ACCESS_FLAGS, VM_PFNMAP, VM_WRITE, find_vma, vma_limit

FOLLOW = path_number("populate, mlock: the look")


@kernel
def follow_page_pte(m, cpu, mm, addr, write):
    """True if the page at `addr` is there, and may be written if that is wanted.

    Locking: caller must hold mmap_lock; takes and releases ptl.
    """
    pmd = pmd_lookup(m, mm, addr)
    if pmd == 0:
        return False
    table = pte_try_get(m, cpu, pmd)
    if table == 0:
        return False
    took(m, cpu, FOLLOW)
    pte_lock(m, cpu, table)
    entry = read_once(m.entry, pte_offset(table, addr))
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return entry & PRESENT != 0 and (not write or entry & RW != 0)


@kernel
def populate_vma_page_range(m, cpu, mm, row, start, end, write):
    """Fault in the pages of [start, end), which lies in the VMA at `row`: 0 or the -errno of the first that failed.

    Locking: caller must hold mmap_lock for reading.
    """
    while start < end:
        if not follow_page_pte(m, cpu, mm, start, write):
            error = __handle_mm_fault(m, cpu, mm, row, start, FAULT_FLAG_WRITE if write else 0)
            if error != 0:
                return error
        start += PAGE
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
    return 0


@kernel
def faultin_page_range(m, cpu, mm, start, end, write):
    """MADV_POPULATE_READ and MADV_POPULATE_WRITE: 0, -ENOMEM at a hole, -EINVAL where it is not allowed, -EFAULT.

    -EINVAL for a file as well: a fault on its pages may drop mmap_lock.

    Locking: caller must hold mmap_lock for reading.
    """
    while start < end:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] > start:
            return -ENOMEM
        flags = m.vma.flags[row]
        if flags & VM_PFNMAP or m.vma.file[row] != 0 or not flags & (VM_WRITE if write else VM_ACCESS_FLAGS):
            return -EINVAL
        until = min(m.vma.end[row], end)
        error = populate_vma_page_range(m, cpu, mm, row, start, until, write)
        if error != 0:
            return error
        start = until
    return 0


@kernel
def mm_populate(m, cpu, mm, start, end):
    """Fault in what mlock has locked, for writing where the VMA allows it: 0 or -errno.

    Locking: caller must hold mmap_lock for reading. Source: __mm_populate.
    """
    while start < end:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] >= end:
            return 0
        flags = m.vma.flags[row]
        until = min(m.vma.end[row], end)
        if not flags & VM_PFNMAP:
            if not flags & VM_ACCESS_FLAGS:
                return -EFAULT
            error = populate_vma_page_range(m, cpu, mm, row, max(start, m.vma.start[row]), until, flags & VM_WRITE)
            if error != 0:
                return error
        start = until
    return 0
