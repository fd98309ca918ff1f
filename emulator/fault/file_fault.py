"""do_fault: the page fault on an address that maps a file, and the first write to a page that was mapped for reading.

    read fault                     write fault, private           write fault, shared
    ==========                     ====================           ===================
    preallocate a table            take a frame                   preallocate a table
    map what is cached around      preallocate a table
    lock the page, read it         lock the page, read it         lock the page, read it
                                   copy it                        wait for write-back, make it dirty
    finish_fault: install the table, ptl, set the PTE and count it
    unlock the page

The table is allocated before the page lock. Its allocation may reclaim, and reclaim may wait for the write-back of
another page. The writer may want this page lock before it submits what it has collected (e4dc3489143f). What the fault
has in hand is in its row of `m.vmf`, as in struct vm_fault.

Source: do_fault, do_read_fault, do_cow_fault, do_shared_fault, finish_fault and wp_page_shared, mm/memory.c; patch 1.
"""

from emulator.atomic import kernel, knob, or_words, read_once, write_once
from emulator.bug import BUG, detecting
from emulator.cpu.interrupts import point
from emulator.fault.cow import copy_user_page, page_mkwrite
from emulator.fault.filemap import filemap_fault, filemap_map_pages, page_prot
from emulator.fault.vmf import FAULT_FLAG_WRITE, VM_FAULT_RETRY
from emulator.huge.file_leaf import do_set_pmd, folio_at
from emulator.pages.page_alloc import alloc_page, free_table, put_page
from emulator.pages.pagemap import folio_slot, page_add_file_rmap, trylock_page, unlock_page
from emulator.pages.rmap import page_add_new_anon_rmap
from emulator.pages.rss import add_mm_rss
from emulator.pages.vma import anon_vma_prepare, linear_page_index
from emulator.pages.vmscan import pte_alloc_one
from emulator.pgtable import pmd_addr_end, pmd_trans_huge, pte_offset
from emulator.pgtable_types import (
    ACCESSED,
    ANON_PTE,
    DIRTY,
    FILE,
    PAGE,
    PAGE_SHIFT,
    PRESENT,
    RW,
    SOFT_DIRTY,
    SOME_PTE,
    USER,
)
from emulator.policy.pte_alloc import pmd_install, pte_alloc_new, pte_try_get_retry
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_unlock
from emulator.uapi import ENOMEM, VM_SHARED
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import assert_ptl_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

FILE_PMD_NONE = path_number("fault on a file, pmd none")
FILE_NONE_ENTRY = path_number("fault on a file, none entry")

FAULT_AROUND = 16  # pages, Linux's fault_around_bytes
BUG_TABLE_LEAKED = int(Bug.TABLE_LEAKED)
NO_TABLE = point_number("fault.pmd-none")
PAGE_FOUND = point_number("finish_fault.page-locked")


@kernel
def pte_prealloc(m, cpu):
    """Have a table in hand if the pmd names none; 0 or -ENOMEM."""
    if m.vmf.table[cpu] == 0 and m.vmf.prealloc[cpu] == 0 and read_once(m.entry, m.vmf.pmd[cpu]) == 0:
        m.vmf.prealloc[cpu] = pte_alloc_one(m, cpu)
        if m.vmf.prealloc[cpu] == 0:
            return -ENOMEM
    return 0


@kernel
def find_page(m, cpu):
    """Lock the page of the fault, reading it if need be: as filemap_fault. Source: __do_fault."""
    vma = m.vmf.vma[cpu]
    if not knob(m.config.pte_alloc_under_page_lock) and pte_prealloc(m, cpu) != 0:
        return -ENOMEM
    return filemap_fault(m, cpu, m.vma.file[vma] - 1, linear_page_index(m, vma, m.vmf.addr[cpu]))


@kernel
def finish_table(m, cpu):
    """The table to set the PTE in, or 0 to fault again, or -ENOMEM.

    Nothing is allocated here: the page lock is held. The fault begins again if the table that it saw has gone since, or
    if a huge page has come.
    Source: finish_fault; before e4dc3489143f it called pte_alloc.
    """
    while m.vmf.table[cpu] == 0:
        m.vmf.table[cpu] = pte_try_get_retry(m, cpu, m.vmf.pmd[cpu])
        if m.vmf.table[cpu] != 0 or pmd_trans_huge(read_once(m.entry, m.vmf.pmd[cpu])):
            break
        if m.vmf.prealloc[cpu] != 0:
            if pmd_install(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.prealloc[cpu]):
                m.vmf.table[cpu] = m.vmf.prealloc[cpu]
                m.vmf.prealloc[cpu] = 0
                took(m, cpu, FILE_PMD_NONE)
        elif knob(m.config.pte_alloc_under_page_lock):
            table = pte_alloc_new(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu])
            if table < 0:
                return table
            m.vmf.table[cpu] = table
        else:
            return 0
    return m.vmf.table[cpu]


@kernel
def map_huge(m, cpu):
    """Map the huge page that the page of the fault is of, if there is one and it fits; True if so."""
    return do_set_pmd(m, cpu, m.vmf.mm[cpu], m.vmf.vma[cpu], m.vmf.pmd[cpu], m.vmf.addr[cpu], m.vmf.slot[cpu])


@kernel
def map_whole_folio(m, cpu, mm, table, flags):
    """Map all pages of the fault's large folio if the VMA has it whole in this table, with no entry there yet. True if
    done. Locking: caller must hold ptl, and mmap_lock; takes the folio's lock by trylock.
    """
    assert_ptl_held(m, cpu, table)
    locked = m.vmf.slot[cpu]
    addr, pages = folio_at(m, m.vmf.vma[cpu], m.vmf.addr[cpu])
    first = pte_offset(table, addr)
    if pages == 1 or or_words(m.entry, first, pages) != 0:
        return False
    order = read_once(m.cache.order, locked)
    slot = folio_slot(m, locked, order)
    if slot != locked and not trylock_page(m, cpu, slot):
        return False
    whole = 1 << order == pages and m.cache.order[slot] == order
    if whole:
        took(m, cpu, FILE_NONE_ENTRY)
        for i in range(pages):
            page_add_file_rmap(m, mm, m.cache.frame[slot + i])
            write_once(m.entry, first + i, m.cache.frame[slot + i] << PAGE_SHIFT | flags | PRESENT | USER | ACCESSED)
        entry_changed(m, cpu, m.vmf.pmd[cpu], table, 0, SOME_PTE, pages)
    if slot != locked:
        unlock_page(m, cpu, slot)
    return whole


@kernel
def finish_fault(m, cpu, frame, flags):
    """Map `frame` for the fault with the bits `flags`, if its PTE is empty still: 1, 0 to fault again, or -ENOMEM.

    Locking: caller must hold mmap_lock and the page lock; takes and releases ptl.
    """
    point(m, cpu, PAGE_FOUND, frame, m.vmf.prealloc[cpu])
    if m.vmf.table[cpu] == 0 and flags & FILE and map_huge(m, cpu):
        return 1
    table = finish_table(m, cpu)
    if table <= 0:
        return table
    mm = m.vmf.mm[cpu]
    pte = pte_offset(table, m.vmf.addr[cpu])
    if not pte_lock(m, cpu, m.vmf.pmd[cpu], table):
        return 0
    empty = read_once(m.entry, pte) == 0
    if empty and flags & FILE and map_whole_folio(m, cpu, mm, table, flags):
        pte_unlock(m, cpu, table)
        return 1
    if empty:
        took(m, cpu, FILE_NONE_ENTRY)
        if flags & FILE:
            page_add_file_rmap(m, mm, frame)
        else:
            page_add_new_anon_rmap(m, mm, m.vmf.vma[cpu], m.vmf.addr[cpu], frame)
        entry = frame << PAGE_SHIFT | flags | PRESENT | USER | ACCESSED
        write_once(m.entry, pte, entry)
        entry_changed(m, cpu, m.vmf.pmd[cpu], table, 0, entry, 1)
    pte_unlock(m, cpu, table)
    if empty and flags & FILE == 0:
        add_mm_rss(m, cpu, mm, 1)
    return 1 if empty else 0


@kernel
def do_fault_around(m, cpu):
    """Map what is cached of the 16 pages around the address; True if that resolves the fault."""
    vma, addr = m.vmf.vma[cpu], m.vmf.addr[cpu]
    if m.vmf.table[cpu] == 0:
        point(m, cpu, NO_TABLE, addr, m.vmf.pmd[cpu])
    if pte_prealloc(m, cpu) != 0:
        return False
    start = max(addr & -(FAULT_AROUND * PAGE), m.vma.start[vma])
    beyond = m.vma.start[vma] + (read_once(m.file.size, m.vma.file[vma] - 1) - m.vma.pgoff[vma]) * PAGE
    end = min(start + FAULT_AROUND * PAGE, pmd_addr_end(addr, m.vma.end[vma]), beyond)
    return start < end and filemap_map_pages(m, cpu, start, end)


@kernel
def do_read_fault(m, cpu):
    """Map a page of a file for reading, and what is cached around it: 0, -errno or VM_FAULT_RETRY."""
    if do_fault_around(m, cpu):
        return 0
    result = find_page(m, cpu)
    if result == 0:
        slot = m.vmf.slot[cpu]
        prot = page_prot(m, m.vmf.vma[cpu])
        if prot & DIRTY:
            page_mkwrite(m, cpu, slot)
        result = min(0, finish_fault(m, cpu, m.cache.frame[slot], FILE | prot))
        unlock_page(m, cpu, slot)
    return result


@kernel
def do_cow_fault(m, cpu):
    """Write fault on a page of a private mapping: a copy of its own. 0, -errno or VM_FAULT_RETRY."""
    anon_vma_prepare(m, m.vmf.mm[cpu], m.vmf.vma[cpu])
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    result = find_page(m, cpu)
    mapped = 0
    if result == 0:
        slot = m.vmf.slot[cpu]
        copy_user_page(m, cpu, frame, m.cache.frame[slot])
        mapped = finish_fault(m, cpu, frame, ANON_PTE)
        unlock_page(m, cpu, slot)
        result = min(0, mapped)
    if mapped != 1:
        put_page(m, cpu, frame)
    return result


@kernel
def do_shared_fault(m, cpu):
    """Write fault on a page of a shared mapping: 0, -errno or VM_FAULT_RETRY."""
    result = find_page(m, cpu)
    if result == 0:
        slot = m.vmf.slot[cpu]
        page_mkwrite(m, cpu, slot)
        if m.file.shmem[m.vma.file[m.vmf.vma[cpu]] - 1] != 0:
            write_once(m.cache.stored, slot, 1)
        result = min(0, finish_fault(m, cpu, m.cache.frame[slot], FILE | RW | DIRTY | SOFT_DIRTY))
        unlock_page(m, cpu, slot)
    return result


@kernel
def do_fault(m, cpu):
    """Fault on an empty PTE of a file mapping: 0, -errno or VM_FAULT_RETRY.

    A table that was preallocated and not needed goes back: the next round takes its own (b0b9b3df27d10).
    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped.
    """
    if detecting(m) and m.vmf.prealloc[cpu] != 0:
        BUG(m, cpu, BUG_TABLE_LEAKED, m.vmf.prealloc[cpu], 0, 0)
    if m.vmf.flags[cpu] & FAULT_FLAG_WRITE == 0:
        result = do_read_fault(m, cpu)
    elif m.vma.flags[m.vmf.vma[cpu]] & VM_SHARED:
        result = do_shared_fault(m, cpu)
    else:
        result = do_cow_fault(m, cpu)
    if m.vmf.prealloc[cpu] != 0 and not (knob(m.config.prealloc_leak) and result == VM_FAULT_RETRY):
        free_table(m, cpu, m.vmf.prealloc[cpu])
        m.vmf.prealloc[cpu] = 0
    return result
