"""Faults on entries without a page: swap entries are mapped again, migration entries waited for, guards are final.

Both waits are for a page lock, and so is lock_page_or_retry's (filemap.py). The fault drops its reference on the PTE
table, then mmap_lock, then waits, and begins again.

Source: do_swap_page, mm/memory.c; __migration_entry_wait, mm/migrate.c; patches 4 and 5.
"""

from emulator.atomic import DEBUG, atomic_add, kernel, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.fault.filemap import lock_page_or_retry
from emulator.fault.vmf import FAULT_FLAG_TRIED, VM_FAULT_RETRY, pte_put_vmf, set_vmf, set_vmf_table
from emulator.locking.mutex import mutex_wait
from emulator.locking.vma_lock import release_fault_lock
from emulator.mm_types import SWAP_HAS_CACHE
from emulator.pages.page_alloc import alloc_page, put_page
from emulator.pages.pagemap import PAGE_LOCK, delete_from_page_cache, page_lock_row, unlock_page
from emulator.pages.rmap import anon_mapping
from emulator.pages.rss import add_mm_rss
from emulator.pages.swap_state import read_swap_cache, swap_free
from emulator.pages.vma import pte_modify
from emulator.pgtable import is_migration_entry, is_swap_entry, pgtable_of, pte_offset, pte_present
from emulator.pgtable_types import ACCESSED, ANON_EXCLUSIVE, DIRTY, PAGE, PAGE_SHIFT, SOFT_DIRTY, UFFD_WP, USER
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_peek, pte_unlock, walkers_look_again
from emulator.uapi import EFAULT, ENOMEM
from emulator.watch.lockdep import lockdep_assert_held, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_shared, shadow_unshare

SWAP_FAULT = path_number("fault on a swap entry")
MIGRATION_FAULT = path_number("fault on a migration entry")
ENTRY_WAIT = path_number("wait for a migration entry")
GUARD = path_number("fault on a guard")
UNUSE = path_number("swapoff")
SWAP_LOCKED = point_number("swap.page-locked")
MIGRATION_WAIT = point_number("migration.waiting")


@kernel
def migration_entry_row(m, cpu, pmd, addr):
    """The row of the page lock that the migration of the page at `addr` holds, or -1 if nobody does any more.

    Locking: takes and releases ptl; caller must hold a reference on the table, which the pmd is read again for.
    """
    row = -1
    table = pgtable_of(read_once(m.entry, pmd))
    if (table == 0 and walkers_look_again(m)) or not pte_lock(m, cpu, pmd, table):
        return row
    entry = read_once(m.entry, pte_offset(table, addr))
    if is_migration_entry(entry):
        row = page_lock_row(m, entry >> PAGE_SHIFT)
    pte_unlock(m, cpu, table)
    return row


@kernel
def migration_entry_wait(m, cpu, pmd, addr):
    """Wait until the page at `addr` has been migrated. Locking: caller must hold mmap_lock, and the table."""
    row = migration_entry_row(m, cpu, pmd, addr)
    if row >= 0:
        took(m, cpu, ENTRY_WAIT)
        mutex_wait(m, cpu, row, PAGE_LOCK)


@kernel
def migration_wait_or_retry(m, cpu):
    """Wait until the fault's page has been migrated: 0 to fault again, or VM_FAULT_RETRY with mmap_lock dropped."""
    if m.vmf.flags[cpu] & FAULT_FLAG_TRIED:
        migration_entry_wait(m, cpu, m.vmf.pmd[cpu], m.vmf.addr[cpu])
        return 0
    row = migration_entry_row(m, cpu, m.vmf.pmd[cpu], m.vmf.addr[cpu])
    if row < 0:
        return 0
    took(m, cpu, MIGRATION_FAULT)
    pte_put_vmf(m, cpu)
    release_fault_lock(m, cpu, m.vmf.mm[cpu])
    m.cpu.retries[cpu] += 1
    point(m, cpu, MIGRATION_WAIT, row, m.vmf.addr[cpu])
    mutex_wait(m, cpu, row, PAGE_LOCK)
    return VM_FAULT_RETRY


@kernel
def map_swapped_page(m, cpu, slot):
    """Map the slot's page in place of the fault's swap entry, if that is there still. The entry stays counted.

    If nobody else can have the page it leaves the swap cache and is this entry's alone.
    Locking: caller must hold the page lock, mmap_lock and the fault's reference; takes and releases ptl.
    """
    lockdep_assert_held(m, cpu, slot)
    mm, vma, table, addr = m.vmf.mm[cpu], m.vmf.vma[cpu], m.vmf.table[cpu], m.vmf.addr[cpu]
    frame = m.cache.frame[slot]
    pte = pte_offset(table, addr)
    if not pte_lock(m, cpu, m.vmf.pmd[cpu], table):
        return
    same = read_once(m.entry, pte) == m.vmf.orig_pte[cpu]
    if same:
        took(m, cpu, SWAP_FAULT)
        atomic_add(m.page.refcount, frame, 1)
        atomic_add(m.page.mapcount, frame, 1)
        write_once(m.page.mapping, frame, anon_mapping(m, mm, vma, addr))
        new = frame << PAGE_SHIFT | USER | ACCESSED | DIRTY | SOFT_DIRTY  # written, for all that is known
        if swap_free(m, cpu, slot) == SWAP_HAS_CACHE and read_once(m.page.refcount, frame) == 2:
            delete_from_page_cache(m, cpu, slot)
            new |= ANON_EXCLUSIVE
            if DEBUG:
                shadow_unshare(m, mm, frame, addr)
        elif DEBUG:
            shadow_shared(m, frame)
        new |= m.vmf.orig_pte[cpu] & UFFD_WP
        new = pte_modify(new, m.vma.flags[vma])
        write_once(m.entry, pte, new)
        entry_changed(m, cpu, m.vmf.pmd[cpu], table, m.vmf.orig_pte[cpu], new, 1)
        atomic_add(m.mm.rss_swap, mm, -1)
    pte_unlock(m, cpu, table)
    if same:
        add_mm_rss(m, cpu, mm, 1)


@kernel
def swap_in(m, cpu):
    """Bring the page of the fault back, from the swap cache or the disk: 0, -ENOMEM or VM_FAULT_RETRY.

    The entry may have changed by the time the page is locked, and the slot be another page's: map_swapped_page looks
    again. Memory is taken before the lock: reclaim must not wait under it.
    """
    slot = m.vmf.orig_pte[cpu] >> PAGE_SHIFT
    spare = 0
    if read_once(m.cache.frame, slot) == 0:
        spare = alloc_page(m, cpu)
        if spare == 0:
            return -ENOMEM
    if not lock_page_or_retry(m, cpu, slot):
        if spare != 0:
            put_page(m, cpu, spare)
        return VM_FAULT_RETRY
    point(m, cpu, SWAP_LOCKED, slot, m.vmf.addr[cpu])
    if m.cache.frame[slot] == 0 and spare != 0 and read_swap_cache(m, cpu, slot, spare):
        spare = 0
    if m.cache.frame[slot] != 0:
        map_swapped_page(m, cpu, slot)
    unlock_page(m, cpu, slot)
    if spare != 0:
        put_page(m, cpu, spare)
    return 0


@kernel
def do_swap_page(m, cpu):
    """Fault on an entry that is neither none nor present: 0, -errno or VM_FAULT_RETRY; 0 may be: fault again.

    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped, and the fault's reference,
    gone then as well.
    """
    entry = m.vmf.orig_pte[cpu]
    if is_swap_entry(entry):
        return swap_in(m, cpu)
    if is_migration_entry(entry):
        return migration_wait_or_retry(m, cpu)
    if pte_present(entry):
        return 0
    took(m, cpu, GUARD)
    return -EFAULT


@kernel
def unuse_pte_range(m, cpu, mm, vma, pmd, table, addr, end):
    """swapoff: map the pages of the swap entries of [addr, end) in one table: 0 or -ENOMEM.

    Locking: caller must hold mmap_lock for reading and a reference on the table.
    """
    mmap_assert_locked(m, cpu, mm)
    error = 0
    while addr < end and error == 0:
        entry = pte_peek(m, cpu, pmd, table, pte_offset(table, addr))
        if is_swap_entry(entry):
            took(m, cpu, UNUSE)
            set_vmf(m, cpu, mm, vma, pmd, addr, FAULT_FLAG_TRIED)
            set_vmf_table(m, cpu, table)
            error = do_swap_page(m, cpu)
        addr += PAGE
    m.vmf.table[cpu] = 0
    return error
