"""Pages of files for page faults: find the page or read it, wait for its lock, and map what is there around it.

A fault that must wait for a page may not keep mmap_lock, and its reference on the PTE table is good only under
mmap_lock. The pmd that pte_put reads again may belong to another table once munmap had its chance. So:

    fault (lock_page_or_retry)               munmap
    ==========================               ======
    the page is locked by somebody
    pte_put_vmf()
    mmap_read_unlock()
      sleeps                                 takes the VMA, the entries, the table
    begins again: VM_FAULT_RETRY

Source: mm/filemap.c; patch 4 gives lock_page_or_retry the vmf for this.
"""

from emulator.atomic import kernel, knob, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.fault.vmf import FAULT_FLAG_TRIED, VM_FAULT_RETRY, pte_put_vmf
from emulator.huge.file_leaf import do_set_pmd, folio_at
from emulator.locking.vma_lock import release_fault_lock
from emulator.pages.page_alloc import alloc_page, put_page
from emulator.pages.pagemap import (
    add_to_page_cache,
    cache_slot,
    lock_page,
    page_add_file_rmap,
    set_page_dirty,
    trylock_page,
    unlock_page,
    wait_on_page_locked,
)
from emulator.pages.vma import linear_page_index
from emulator.pgtable import pmd_trans_huge, pte_offset, table_of
from emulator.pgtable_types import (
    ACCESSED,
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
from emulator.policy.pte_alloc import pmd_install
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_peek, pte_put, pte_try_get, pte_unlock
from emulator.uapi import EBUS, ENOMEM, VM_SHARED, VM_WRITE
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

AROUND = path_number("fault-around")
WAITS = path_number("fault that waits for a page")

PAGES_MAPPED = point_number("map_pages.counted")
RETRYING = point_number("fault.retrying")
MAP_UNPINNED = point_number("map_pages.unpinned")


@kernel
def lock_page_or_retry(m, cpu, slot):
    """Lock the page of the fault: True, or False if it had to be waited for: mmap_lock is gone then, begin again.

    The second time it sleeps with mmap_lock held, as Linux does. Locking: caller must hold mmap_lock for reading.
    """
    if trylock_page(m, cpu, slot):
        return True
    if m.vmf.flags[cpu] & FAULT_FLAG_TRIED:
        lock_page(m, cpu, slot)
        return True
    if not knob(m.config.ref_across_retry):
        pte_put_vmf(m, cpu)
    release_fault_lock(m, cpu, m.vmf.mm[cpu])
    m.cpu.retries[cpu] += 1
    took(m, cpu, WAITS)
    point(m, cpu, RETRYING, slot, m.vmf.table[cpu])
    wait_on_page_locked(m, cpu, slot)
    return False


@kernel
def filemap_fault(m, cpu, file, pgoff):
    """Find the page of the fault, reading it if it is not in memory, and lock it: 0, -errno or VM_FAULT_RETRY.

    Memory for it is taken before the lock: reclaim must not wait under it. Locking: returns 0 with the page locked.
    """
    slot = cache_slot(m, file, pgoff)
    m.vmf.slot[cpu] = slot
    spare = 0
    result = 0
    while True:
        if pgoff >= read_once(m.file.size, file):
            result = -EBUS
            break
        if spare == 0 and read_once(m.cache.frame, slot) == 0:
            spare = alloc_page(m, cpu)
            if spare == 0:
                result = -ENOMEM
                break
        if not lock_page_or_retry(m, cpu, slot):
            result = VM_FAULT_RETRY
            break
        if pgoff < read_once(m.file.size, file):
            if m.cache.frame[slot] == 0 and spare != 0:
                add_to_page_cache(m, slot, spare)
                spare = 0
            if m.cache.frame[slot] != 0:
                break
        unlock_page(m, cpu, slot)  # truncated, or reclaimed: look again
    if spare != 0:
        put_page(m, cpu, spare)
    return result


@kernel
def page_prot(m, vma):
    """The bits beside FILE of an entry that a read fault sets: none, so that the first store is noticed.

    Shared memory need not notice it: its pages are dirty, and may be written where they are shared and the VMA allows.
    Source: vm_page_prot, vma_wants_writenotify, mm/mmap.c.
    """
    if m.file.shmem[m.vma.file[vma] - 1] == 0 or m.vma.flags[vma] & VM_SHARED == 0:
        return 0
    return DIRTY | SOFT_DIRTY | (RW if m.vma.flags[vma] & VM_WRITE else 0)


@kernel
def map_cached_page(m, cpu, mm, slot, pte, prot):
    """Map a page of the cache into an empty PTE, with the bits of page_prot; True if so. Locking: caller must hold ptl.

    A page that somebody has locked is left alone: it may be on its way out.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    if read_once(m.entry, pte) != 0 or read_once(m.cache.frame, slot) == 0 or not trylock_page(m, cpu, slot):
        return False
    frame = m.cache.frame[slot]
    file = slot // m.config.file_pages[0]
    there = frame != 0 and m.cache.uptodate[slot] != 0
    inside = slot - cache_slot(m, file, 0) < read_once(m.file.size, file)
    there = there and (inside or read_once(m.cache.order, slot) != 0)
    if there and prot & DIRTY and m.cache.writeback[slot] != 0:
        there = False  # page_mkwrite would wait: the fault does
    if there:
        if prot & DIRTY:
            set_page_dirty(m, slot)
        page_add_file_rmap(m, mm, frame)
        write_once(m.entry, pte, frame << PAGE_SHIFT | FILE | prot | PRESENT | USER | ACCESSED)
    unlock_page(m, cpu, slot)
    return there


@kernel
def map_cached_range(m, cpu, mm, vma, pmd, table, start, end):
    """Map the pages of the cache into the empty PTEs of [start, end), in one table; the entries are counted in one go.
    Nothing is mapped if the table has gone.

    v1 to v3 count them after they have dropped ptl. Locking: takes and releases ptl; caller must hold mmap_lock and a
    reference on the table.
    """
    mmap_assert_locked(m, cpu, mm)
    took(m, cpu, AROUND)
    mapped = 0
    prot = page_prot(m, vma)
    first = cache_slot(m, m.vma.file[vma] - 1, linear_page_index(m, vma, start))
    if not pte_lock(m, cpu, pmd, table):
        return
    for page in range((end - start) // PAGE):
        if map_cached_page(m, cpu, mm, first + page, pte_offset(table, start + page * PAGE), prot):
            mapped += 1
    if not knob(m.config.count_late):
        entry_changed(m, cpu, pmd, table, 0, SOME_PTE, mapped)
    pte_unlock(m, cpu, table)
    point(m, cpu, PAGES_MAPPED, table, mapped)
    if knob(m.config.count_late):
        entry_changed(m, cpu, pmd, table, 0, SOME_PTE, mapped)


@kernel
def filemap_map_pmd(m, cpu):
    """Give the fault a table to map into, if it has none: what it allocated, or what is there by now. True if so; False
    as well where a huge page now stands.
    """
    if m.vmf.table[cpu] != 0:
        return True
    mm, pmd = m.vmf.mm[cpu], m.vmf.pmd[cpu]
    if do_set_pmd(m, cpu, mm, m.vmf.vma[cpu], pmd, m.vmf.addr[cpu], -1):
        return False
    point(m, cpu, MAP_UNPINNED, m.vmf.prealloc[cpu], pmd)
    if read_once(m.entry, pmd) == 0 and (m.vmf.prealloc[cpu] != 0 or knob(m.config.null_prealloc)):
        if pmd_install(m, cpu, mm, pmd, m.vmf.prealloc[cpu]):
            m.vmf.table[cpu] = m.vmf.prealloc[cpu]
            m.vmf.prealloc[cpu] = 0
            return True
    m.vmf.table[cpu] = pte_try_get(m, cpu, pmd)
    return m.vmf.table[cpu] != 0


@kernel
def any_cached(m, vma, start, end):
    """True if some page of [start, end) is in the cache and nobody has it locked. Source: next_uptodate_page."""
    first = cache_slot(m, m.vma.file[vma] - 1, linear_page_index(m, vma, start))
    for slot in range(first, first + (end - start) // PAGE):
        if read_once(m.cache.frame, slot) != 0 and read_once(m.mutex.owner, slot) == 0:
            return True
    return False


@kernel
def filemap_map_pages(m, cpu, start, end):
    """Fault-around: map what the page cache has of [start, end) into the fault's table. Of the folios that reach into
    that range it maps all that the VMA and the table have room for. True if the fault has a PTE.

    Locking: caller must hold mmap_lock; takes and releases ptl, page locks by trylock alone.
    """
    if not any_cached(m, m.vmf.vma[cpu], start, end):
        return False
    if not filemap_map_pmd(m, cpu):
        if knob(m.config.put_without_get):
            pte_put(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.addr[cpu])
        return pmd_trans_huge(read_once(m.entry, m.vmf.pmd[cpu]))
    table, pmd, vma = m.vmf.table[cpu], m.vmf.pmd[cpu], m.vmf.vma[cpu]
    start, _ = folio_at(m, vma, start)
    last, pages = folio_at(m, vma, end - PAGE)
    end = last + pages * PAGE
    map_cached_range(m, cpu, m.vmf.mm[cpu], vma, pmd, table, start, end)
    return pte_peek(m, cpu, pmd, table, pte_offset(table, m.vmf.addr[cpu])) != 0
