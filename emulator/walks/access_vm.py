"""process_vm_readv and process_vm_writev of a process on itself: the kernel loads from pages, or stores to them.

Each page is pinned during the copy. A page that a child shares is no use to a device that pins it for loads. The next
store copies the page, and leaves the pinned one to the child. A fault makes a copy first, which stays write-protected
(FAULT_FLAG_UNSHARE).

Source: process_vm_rw_single_vec, mm/process_vm_access.c; gup_must_unshare, mm/gup.c.
"""

from emulator.atomic import cmpxchg, kernel, read_once, write_once
from emulator.bug import detecting, stopped
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.fault.vmf import FAULT_FLAG_TRIED, FAULT_FLAG_WRITE, VM_FAULT_RETRY
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.page_alloc import put_page
from emulator.pages.vma import find_vma
from emulator.pgtable import pmd_lookup, pte_offset, pte_present
from emulator.pgtable_types import ANON_EXCLUSIVE, FILE, PAGE, PAGE_SHIFT, RW, TASK_SIZE, ZERO_PAGE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.tables.rcu import cond_resched
from emulator.uapi import EFAULT, EINTR, EINVAL, VM_PFNMAP, VM_READ, VM_WRITE
from emulator.walks.gup import faultin_page, follow_page_pte
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.shadow import shadow_device_store


@kernel
def write_protect_copy(m, cpu, mm, addr):
    """The copy at `addr` was made for a load: a store to it is a fault still. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    table = pte_try_get(m, cpu, pmd) if pmd != 0 else 0
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return
    pte = pte_offset(table, addr)
    entry = read_once(m.entry, pte)
    while pte_present(entry) and cmpxchg(m.entry, pte, entry, entry & ~RW) != entry:
        entry = read_once(m.entry, pte)  # the hardware of other CPUs sets bits
    flush_tlb_mm_range(m, cpu, mm, addr & -PAGE, (addr & -PAGE) + PAGE, 0)
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)


@kernel
def must_unshare(entry, write):
    """True if a page may not be pinned for loads, since it is not this mm's alone."""
    return not write and entry & (ANON_EXCLUSIVE | FILE) == 0 and entry >> PAGE_SHIFT != ZERO_PAGE


@kernel
def pin_remote_page(m, cpu, mm, addr, write, tried):
    """Pin the page at `addr`, faulting it in: its entry, VM_FAULT_RETRY with mmap_lock dropped, or -errno.

    Locking: caller must hold mmap_lock for reading.
    """
    mmap_assert_locked(m, cpu, mm)
    row = find_vma(m, mm, addr)
    if row == 0 or m.vma.start[row] > addr or m.vma.flags[row] & VM_PFNMAP:
        return -EFAULT
    if not m.vma.flags[row] & (VM_WRITE if write else VM_READ):
        return -EFAULT
    while True:
        entry = follow_page_pte(m, cpu, mm, addr, write, 1)
        unshare = entry != 0 and must_unshare(entry, write)
        if entry != 0 and not unshare:
            return entry
        if unshare:
            put_page(m, cpu, entry >> PAGE_SHIFT)
        error = faultin_page(m, cpu, mm, row, addr, (FAULT_FLAG_WRITE if write or unshare else 0) | tried)
        if error != 0:
            return error
        if unshare:
            write_protect_copy(m, cpu, mm, addr)
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR


@kernel
def access_remote_page(m, cpu, mm, addr, write):
    """Store 1 to the word at `addr`, or load that: 0 or -errno. Locking: takes and releases mmap_lock for reading."""
    tried = 0
    entry = VM_FAULT_RETRY
    while entry == VM_FAULT_RETRY and not stopped(m):
        mmap_read_lock(m, cpu, mm)
        entry = pin_remote_page(m, cpu, mm, addr, write, tried)
        tried = FAULT_FLAG_TRIED
        if entry == VM_FAULT_RETRY:
            continue
        mmap_read_unlock(m, cpu, mm)
    if entry < 0 or entry == VM_FAULT_RETRY:
        return entry if entry < 0 else -EINTR
    frame = entry >> PAGE_SHIFT
    words = m.config.frame_words[0]
    if write:
        if detecting(m):
            shadow_device_store(m, mm, frame, addr, 1)
        write_once(m.frame, frame * words + (addr >> 3 & (words - 1)), 1)
    if frame != ZERO_PAGE:
        put_page(m, cpu, frame)
    return 0


@kernel
def access_remote_vm(m, cpu, mm, addr, length, write):
    """Load or store [addr, addr + length): 0, with the bytes done in cpu.loaded, or -errno if there is not one."""
    m.cpu.loaded[cpu] = 0
    if length == 0:
        return 0
    at, end = addr, min(addr + min(length, TASK_SIZE), TASK_SIZE)
    error = -EINVAL if length < 0 else 0 if at < end else -EFAULT
    while at < end and error == 0:
        error = access_remote_page(m, cpu, mm, at, write)
        if error == 0:
            at = min((at & -PAGE) + PAGE, end)
    m.cpu.loaded[cpu] = at - addr if at != addr else error
    return error if at == addr else 0


@kernel
def count_vmas(m, cpu, mm, addr, length):
    """How many VMAs [addr, addr + length) has a part of, into cpu.loaded: 0."""
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, addr)
    m.cpu.loaded[cpu] = 0
    while length > 0 and row != 0 and m.vma.start[row] < addr + length:
        m.cpu.loaded[cpu] += 1
        row = m.vma.next[row]
    mmap_read_unlock(m, cpu, mm)
    return 0
