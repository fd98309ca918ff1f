"""Slow GUP, as far as populating goes: look at each page of a range, and fault in what is not there.

The look pins the table (try_get, a table that is dying is as good as none) and takes ptl; the fault pins it again. A
fault on a page of a file may drop mmap_lock to wait (VM_FAULT_RETRY): VMA and pmd are looked up again then.

Source: __get_user_pages and faultin_page_range, mm/gup.c; follow_page_pte in patch 5.
"""

from emulator.atomic import kernel, read_once
from emulator.filemap import FAULT_FLAG_TRIED, FAULT_FLAG_WRITE, VM_FAULT_RETRY
from emulator.kernel import EBUS, EFAULT, EINTR, EINVAL, ENOMEM, stopped
from emulator.memory import __handle_mm_fault
from emulator.pgtable import PAGE, PRESENT, RW, pmd_lookup, pte_offset
from emulator.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.rcu import cond_resched
from emulator.spinlock import mmap_read_lock
from emulator.vma import VM_ACCESS_FLAGS, VM_PFNMAP, VM_SHARED, VM_WRITE, find_vma, vma_limit

PAGE_IS_THERE = 2  # beside what a fault returns


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
    pte_lock(m, cpu, table)
    entry = read_once(m.entry, pte_offset(table, addr))
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return entry & PRESENT != 0 and (not write or entry & RW != 0)


@kernel
def faultin_page(m, cpu, mm, row, addr, flags):
    """One look at the page at `addr` in the VMA at `row`, and one fault if it is not there: PAGE_IS_THERE, 0, -errno,
    or VM_FAULT_RETRY: mmap_lock was dropped, and taken again.

    Locking: caller must hold mmap_lock for reading.
    """
    if follow_page_pte(m, cpu, mm, addr, flags & FAULT_FLAG_WRITE):
        return PAGE_IS_THERE
    result = __handle_mm_fault(m, cpu, mm, row, addr, flags)
    if result == VM_FAULT_RETRY:
        mmap_read_lock(m, cpu, mm)
    cond_resched(m, cpu)
    if result >= 0 and stopped(m):
        return -EINTR
    return -EFAULT if result == -EBUS else result


@kernel
def faultin_page_range(m, cpu, mm, start, end, write):
    """MADV_POPULATE_READ and MADV_POPULATE_WRITE: 0, -ENOMEM at a hole, -EINVAL where it is not allowed, -EFAULT.

    Locking: caller must hold mmap_lock for reading, which may be dropped and taken again.
    """
    flags = FAULT_FLAG_WRITE if write else 0
    tried = 0
    while start < end:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] > start:
            return -ENOMEM
        if m.vma.flags[row] & VM_PFNMAP or not m.vma.flags[row] & (VM_WRITE if write else VM_ACCESS_FLAGS):
            return -EINVAL
        result = faultin_page(m, cpu, mm, row, start, flags | tried)
        if result < 0:
            return result
        tried = FAULT_FLAG_TRIED if result == VM_FAULT_RETRY else 0
        if result == PAGE_IS_THERE:
            start += PAGE
    return 0


@kernel
def mm_populate(m, cpu, mm, start, end):
    """Fault in what mlock has locked: for writing where the VMA allows it, unless it is shared. 0 or -errno.

    Locking: as faultin_page_range. Source: __mm_populate, populate_vma_page_range.
    """
    tried = 0
    while start < end:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] >= end:
            return 0
        vm_flags = m.vma.flags[row]
        if vm_flags & VM_PFNMAP:
            start = m.vma.end[row]
            continue
        if not vm_flags & VM_ACCESS_FLAGS:
            return -EFAULT
        start = max(start, m.vma.start[row])
        flags = FAULT_FLAG_WRITE if vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE else 0
        result = faultin_page(m, cpu, mm, row, start, flags | tried)
        if result < 0:
            return result
        tried = FAULT_FLAG_TRIED if result == VM_FAULT_RETRY else 0
        if result == PAGE_IS_THERE:
            start += PAGE
    return 0
