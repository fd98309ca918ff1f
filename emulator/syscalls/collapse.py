"""MADV_COLLAPSE: a huge page for each 2 MiB of a range, of anonymous memory (khugepaged.py) or of shared memory.

    pages of shared memory                           a fault
    ======================                           =======
    trylock of all 512 page locks                    waits for its page, or begins again
    unmap them, from every mm; is one pinned?
    copies them; the cache has the block
    cache.order; the empty tables go (retract.py)
    unlock
    mmap_lock for writing: where the table of the
      caller is still there, it is emptied and goes
    the leaf                                         maps the leaf, wherever a VMA fits

Pages that were not there are zeroes. What fails leaves pages unmapped, which the next touch finds in the cache.

Adapted: Linux puts the leaf in with mmap_lock for reading. The policies of 2021 need it for writing to take out a table
that walkers may be in, so it is taken so under all.

Source: madvise_collapse, hpage_collapse_scan_file, collapse_file and collapse_pte_mapped_thp, mm/khugepaged.c.
"""

from emulator.atomic import kernel, kernel_inline, read_once, write_once
from emulator.bug import stopped
from emulator.fault.zap import unmap_page_range
from emulator.huge.file_leaf import do_set_pmd, file_leaf_fits
from emulator.huge.khugepaged import (
    SCAN_ALLOC_HUGE_PAGE_FAIL,
    SCAN_FAIL,
    SCAN_PAGE_COUNT,
    SCAN_PMD_MAPPED,
    SCAN_PMD_NULL,
    SCAN_PTE_NON_PRESENT,
    SCAN_PTE_UFFD_WP,
    SCAN_SUCCEED,
    SCAN_VMA_CHECK,
    collapse_one,
    hugepage_vma,
)
from emulator.huge.retract import retract_page_tables, retract_table
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.mutex import i_mmap_lock, i_mmap_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.huge_page import alloc_huge_page, clear_huge_page, put_huge_page
from emulator.pages.page_alloc import copy_page, put_page
from emulator.pages.pagemap import cache_slot, lock_page, trylock_page, unlock_page
from emulator.pages.vma import find_vma, linear_page_index, vmas_lock, vmas_unlock
from emulator.pgtable import pmd_trans_huge, pte_offset, pte_present
from emulator.pgtable_types import FILE, HPAGE_PMD_NR, HPAGE_PMD_ORDER, PAGE, PAGE_SHIFT, PMD_SIZE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.syscalls.truncate import unmap_mapping_range
from emulator.tables.mmu_gather import ZAP_KEEP_COWS, tlb_finish_mmu, tlb_gather_mmu
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import EAGAIN, EINTR, EINVAL, ENOMEM
from emulator.watch.lockdep import lockdep_assert_held, mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.paths import path_number, took

SCAN_PAGE_LOCK, SCAN_TRUNCATED, SCAN_PAGE_COMPOUND = 16, 17, 18
COLLAPSE_FILE = path_number("collapse, shared memory")


@kernel_inline
def madvise_collapse_errno(result):
    """What MADV_COLLAPSE ends with."""
    if result == SCAN_ALLOC_HUGE_PAGE_FAIL:
        return -ENOMEM
    return -EAGAIN if result == SCAN_PAGE_COUNT or result == SCAN_PAGE_LOCK else -EINVAL


@kernel_inline
def goes_on(result):
    """True if MADV_COLLAPSE looks at the next 2 MiB behind one that ended so."""
    early = result in (SCAN_PMD_NULL, SCAN_PTE_NON_PRESENT, SCAN_PTE_UFFD_WP)
    return early or result in (SCAN_PAGE_COUNT, SCAN_PAGE_LOCK, SCAN_PAGE_COMPOUND)


@kernel
def lock_pages(m, cpu, slot):
    """Try the page locks of the 512 pages from row `slot` on: how many it has, up to the first that is taken."""
    for i in range(HPAGE_PMD_NR):
        if not trylock_page(m, cpu, slot + i):
            return i
    return HPAGE_PMD_NR


@kernel
def pages_in_use(m, slot):
    """How many of 512 pages are in memory, or minus one if somebody else than the page cache uses one.

    Locking: caller must hold the page locks, and have unmapped them.
    """
    pages = 0
    for i in range(slot, slot + HPAGE_PMD_NR):
        frame = m.cache.frame[i]
        if frame != 0:
            pages += 1
            if read_once(m.page.refcount, frame) != 1:
                return -1
    return pages


@kernel
def replace_pages(m, cpu, slot, head):
    """Let the block `head` hold what 512 pages do. Locking: caller must hold the page locks."""
    clear_huge_page(m, head)
    for i in range(HPAGE_PMD_NR):
        lockdep_assert_held(m, cpu, slot + i)
        old = m.cache.frame[slot + i]
        if old != 0:
            copy_page(m, head + i, old)
            write_once(m.page_slot, old, 0)
        write_once(m.page_slot, head + i, slot + i + 1)
        write_once(m.cache.frame, slot + i, head + i)
        m.cache.uptodate[slot + i] = 1
        write_once(m.cache.dirty, slot + i, 1)
        write_once(m.cache.stored, slot + i, 1)
        write_once(m.cache.order, slot + i, HPAGE_PMD_ORDER)
        if old != 0:
            put_page(m, cpu, old)


@kernel
def collapse_locked_pages(m, cpu, file, first, slot, head):
    """collapse_file with a block at hand and the page locks held: a SCAN result; the block is used if it succeeds."""
    if m.cache.order[slot] == HPAGE_PMD_ORDER:
        return SCAN_PMD_MAPPED
    unmap_mapping_range(m, cpu, file, first, first + HPAGE_PMD_NR, 0)
    pages = pages_in_use(m, slot)
    if pages <= 0:
        return SCAN_TRUNCATED if pages == 0 else SCAN_PAGE_COUNT
    took(m, cpu, COLLAPSE_FILE)
    replace_pages(m, cpu, slot, head)
    retract_page_tables(m, cpu, file, first, first + HPAGE_PMD_NR)
    return SCAN_SUCCEED


@kernel
def collapse_file(m, cpu, file, first):
    """Move 512 pages of shared memory, from page `first` on, into a huge page: a SCAN result, success if they are one.

    Locking: takes the page locks by trylock; caller must hold no lock.
    """
    slot = cache_slot(m, file, first)
    if first + HPAGE_PMD_NR > m.config.file_pages[0]:
        return SCAN_TRUNCATED
    if read_once(m.cache.order, slot) == HPAGE_PMD_ORDER:
        return SCAN_SUCCEED
    head = alloc_huge_page(m, cpu)
    if head == 0:
        return SCAN_ALLOC_HUGE_PAGE_FAIL
    locked = lock_pages(m, cpu, slot)
    result = SCAN_PAGE_LOCK
    if locked == HPAGE_PMD_NR:
        result = collapse_locked_pages(m, cpu, file, first, slot, head)
    for i in range(locked):
        unlock_page(m, cpu, slot + i)
    if result != SCAN_SUCCEED:
        put_huge_page(m, cpu, head)
    return SCAN_SUCCEED if result == SCAN_PMD_MAPPED else result


@kernel
def maps_block(m, cpu, mm, pmd, addr, head):
    """SCAN_SUCCEED if the table at `pmd` has entries of the block `head` alone, each at its place.

    Locking: caller must hold mmap_lock; takes and releases ptl.
    """
    mmap_assert_locked(m, cpu, mm)
    table = pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return SCAN_SUCCEED
    result = SCAN_SUCCEED
    for i in range(HPAGE_PMD_NR):
        entry = read_once(m.entry, pte_offset(table, addr + i * PAGE))
        if entry != 0 and not pte_present(entry):
            result = SCAN_PTE_NON_PRESENT
            break
        if entry != 0 and (entry & FILE == 0 or entry >> PAGE_SHIFT != head + i):
            result = SCAN_FAIL
            break
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return result


@kernel
def take_small_pages(m, cpu, mm, file, addr):
    """Unmap what the caller maps of the 2 MiB at `addr`, and free its table. Locking: caller must hold mmap_lock for
    writing; takes i_mmap_lock, vmas_lock.
    """
    mmap_assert_write_locked(m, cpu, mm)
    i_mmap_lock(m, cpu, file)
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, addr, addr + PMD_SIZE, ZAP_KEEP_COWS)
    tlb_finish_mmu(m, cpu)
    vmas_lock(m, cpu, mm)
    retract_table(m, cpu, mm, addr)
    vmas_unlock(m, cpu, mm)
    i_mmap_unlock(m, cpu, file)


@kernel
def map_locked_block(m, cpu, mm, row, addr, slot):
    """collapse_pte_mapped_thp with mmap_lock and the lock of the first page held: a SCAN result."""
    if m.cache.order[slot] != HPAGE_PMD_ORDER:
        return SCAN_PAGE_COMPOUND
    pmd = pmd_alloc(m, cpu, mm, addr)
    if pmd < 0:
        return SCAN_FAIL
    entry = read_once(m.entry, pmd)
    if pmd_trans_huge(entry):
        return SCAN_PMD_MAPPED
    if entry != 0:
        result = maps_block(m, cpu, mm, pmd, addr, m.cache.frame[slot])
        if result != SCAN_SUCCEED:
            return result
        take_small_pages(m, cpu, mm, m.vma.file[row] - 1, addr)
    return SCAN_SUCCEED if do_set_pmd(m, cpu, mm, row, pmd, addr, slot) else SCAN_FAIL


@kernel
def collapse_pte_mapped_thp(m, cpu, mm, addr):
    """Map the huge page that the page cache has for the 2 MiB at `addr`: a SCAN result.

    Locking: takes and releases mmap_lock for writing and the first page's lock.
    """
    mmap_write_lock(m, cpu, mm)
    row = find_vma(m, mm, addr)
    result = SCAN_VMA_CHECK
    if row != 0 and file_leaf_fits(m, row, addr):
        slot = cache_slot(m, m.vma.file[row] - 1, linear_page_index(m, row, addr))
        lock_page(m, cpu, slot)
        result = map_locked_block(m, cpu, mm, row, addr, slot)
        unlock_page(m, cpu, slot)
    mmap_write_unlock(m, cpu, mm)
    return result


@kernel
def file_at(m, cpu, mm, addr):
    """The file whose pages may become a huge page at `addr`, and the first of them; -1 if it is none.

    Locking: takes and releases mmap_lock for reading.
    """
    file, first = -1, 0
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, addr)
    if row != 0 and file_leaf_fits(m, row, addr):
        file, first = m.vma.file[row] - 1, linear_page_index(m, row, addr)
    mmap_read_unlock(m, cpu, mm)
    return file, first


@kernel
def collapse_at(m, cpu, mm, addr):
    """Collapse the 2 MiB at `addr`, whatever is mapped there: a SCAN result. Locking: caller must hold no lock."""
    file, first = file_at(m, cpu, mm, addr)
    if file < 0:
        return collapse_one(m, cpu, mm, addr)
    result = collapse_file(m, cpu, file, first)
    return collapse_pte_mapped_thp(m, cpu, mm, addr) if result == SCAN_SUCCEED else result


@kernel
def collapse_allowed(m, cpu, mm, start):
    """True if the VMA of `start` has room for a huge page and may have one: else MADV_COLLAPSE does not look further.

    Locking: takes and releases mmap_lock for reading.
    """
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    allowed = row != 0
    if allowed:
        last = (m.vma.end[row] & -PMD_SIZE) - PMD_SIZE
        allowed = file_leaf_fits(m, row, last) or hugepage_vma(m, mm, last) == row
    mmap_read_unlock(m, cpu, mm)
    return allowed


@kernel
def collapse_vma(m, cpu, mm, start, end):
    """MADV_COLLAPSE of [start, end), which lay in one VMA: 0 or -errno.

    Locking: as collapse_at, for each 2 MiB; in between VMAs may change.
    """
    if not collapse_allowed(m, cpu, mm, start):
        return -EINVAL
    first, until = (start + PMD_SIZE - 1) & -PMD_SIZE, end & -PMD_SIZE
    done = 0
    result = SCAN_FAIL
    addr = first
    while addr < until:
        last = collapse_at(m, cpu, mm, addr)
        if last == SCAN_SUCCEED or last == SCAN_PMD_MAPPED:
            done += 1
        else:
            result = last
            if not goes_on(last):
                break
        addr += PMD_SIZE
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
    return 0 if done * PMD_SIZE == until - first else madvise_collapse_errno(result)
