"""Slow GUP: look at each page of a range, fault in what is not there, and pin it if somebody else is to use it.

The look pins the table (try_get, a table that is dying is as good as none) and takes ptl; the fault pins it again. A
fault on a page of a file may drop mmap_lock to wait (VM_FAULT_RETRY): VMA and pmd are looked up again then. A page is
pinned under ptl: a CPU that takes the entry away afterwards finds its frame counted.

Pages of files are pinned for loads alone. What a device stores after write-back has taken a page for clean would be
lost (FOLL_LONGTERM refuses them for that reason, 8ac268436e6d).

Source: __get_user_pages and faultin_page_range, mm/gup.c; follow_page_pte in patch 5.
"""

from emulator.atomic import atomic_add, kernel, knob, read_once
from emulator.bug import stopped
from emulator.cpu.interrupts import point
from emulator.fault.memory import __handle_mm_fault
from emulator.fault.swap_fault import migration_entry_wait
from emulator.fault.vmf import FAULT_FLAG_TRIED, FAULT_FLAG_WRITE, VM_FAULT_RETRY
from emulator.huge.huge_memory import follow_trans_huge_pmd, mark_touched
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.vma import find_vma, vma_lookup
from emulator.pgtable import is_migration_entry, pmd_lookup, pmd_trans_huge, pte_offset
from emulator.pgtable_types import FILE, PAGE, PAGE_SHIFT, PRESENT, RW, ZERO_PAGE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.tables.rcu import cond_resched
from emulator.uapi import (
    EBUS,
    EFAULT,
    EINTR,
    EINVAL,
    ENOMEM,
    VM_ACCESS_FLAGS,
    VM_FILE,
    VM_LOCKONFAULT,
    VM_PFNMAP,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

UNPINNED = point_number("gup.unpinned")
FOLLOW = path_number("populate, mlock: the look")
PIN = path_number("GUP, slow")
POPULATE = path_number("populate, mlock: the fault")


@kernel
def follow_page_pte(m, cpu, mm, addr, write, get):
    """The entry for `addr`, or 0 if no page is there, or none that may be written if that is wanted.

    With `get` (FOLL_GET) its frame has one more user, the zero page excepted. A page that is being migrated is waited
    for while the table is pinned still. The wait looks into it (in v1 it is put before, D6). Locking: caller must hold
    mmap_lock; takes and releases ptl.
    """
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    if pmd == 0:
        return 0
    if pmd_trans_huge(read_once(m.entry, pmd)):
        return follow_trans_huge_pmd(m, cpu, pmd, addr, write, get)
    table = pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return 0
    took(m, cpu, FOLLOW)
    entry = read_once(m.entry, pte_offset(table, addr))
    migrating = is_migration_entry(entry)
    if entry & PRESENT == 0 or (write and entry & RW == 0):
        entry = 0
    elif write and entry & FILE == 0:
        mark_touched(m, pte_offset(table, addr))
    if get and entry >> PAGE_SHIFT != ZERO_PAGE:
        atomic_add(m.page.refcount, entry >> PAGE_SHIFT, 1)
    pte_unlock(m, cpu, table)
    if migrating and not knob(m.config.wait_after_put):
        migration_entry_wait(m, cpu, pmd, addr)
    pte_put(m, cpu, mm, pmd, addr)
    if migrating and knob(m.config.wait_after_put):
        point(m, cpu, UNPINNED, addr, pmd)
        migration_entry_wait(m, cpu, pmd, addr)
    return entry


@kernel
def faultin_page(m, cpu, mm, row, addr, flags):
    """Fault a page in: 0, -errno or VM_FAULT_RETRY. Locking: as __handle_mm_fault."""
    return __handle_mm_fault(m, cpu, mm, row, addr, flags)


@kernel
def pin_user_page(m, cpu, mm, addr, flags):
    """Pin the page at `addr`, faulting it in: its entry, VM_FAULT_RETRY with mmap_lock dropped, or -errno.

    Locking: caller must hold mmap_lock for reading.
    """
    mmap_assert_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    write = flags & FAULT_FLAG_WRITE
    if row == 0:
        return -EFAULT
    if not m.vma.flags[row] & (VM_WRITE if write else VM_READ) or m.vma.flags[row] & VM_PFNMAP:
        return -EFAULT
    if write and m.vma.flags[row] & VM_FILE:
        return -EFAULT
    while True:
        entry = follow_page_pte(m, cpu, mm, addr, write, 1)
        if entry != 0:
            took(m, cpu, PIN)
            return entry
        error = faultin_page(m, cpu, mm, row, addr, flags)
        if error != 0:
            return error
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR


@kernel
def get_user_page(m, cpu, mm, addr, write):
    """Pin the page at `addr`, faulting it in: its frame, 0 if it is the zero page, which needs no pin, or -errno.

    Locking: takes and releases mmap_lock for reading.
    """
    flags = FAULT_FLAG_WRITE if write else 0
    while True:
        mmap_read_lock(m, cpu, mm)
        entry = pin_user_page(m, cpu, mm, addr, flags)
        if entry != VM_FAULT_RETRY:
            break
        if stopped(m):
            return -EINTR
        flags |= FAULT_FLAG_TRIED
    mmap_read_unlock(m, cpu, mm)
    return entry if entry < 0 else entry >> PAGE_SHIFT


@kernel
def populate_page(m, cpu, mm, row, at, write):
    """Look once at the page at `at` in the VMA at `row`, and fault once if need be: where to look next or -errno.

    A look after VM_FAULT_RETRY, for which mmap_lock was dropped and taken again, has FAULT_FLAG_TRIED in the low bits
    of its address. Locking: caller must hold mmap_lock for reading.
    """
    mmap_assert_locked(m, cpu, mm)
    addr = at & -PAGE
    if follow_page_pte(m, cpu, mm, addr, write, 0) != 0:
        return addr + PAGE
    took(m, cpu, POPULATE)
    result = faultin_page(m, cpu, mm, row, addr, write | at & FAULT_FLAG_TRIED)
    if result == VM_FAULT_RETRY:
        mmap_read_lock(m, cpu, mm)
    cond_resched(m, cpu)
    if result < 0:
        return -EFAULT if result == -EBUS else result
    if stopped(m):
        return -EINTR
    return addr | FAULT_FLAG_TRIED if result == VM_FAULT_RETRY else addr


@kernel
def faultin_page_range(m, cpu, mm, at, end, write):
    """MADV_POPULATE_READ and MADV_POPULATE_WRITE: 0, -ENOMEM at a hole, -EINVAL where it is not allowed, -EFAULT.

    Locking: caller must hold mmap_lock for reading, which may be dropped and taken again.
    """
    mmap_assert_locked(m, cpu, mm)
    while 0 <= at < end:
        row = vma_lookup(m, mm, at)
        if row == 0:
            return -ENOMEM
        if m.vma.flags[row] & VM_PFNMAP or not m.vma.flags[row] & (VM_WRITE if write else VM_READ):
            return -EINVAL
        at = populate_page(m, cpu, mm, row, at, FAULT_FLAG_WRITE if write else 0)
    return min(at, 0)


@kernel
def populate_private_locked(m, cpu, mm, row, at, end):
    """A private, locked VMA, at `row`, has become writable: its pages of [at, end) get copies now, as far as that goes.

    Locking: caller must hold mmap_lock for writing, which is kept: no fault retries, and userfaultfd must not watch.
    Source: mprotect_fixup.
    """
    mmap_assert_write_locked(m, cpu, mm)
    while 0 <= at < end:
        at = populate_page(m, cpu, mm, row, at | FAULT_FLAG_TRIED, FAULT_FLAG_WRITE)


@kernel
def mm_populate(m, cpu, mm, at, end):
    """Fault in what mlock has locked: for writing where the VMA allows it, unless it is shared. 0 or -errno.

    Locking: as faultin_page_range. Source: __mm_populate, populate_vma_page_range.
    """
    while 0 <= at < end:
        row = find_vma(m, mm, at)
        if row == 0 or m.vma.start[row] >= end:
            return 0
        flags = m.vma.flags[row]
        if flags & (VM_PFNMAP | VM_LOCKONFAULT):
            at = m.vma.end[row]
        elif not flags & VM_ACCESS_FLAGS:
            return -EFAULT
        else:
            write = FAULT_FLAG_WRITE if flags & (VM_WRITE | VM_SHARED) == VM_WRITE else 0
            at = populate_page(m, cpu, mm, row, max(at, m.vma.start[row]), write)
    return min(at, 0)
