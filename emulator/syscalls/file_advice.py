"""Advice about pages of files: MADV_WILLNEED reads them in, MADV_PAGEOUT unmaps them and takes them out of memory. Of a
large folio a part is not taken: it becomes small pages, which nobody maps.

Source: madvise_willneed and madvise_pageout, mm/madvise.c; shrink_folio_list, mm/vmscan.c: without swap a dirty page of
shared memory is unmapped and stays. Pages that others map as well are left alone.
"""

from emulator.atomic import kernel, read_once, write_once
from emulator.fault.zap import unmap_page_range
from emulator.pages.page_alloc import alloc_page, put_page
from emulator.pages.pagemap import add_to_page_cache, cache_slot, trylock_page, unlock_page
from emulator.pages.vma import linear_page_index
from emulator.pages.vmscan import reclaim_page
from emulator.pgtable_types import PAGE
from emulator.rmap_walks.folio import zero_filled
from emulator.syscalls.truncate import split_file_folio
from emulator.tables.mmu_gather import ZAP_KEEP_COWS, tlb_finish_mmu, tlb_gather_mmu
from emulator.tables.rcu import cond_resched
from emulator.walks.gup_fast import frame_at
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took

PAGEOUT = path_number("MADV_PAGEOUT of a file")


@kernel
def force_page_cache_readahead(m, cpu, vma, start, end):
    """MADV_WILLNEED: read the pages of [start, end) that are not in memory, as far as the file and memory go.

    Nothing is mapped. Pages of shared memory have nowhere to be read from. Locking: caller must hold mmap_lock; page
    locks by trylock alone.
    """
    file = m.vma.file[vma] - 1
    first = linear_page_index(m, vma, start)
    for pgoff in range(first, min(first + (end - start) // PAGE, read_once(m.file.size, file))):
        slot = cache_slot(m, file, pgoff)
        if m.file.shmem[file] != 0 or read_once(m.cache.frame, slot) != 0:
            continue
        frame = alloc_page(m, cpu)
        if frame == 0:
            return
        if trylock_page(m, cpu, slot):
            if m.cache.frame[slot] == 0 and pgoff < read_once(m.file.size, file):
                add_to_page_cache(m, slot, frame)
                frame = 0
            unlock_page(m, cpu, slot)
        if frame != 0:
            put_page(m, cpu, frame)
        cond_resched(m, cpu)


@kernel
def clean_unused_page(m, cpu, slot):
    """A page of shared memory that nobody maps, nor ever stored to or asked for to do so, is clean. In Linux that makes
    it dirty, here a read does (page_prot). Locking: takes the page lock by trylock.
    """
    if read_once(m.cache.frame, slot) == 0 or not trylock_page(m, cpu, slot):
        return
    frame = m.cache.frame[slot]
    unused = frame != 0 and read_once(m.page.mapcount, frame) == 0
    if unused and read_once(m.cache.stored, slot) == 0 and zero_filled(m, frame):
        write_once(m.cache.dirty, slot, 0)
    unlock_page(m, cpu, slot)


@kernel
def pageout_file_page(m, cpu, mm, file, pgoff, addr):
    """Unmap one page of a file, if it is mapped here and nowhere else, and take it out of memory if it is clean.

    Locking: as pageout_file_range.
    """
    slot = cache_slot(m, file, pgoff)
    frame = read_once(m.cache.frame, slot)
    if frame == 0 or read_once(m.page.mapcount, frame) != 1 or frame_at(m, cpu, mm, addr) != frame:
        return
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, addr, addr + PAGE, ZAP_KEEP_COWS)
    tlb_finish_mmu(m, cpu)
    if m.file.shmem[file] != 0:
        clean_unused_page(m, cpu, slot)
    reclaim_page(m, cpu, slot)


@kernel
def split_file_folios(m, cpu, mm, vma, start, end):
    """MADV_COLD and MADV_PAGEOUT: make small pages of the folios that [start, end) has a part of, unless others map
    them as well. Locking: caller must hold mmap_lock, and have no gather open.
    """
    mmap_assert_locked(m, cpu, mm)
    file = m.vma.file[vma] - 1
    addr = start
    while addr < end:
        pgoff = linear_page_index(m, vma, addr)
        if pgoff >= m.config.file_pages[0]:
            return
        slot = cache_slot(m, file, pgoff)
        pages = 1 << read_once(m.cache.order, slot)
        left = pages - pgoff % pages
        if pages > 1 and (pgoff % pages != 0 or addr + pages * PAGE > end):
            frame = read_once(m.cache.frame, slot)
            if read_once(m.page.mapcount, frame) == 1 and frame_at(m, cpu, mm, addr) == frame:
                split_file_folio(m, cpu, file, pgoff, True)
        addr += left * PAGE
        cond_resched(m, cpu)


@kernel
def pageout_file_range(m, cpu, mm, vma, start, end):
    """MADV_PAGEOUT: the pages of the file that the caller maps in [start, end), and nobody else.

    Private copies stay. Locking: caller must hold mmap_lock; page locks by trylock alone.
    """
    mmap_assert_locked(m, cpu, mm)
    took(m, cpu, PAGEOUT)
    file = m.vma.file[vma] - 1
    first = linear_page_index(m, vma, start)
    for page in range(min((end - start) // PAGE, m.config.file_pages[0] - first)):
        pageout_file_page(m, cpu, mm, file, first + page, start + page * PAGE)
        cond_resched(m, cpu)
