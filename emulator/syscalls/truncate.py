"""ftruncate and hole punch: pages of a file go, from every mm that maps them.

    truncate                                      fault
    ========                                      =====
    i_size
    unmap_mapping_range: the pages and, past the
      end of the file, private copies
                                                  page lock; within i_size?
                                                  PTE, page unlock
    each page: page lock, write-back over,
      mapped again? unmap, out of the cache
    unmap_mapping_range: copies made meanwhile

Code that clears entries here holds no mmap_lock: i_mmap_lock keeps the VMAs there, and those keep the tables (rmap.py).

Source: truncate_pagecache and truncate_inode_pages_range, mm/truncate.c; unmap_mapping_range, mm/memory.c.
"""

from emulator.atomic import kernel, memset, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.fault.zap import unmap_page_range
from emulator.locking.mutex import i_mmap_lock, i_mmap_unlock
from emulator.pages.pagemap import (
    WRITEBACK,
    cache_slot,
    delete_from_page_cache,
    folio_slot,
    inode_lock,
    inode_row,
    inode_unlock,
    lock_page,
    unlock_page,
    wait_on_page_writeback,
)
from emulator.pages.rmap import file_range
from emulator.pages.vma import vma_mm
from emulator.tables.mmu_gather import ZAP_KEEP_COWS, tlb_finish_mmu, tlb_gather_mmu
from emulator.uapi import EINVAL
from emulator.watch.lockdep import lockdep_assert_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

UNMAP_MAPPING = path_number("truncate, hole punch")

UNMAPPED = point_number("truncate.unmapped")


@kernel
def unmap_mapping_range(m, cpu, file, first, end, even_cows):
    """Clear the entries that map pages [first, end) of the file, in every mm; private copies only with `even_cows`.

    Locking: takes and releases i_mmap_lock.
    """
    i_mmap_lock(m, cpu, file)
    row = m.file.i_mmap[file]
    while row != 0:
        start, until = file_range(m, row, first, end)
        if start < until:
            took(m, cpu, UNMAP_MAPPING)
            tlb_gather_mmu(m, cpu, vma_mm(m, row), 0)
            unmap_page_range(m, cpu, vma_mm(m, row), start, until, 0 if even_cows else ZAP_KEEP_COWS)
            tlb_finish_mmu(m, cpu)
        row = m.vma.i_mmap_next[row]
    i_mmap_unlock(m, cpu, file)


@kernel
def split_orders(m, slot, pages, at):
    """Note for the `pages` pages from row `slot` on that they are small. If `at` is one of them, note a half, a quarter
    and so on, with that one alone in the end. Locking: caller must hold the lock of the first.
    """
    for i in range(pages):
        order = 0
        while at >= 0 and i ^ at >= 2 << order:
            order += 1
        write_once(m.cache.order, slot + i, order)


@kernel
def split_file_folio(m, cpu, file, pgoff, uniform):
    """Split the large folio that page `pgoff` of a file is of: into pages if `uniform`, else around that page, into
    halves. Nobody maps any of it afterwards.

    Locking: takes and releases the lock of its first page, and i_mmap_lock. Source: split_folio, __folio_split.
    """
    slot = cache_slot(m, file, pgoff)
    order = read_once(m.cache.order, slot)
    if order == 0:
        return
    first = folio_slot(m, slot, order)
    lock_page(m, cpu, first)
    split = m.cache.order[first] == order
    if split:
        split_orders(m, first, 1 << order, -1 if uniform else slot - first)
    unlock_page(m, cpu, first)
    if split:
        pgoff &= -(1 << order)
        unmap_mapping_range(m, cpu, file, pgoff, pgoff + (1 << order), 0)


@kernel
def split_partial_folio(m, cpu, file, pgoff, first, end):
    """Split the folio of page `pgoff` of a file, at both borders, if [first, end) has a part of it. What is outside
    stays large where it can. Returns the first page behind the folio. Source: truncate_inode_partial_folio.
    """
    pages = 1 << read_once(m.cache.order, cache_slot(m, file, pgoff))
    begin = pgoff & -pages
    behind = begin + pages
    if begin < first or behind > end:
        split_file_folio(m, cpu, file, max(begin, first), False)
        if end < behind:
            split_file_folio(m, cpu, file, end, False)
    return behind


@kernel
def split_partial_folios(m, cpu, file, first, end):
    """Split the folios of which [first, end) has a part. Locking: as split_file_folio."""
    limit = m.config.file_pages[0]
    if first < limit and split_partial_folio(m, cpu, file, first, first, end) < end <= limit:
        split_partial_folio(m, cpu, file, end - 1, first, end)


@kernel
def truncate_inode_page(m, cpu, file, pgoff):
    """Take one page out of the cache and off the disk. Locking: takes and releases the page lock.

    It is a small page once its lock is held and its folio was split: a collapse needs that lock.
    """
    slot = cache_slot(m, file, pgoff)
    lock_page(m, cpu, slot)
    while m.cache.order[slot] != 0:
        unlock_page(m, cpu, slot)
        split_file_folio(m, cpu, file, pgoff, True)
        lock_page(m, cpu, slot)
    if m.cache.frame[slot] != 0:
        wait_on_page_writeback(m, cpu, slot, WRITEBACK)
        while read_once(m.page.mapcount, m.cache.frame[slot]) != 0:
            unmap_mapping_range(m, cpu, file, pgoff, pgoff + 1, 0)
        delete_from_page_cache(m, cpu, slot)
    words = m.config.frame_words[0]
    memset(m.disk, slot * words, words, 0)
    unlock_page(m, cpu, slot)


@kernel
def truncate_range(m, cpu, file, first, end, even_cows):
    """Take pages [first, end) out of a file. Locking: caller must hold the inode lock."""
    lockdep_assert_held(m, cpu, inode_row(m, file))
    write_once(m.file.punched, file, m.file.punched[file] + 1)
    unmap_mapping_range(m, cpu, file, first, end, even_cows)
    point(m, cpu, UNMAPPED, file, first)
    split_partial_folios(m, cpu, file, first, end)
    for pgoff in range(first, min(end, m.config.file_pages[0])):
        truncate_inode_page(m, cpu, file, pgoff)
    if even_cows:
        unmap_mapping_range(m, cpu, file, first, end, 1)
    write_once(m.file.punched, file, m.file.punched[file] + 1)


@kernel
def do_truncate(m, cpu, file, pages):
    """ftruncate(2): 0 or -EINVAL. Locking: takes and releases the inode lock."""
    if not (0 <= file < m.config.n_file[0] and 0 <= pages <= m.config.file_pages[0]):
        return -EINVAL
    inode_lock(m, cpu, file)
    before = m.file.size[file]
    write_once(m.file.size, file, pages)
    if pages < before:
        truncate_range(m, cpu, file, pages, 1 << 35, 1)
    inode_unlock(m, cpu, file)
    return 0


@kernel
def punch_hole(m, cpu, file, first, pages):
    """fallocate(2) with FALLOC_FL_PUNCH_HOLE: the pages read zero afterwards, private copies stay. 0 or -EINVAL.

    Locking: takes and releases the inode lock.
    """
    if not (0 <= file < m.config.n_file[0] and first >= 0 and pages > 0):
        return -EINVAL
    inode_lock(m, cpu, file)
    truncate_range(m, cpu, file, first, first + pages, 0)
    inode_unlock(m, cpu, file)
    return 0
