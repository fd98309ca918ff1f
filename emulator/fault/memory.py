"""The page fault and the zap: where entries appear and disappear.

Both hold a reference on the PTE table they work on (pte_ref.py) from before the first look at an entry until after the
last. They hold mmap_lock as well: faults and MADV_DONTNEED for reading, mmap and exit for writing. So its pmd cannot
change. Entries change under ptl.
"""

from emulator.atomic import (
    TRANSFERS,
    data_race,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_wmb,
    write_once,
)
from emulator.bug import detecting, stopped
from emulator.cpu.interrupts import point
from emulator.cpu.signal import mm_fault_error
from emulator.fault.cow import do_wp_page
from emulator.fault.file_fault import do_fault
from emulator.fault.swap_fault import do_swap_page
from emulator.fault.userfaultfd import handle_userfault
from emulator.fault.vmf import FAULT_FLAG_TRIED, FAULT_FLAG_WRITE, VM_FAULT_RETRY, pte_put_vmf, set_vmf, set_vmf_table
from emulator.huge.huge_memory import huge_page_fits, pte_alloc_or_huge, pte_alloc_split, split_huge_pmd, uffd_wp
from emulator.huge.hugetlb import hugetlb_fault
from emulator.locking.mmap_lock import mmap_read_lock, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock, release_fault_lock, vma_end_read, vma_locks
from emulator.mm_types import FRAMES
from emulator.pages.page_alloc import alloc_page, clear_page, put_page
from emulator.pages.rmap import page_add_new_anon_rmap
from emulator.pages.rss import add_mm_rss
from emulator.pages.vma import (
    anon_vma_prepare,
    find_vma,
    lock_vma,
    vma_lookup,
    vma_set_start,
    vmas_lock,
    vmas_unlock,
)
from emulator.pgtable import (
    pmd_trans_huge,
    pte_offset,
    pte_present,
)
from emulator.pgtable_types import (
    ANON_PTE,
    FILE,
    PAGE,
    PAGE_SHIFT,
    PRESENT,
    PTE_MARKER_GUARD,
    PTE_MARKER_UFFD_WP,
    RW,
    UFFD_WP,
    ZERO_PTE,
)
from emulator.policy.pins import check_use
from emulator.policy.pte_alloc import pte_try_get_retry
from emulator.policy.pte_ref import (
    entry_changed,
    entry_filled,
    policy_pressure,
    pte_lock,
    pte_peek,
    pte_put,
    pte_put_many,
    pte_try_get,
    pte_unlock,
)
from emulator.rmap_walks.anon_reclaim import try_to_free_pages
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import (
    EACCES,
    EFAULT,
    EINTR,
    ENOMEM,
    VM_ACCESS_FLAGS,
    VM_FILE,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_PKEY_BIT0,
    VM_SPECIAL_FAULT,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
)
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

TABLE_THERE = path_number("fault, table there")
NONE_ENTRY = path_number("fault on a none entry")
FAULT_END = path_number("end of a fault")
FILE_TABLE = path_number("fault on a file, table there")

REFERENCE_GIVEN = 3  # what fills an anonymous entry is done, and its reference on the table is its entry's
NO_VMA = 2  # of an attempt, beside VM_FAULT_RETRY: none lies at the address
MAX_RECLAIM_RETRIES = 16
STACK_GUARD_GAP = 256 * PAGE  # between a VMA that grows downwards and what is below it
RLIMIT_STACK = 8 << 20  # its size at most
MMAP_LOCKED = point_number("fault.mmap-locked")
SET_PTE_LOCKED = point_number("set_pte.locked")
SET_PTE_DONE = point_number("set_pte.done")
REFERENCE_LEFT = point_number("set_pte.given")


@kernel_inline
def set_pte(m, cpu, mm, table, pmd, pte, entry):
    """Fill an empty PTE if it is empty still, and count it: 0 if not, 1, or 2 if the entry has the caller's reference.

    Locking: takes and releases ptl; caller must have come to the table.
    """
    if not pte_lock(m, cpu, pmd, table):
        return 0
    filled = 0
    point(m, cpu, SET_PTE_LOCKED, table, entry)
    if read_once(m.entry, pte) == 0:
        took(m, cpu, NONE_ENTRY)
        write_once(m.entry, pte, entry)
        filled = 1 + entry_filled(m, cpu, pmd, table, entry)
    elif TRANSFERS and knob(m.config.transfer_though_lost):
        filled = 2
    point(m, cpu, SET_PTE_DONE, table, data_race(m.ptdesc.pte_refcount, table))
    pte_unlock(m, cpu, table)
    if TRANSFERS and filled == 2:
        point(m, cpu, REFERENCE_LEFT, table, entry)
        if knob(m.config.look_after_transfer) and detecting(m):
            check_use(m, cpu, table)
    return filled


@kernel_inline
def do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, addr, write):
    """Fault on an empty PTE: map the zero page for a read, a fresh zeroed frame for a write. 0, -ENOMEM, or
    REFERENCE_GIVEN.

    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    mmap_assert_locked(m, cpu, mm)
    if not write:
        return REFERENCE_GIVEN if set_pte(m, cpu, mm, table, pmd, pte, ZERO_PTE) == 2 else 0
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    clear_page(m, frame)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    page_add_new_anon_rmap(m, mm, vma, addr, frame)
    filled = set_pte(m, cpu, mm, table, pmd, pte, frame << PAGE_SHIFT | ANON_PTE)
    if filled != 0:
        add_mm_rss(m, cpu, mm, 1)
    else:
        m.page.mapcount[frame] = 0
        put_page(m, cpu, frame)
    return REFERENCE_GIVEN if filled == 2 else 0


@kernel
def wp_fault(m, cpu):
    """A write to a present entry that does not allow it, which may be for userfaultfd: what do_wp_page, or
    handle_userfault, returns.
    """
    if uffd_wp(m, m.vmf.vma[cpu], m.vmf.orig_pte[cpu]):
        return handle_userfault(m, cpu)
    return do_wp_page(m, cpu)


@kernel
def replace_marker(m, cpu, pmd, table, pte, entry, guards):
    """Let `entry`, which may be none, take the place of a marker of userfaultfd, or of a guard if `guards`; True if one
    is there.

    Locking: takes and releases ptl; caller must have come to the table.
    """
    if not pte_lock(m, cpu, pmd, table):
        return False
    marker = read_once(m.entry, pte)
    marked = marker == PTE_MARKER_UFFD_WP or (guards and marker == PTE_MARKER_GUARD)
    if marked:
        write_once(m.entry, pte, entry)
        entry_changed(m, cpu, pmd, table, marker, entry, 1)
    pte_unlock(m, cpu, table)
    return marked


@kernel
def handle_wp_marker(m, cpu):
    """Fault on a marker of userfaultfd: what comes in its place is protected as well. 0, -errno or VM_FAULT_RETRY.

    Where nothing is protected any more the marker goes, and the fault comes again.
    Locking: caller must hold mmap_lock and the fault's reference. Source: handle_pte_marker, do_anonymous_page.
    """
    mm, row, addr = m.vmf.mm[cpu], m.vmf.vma[cpu], m.vmf.addr[cpu]
    pmd, table, flags = m.vmf.pmd[cpu], m.vmf.table[cpu], m.vma.flags[row]
    pte = pte_offset(table, addr)
    if flags & VM_UFFD_WP == 0:
        if replace_marker(m, cpu, pmd, table, pte, 0, False):
            m.vmf.table[cpu] = 0
            pte_put_many(m, cpu, mm, pmd, addr, 2)
        return 0
    if m.vmf.flags[cpu] & FAULT_FLAG_WRITE:
        anon_vma_prepare(m, mm, row)
    if flags & VM_UFFD_MISSING:
        return handle_userfault(m, cpu)
    if m.vmf.flags[cpu] & FAULT_FLAG_WRITE == 0:
        replace_marker(m, cpu, pmd, table, pte, ZERO_PTE | UFFD_WP, False)
        return 0
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    clear_page(m, frame)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    page_add_new_anon_rmap(m, mm, row, addr, frame)
    if replace_marker(m, cpu, pmd, table, pte, frame << PAGE_SHIFT | ANON_PTE & ~RW | UFFD_WP, False):
        add_mm_rss(m, cpu, mm, 1)
    else:
        m.page.mapcount[frame] = 0
        put_page(m, cpu, frame)
    return 0


@kernel
def swap_and_wp_fault(m, cpu):
    """do_swap_page, and do_wp_page behind it for a write to a page that others have as well: what those return.

    One fault does both, as in Linux. A page that comes in, is write-protected, and is reclaimed for its own copy would
    otherwise be let in for ever.
    """
    result = do_swap_page(m, cpu)
    if result == 0 and m.vmf.flags[cpu] & FAULT_FLAG_WRITE:
        entry = set_vmf_table(m, cpu, m.vmf.table[cpu])
        if pte_present(entry) and entry & (RW | FILE) == 0:
            return wp_fault(m, cpu)
    return result


@kernel
def handle_entry_fault(m, cpu):
    """Resolve the fault on the entry that it found, which is not none: 0, -errno or VM_FAULT_RETRY."""
    entry = m.vmf.orig_pte[cpu]
    if entry == PTE_MARKER_UFFD_WP:
        return handle_wp_marker(m, cpu)
    if entry & PRESENT == 0:
        return swap_and_wp_fault(m, cpu)
    if m.vmf.flags[cpu] & FAULT_FLAG_WRITE and entry & RW == 0:
        return wp_fault(m, cpu)
    return 0


@kernel
def leaf_is_protected(m, vma, entry, write):
    """True if a write to the leaf `entry`, if it is one, is for userfaultfd."""
    return write and pmd_trans_huge(entry) and entry & RW == 0 and uffd_wp(m, vma, entry)


@kernel
def handle_protected_leaf(m, cpu, mm, vma, pmd, addr, flags, entry):
    """Write fault on the leaf `entry`, which userfaultfd has protected: what handle_userfault returns."""
    set_vmf(m, cpu, mm, vma, pmd, addr, flags)
    m.vmf.orig_pte[cpu] = entry
    return handle_userfault(m, cpu)


@kernel
def handle_anon_entry_fault(m, cpu, mm, vma, pmd, table, addr, flags):
    """handle_entry_fault in plain anonymous memory: what that returns. The caller's reference is used up."""
    set_vmf(m, cpu, mm, vma, pmd, addr, flags)
    result = 0
    if set_vmf_table(m, cpu, table) != 0:
        result = handle_entry_fault(m, cpu)
    pte_put_vmf(m, cpu)
    return result


@kernel_inline
def handle_pte_fault(m, cpu, mm, vma, pmd, addr, flags):
    """Pin the PTE table and resolve the fault in it, or with a huge page. 0, -ENOMEM, -EFAULT at a guard, or
    VM_FAULT_RETRY.

    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped.
    """
    mmap_assert_locked(m, cpu, mm)
    write = flags & FAULT_FLAG_WRITE
    table = pte_try_get(m, cpu, pmd)
    if table == 0:
        named = read_once(m.entry, pmd)
        if leaf_is_protected(m, vma, named, write):
            return handle_protected_leaf(m, cpu, mm, vma, pmd, addr, flags, named)
        table = pte_alloc_or_huge(m, cpu, mm, vma, pmd, addr, write)
        if table <= 0:
            return table
    else:
        took(m, cpu, TABLE_THERE)
    pte = pte_offset(table, addr)
    entry = pte_peek(m, cpu, pmd, table, pte)
    result = 0
    if entry == 0:
        result = do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, addr, write)
    elif entry & PRESENT == 0 or (write and entry & RW == 0):
        return handle_anon_entry_fault(m, cpu, mm, vma, pmd, table, addr, flags)
    if result == REFERENCE_GIVEN:
        return 0
    if write or not knob(m.config.missing_pte_put):
        took(m, cpu, FAULT_END)
        pte_put(m, cpu, mm, pmd, addr)  # pte_put_vmf
    return result


@kernel
def handle_file_fault(m, cpu):
    """Resolve the fault on an address that maps a file: 0, -errno, or VM_FAULT_RETRY with mmap_lock dropped.

    Where there is no table yet, the fault finds its page first and installs one at the end, as in v1. A huge page that
    may not be written goes: its pages are copied one by one.
    """
    entry = read_once(m.entry, m.vmf.pmd[cpu])
    if pmd_trans_huge(entry):
        if m.vmf.flags[cpu] & FAULT_FLAG_WRITE == 0 or entry & RW:
            return 0
        split_huge_pmd(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.addr[cpu])
    table = pte_try_get_retry(m, cpu, m.vmf.pmd[cpu])
    if table != 0:
        took(m, cpu, FILE_TABLE)
    return do_fault(m, cpu) if set_vmf_table(m, cpu, table) == 0 else handle_entry_fault(m, cpu)


@kernel
def handle_missing_fault(m, cpu):
    """Resolve the fault in a VMA that userfaultfd watches: what is missing is waited for. As handle_file_fault.

    A leaf that is there from before is split. Where a huge page would come, no table does.
    """
    mm, row, write = m.vmf.mm[cpu], m.vmf.vma[cpu], m.vmf.flags[cpu] & FAULT_FLAG_WRITE
    named = read_once(m.entry, m.vmf.pmd[cpu])
    if leaf_is_protected(m, row, named, write):
        m.vmf.orig_pte[cpu] = named
        return handle_userfault(m, cpu)
    if huge_page_fits(m, row, m.vmf.pmd[cpu], m.vmf.addr[cpu]):
        anon_vma_prepare(m, mm, row)
        return handle_userfault(m, cpu)
    table = pte_alloc_split(m, cpu, mm, m.vmf.pmd[cpu], m.vmf.addr[cpu])
    if table < 0:
        return table
    if set_vmf_table(m, cpu, table) == 0:
        if write:
            anon_vma_prepare(m, mm, row)
        return handle_userfault(m, cpu)
    return handle_entry_fault(m, cpu)


@kernel
def handle_special_fault(m, cpu, mm, vma, addr, flags):
    """A fault that is not that of plain anonymous memory. As handle_file_fault."""
    if m.vma.flags[vma] & VM_HUGETLB:
        return hugetlb_fault(m, cpu, mm, vma, addr)
    pmd = pmd_alloc(m, cpu, mm, addr)
    if pmd < 0:
        return pmd
    set_vmf(m, cpu, mm, vma, pmd, addr, flags)
    result = handle_file_fault(m, cpu) if m.vma.flags[vma] & VM_FILE else handle_missing_fault(m, cpu)
    pte_put_vmf(m, cpu)
    return result


@kernel_inline
def __handle_mm_fault(m, cpu, mm, vma, addr, flags):
    """Resolve a page fault that the VMA allows: 0, -errno (-EFAULT at a guard), or VM_FAULT_RETRY.

    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped: not with FAULT_FLAG_TRIED.
    """
    mmap_assert_locked(m, cpu, mm)
    if m.vma.flags[vma] & VM_SPECIAL_FAULT:
        result = handle_special_fault(m, cpu, mm, vma, addr, flags)
    else:
        result = pmd_alloc(m, cpu, mm, addr)
        if result >= 0:
            result = handle_pte_fault(m, cpu, mm, vma, result, addr, flags)
    if result == 0:
        m.cpu.faults[cpu] += 1  # mm_account_fault: those that fail do not count
    return result


@kernel_inline
def find_fault_vma(m, cpu, mm, addr, flags):
    """The row of the VMA that `addr` lies in, or 0.

    Locking: returns with mmap_lock held for reading, or with the VMA's own lock (vma_lock.py): release_fault_lock.
    """
    if vma_locks(m) and flags & FAULT_FLAG_TRIED == 0:
        vma = lock_vma(m, cpu, mm, addr, addr)
        if vma != 0 and m.vma.flags[vma] & (VM_SPECIAL_FAULT | VM_UFFD_WP) == 0:
            return vma
        if vma != 0:
            vma_end_read(m, cpu, mm)
    mmap_read_lock(m, cpu, mm)
    return vma_lookup(m, mm, addr)


@kernel
def expand_stack(m, cpu, mm, addr):
    """Let the VMA above `addr` begin there if it grows downwards: 0 or -EFAULT.

    It keeps a gap to what is mapped below it. Locking: takes and releases mmap_lock for writing. Source:
    expand_downwards, mm/vma.c.
    """
    page = addr & -PAGE
    result = -EFAULT
    mmap_write_lock(m, cpu, mm)
    row = find_vma(m, mm, addr)
    if row != 0 and m.vma.flags[row] & VM_GROWSDOWN:
        below = m.vma.prev[row]
        close = False
        if below != 0:
            flags = m.vma.flags[below]
            close = page - m.vma.end[below] < STACK_GUARD_GAP and flags & (VM_ACCESS_FLAGS | VM_PKEY_BIT0) != 0
            close = close and flags & VM_GROWSDOWN == 0
        if m.vma.start[row] <= page:
            result = 0
        elif not close:
            anon_vma_prepare(m, mm, row)
        if result != 0 and not close and m.vma.end[row] - page <= RLIMIT_STACK:
            vmas_lock(m, cpu, mm)
            grown = (m.vma.start[row] - page) // PAGE
            vma_set_start(m, mm, row, page)
            m.vma.pgoff[row] -= grown
            vmas_unlock(m, cpu, mm)
            m.mm.total_vm[mm] += grown
            result = 0
    mmap_write_unlock(m, cpu, mm)
    return result


@kernel_inline
def try_fault(m, cpu, mm, addr, flags):
    """One attempt at a page fault: 0, NO_VMA, -errno, or VM_FAULT_RETRY with mmap_lock dropped.

    Locking: takes and releases mmap_lock for reading, or the lock of the VMA.
    """
    vma = find_fault_vma(m, cpu, mm, addr, flags)
    point(m, cpu, MMAP_LOCKED, addr, flags & FAULT_FLAG_WRITE)
    if vma == 0:
        result = NO_VMA
    elif m.vma.flags[vma] & (VM_WRITE if flags & FAULT_FLAG_WRITE else VM_ACCESS_FLAGS):
        result = __handle_mm_fault(m, cpu, mm, vma, addr, flags)
    else:
        result = -EACCES
    if result != VM_FAULT_RETRY:
        release_fault_lock(m, cpu, mm)
    return result


@kernel
def try_fault_again(m, cpu, mm, addr, flags, result):
    """handle_mm_fault, of which the first attempt gave `result`: what that returns.

    What reclaim wins may be what the fault itself needs, so it is asked a few times and no more (should_reclaim_retry).
    """
    retries = 0
    while result != 0:
        if result == VM_FAULT_RETRY:
            flags |= FAULT_FLAG_TRIED
        elif result != NO_VMA or expand_stack(m, cpu, mm, addr) != 0:
            retries += 1
            reclaim = result == -ENOMEM and m.cpu.oom_zone[cpu] == FRAMES and retries <= MAX_RECLAIM_RETRIES
            if reclaim:
                policy_pressure(m, cpu, mm)
            if not reclaim or not try_to_free_pages(m, cpu):
                return mm_fault_error(m, cpu, mm, addr, -EFAULT if result == NO_VMA else result)
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
        result = try_fault(m, cpu, mm, addr, flags)
    return 0


@kernel_inline
def handle_mm_fault(m, cpu, mm, addr, write):
    """Resolve a page fault: 0, or -EFAULT if no VMA allows it, -EBUS past the end of a file, -ENOMEM, with a signal.

    Locking: takes and releases mmap_lock for reading, or the lock of the VMA.
    Source: do_user_addr_fault and handle_mm_fault.
    """
    result = try_fault(m, cpu, mm, addr, write)
    return try_fault_again(m, cpu, mm, addr, write, result) if result != 0 else 0
