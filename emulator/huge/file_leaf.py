"""A leaf that maps a huge page of a file: no table lies under it, and a split only takes it away.

    page cache: a folio of 512 frames side by side, cache.order 9
    pmd none --a fault, MADV_COLLAPSE--> leaf --split, zap--> pmd none

A fault behind a split finds the pages in the cache, and maps the leaf again, or pages where the VMA no longer covers
it. The lock of its first page keeps a folio together, from the look at cache.order to the leaf. A hole takes the folio
apart, into halves, quarters and so on (truncate.py). Its frames are counted one by one, as those of any block.

Source: do_set_pmd, mm/memory.c; __split_huge_pmd_locked, mm/huge_memory.c.
"""

from emulator.atomic import atomic_add, kernel, read_once, smp_store_release, xchg
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.pages.huge_page import add_mapcounts, put_huge_page
from emulator.pages.pagemap import cache_slot, trylock_page, unlock_page
from emulator.pages.vma import linear_page_index, pte_modify
from emulator.pgtable import table_of
from emulator.pgtable_types import (
    ACCESSED,
    DIRTY,
    FILE,
    HPAGE_PMD_NR,
    HPAGE_PMD_ORDER,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PRESENT,
    PSE,
    SOFT_DIRTY,
    USER,
)
from emulator.tables.unhook import note_pmd_cleared
from emulator.uapi import VM_FILE, VM_NOHUGEPAGE, VM_SHARED
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_locked
from emulator.watch.paths import path_number, took

MAP_LEAF = path_number("huge page of a file, mapped")
SPLIT_LEAF = path_number("huge page of a file, split")


@kernel
def file_leaf_fits(m, row, addr):
    """True if the VMA at `row` may map a huge page of shared memory at `addr`. The VMA covers the 2 MiB, which
    are aligned in the file.

    Locking: caller must hold mmap_lock. Source: thp_vma_suitable_order.
    """
    if m.vma.flags[row] & (VM_FILE | VM_NOHUGEPAGE) != VM_FILE or m.file.shmem[m.vma.file[row] - 1] == 0:
        return False
    start = addr & -PMD_SIZE
    aligned = linear_page_index(m, row, start) % HPAGE_PMD_NR == 0
    return aligned and m.vma.start[row] <= start and start + PMD_SIZE <= m.vma.end[row]


@kernel
def folio_at(m, row, addr):
    """The first address of the folio of a file that the VMA at `row` maps at `addr`, and its pages: faults map all of
    it. The page alone if the VMA, or the table, has a part of it. Locking: caller must hold mmap_lock.
    """
    addr &= -PAGE
    pgoff = linear_page_index(m, row, addr)
    if pgoff >= m.config.file_pages[0]:
        return addr, 1
    order = read_once(m.cache.order, cache_slot(m, m.vma.file[row] - 1, pgoff))
    start = addr - pgoff % (1 << order) * PAGE
    end = start + (PAGE << order)
    one_table = start & -PMD_SIZE == (end - PAGE) & -PMD_SIZE
    if start < m.vma.start[row] or end > m.vma.end[row] or not one_table:
        return addr, 1
    return start, 1 << order


@kernel
def install_file_leaf(m, cpu, mm, row, pmd, head):
    """Let a leaf for the block `head` stand at `pmd` if that is none; True if done.

    Locking: takes and releases pmd_lock; caller must hold the first page's lock.
    """
    entry = head << PAGE_SHIFT | PSE | FILE | PRESENT | USER | ACCESSED
    flags = m.vma.flags[row]
    if flags & VM_SHARED:
        entry |= DIRTY | SOFT_DIRTY  # no store need be noticed: page_prot
    pmd_lock(m, cpu, pmd)
    done = read_once(m.entry, pmd) == 0
    if done:
        took(m, cpu, MAP_LEAF)
        for frame in range(head, head + HPAGE_PMD_NR):
            atomic_add(m.page.refcount, frame, 1)
        add_mapcounts(m, head, 1)
        atomic_add(m.mm.rss_file, mm, HPAGE_PMD_NR)
        smp_store_release(m.entry, pmd, pte_modify(entry, flags))
    pmd_unlock(m, cpu, pmd)
    return done


@kernel
def do_set_pmd(m, cpu, mm, row, pmd, addr, locked):
    """Map the huge page that the page cache has for the 2 MiB of `addr`, if there is one and it fits; True if done.

    Locking: caller must hold mmap_lock, and the page lock of `locked` unless that is negative. The lock of the first
    page is only tried, so a fault that is too late maps a small page.
    """
    mmap_assert_locked(m, cpu, mm)
    if read_once(m.entry, pmd) != 0 or not file_leaf_fits(m, row, addr):
        return False
    slot = cache_slot(m, m.vma.file[row] - 1, linear_page_index(m, row, addr & -PMD_SIZE))
    if read_once(m.cache.order, slot) != HPAGE_PMD_ORDER or (slot != locked and not trylock_page(m, cpu, slot)):
        return False
    done = m.cache.order[slot] == HPAGE_PMD_ORDER and install_file_leaf(m, cpu, mm, row, pmd, m.cache.frame[slot])
    if slot != locked:
        unlock_page(m, cpu, slot)
    return done


@kernel
def forget_file_leaf(m, mm, pmd, head):
    """A leaf of `head` was taken out of `pmd`: nobody maps its pages there. Their references are still the caller's."""
    note_pmd_cleared(m, mm, pmd)
    add_mapcounts(m, head, -1)
    atomic_add(m.mm.rss_file, mm, -HPAGE_PMD_NR)


@kernel
def split_file_leaf(m, cpu, mm, pmd, addr):
    """Take the leaf at `pmd` away, and flush. Locking: caller must hold pmd_lock."""
    assert_ptl_held(m, cpu, table_of(pmd))
    took(m, cpu, SPLIT_LEAF)
    entry = xchg(m.entry, pmd, 0)
    start = addr & -PMD_SIZE
    flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 0)
    forget_file_leaf(m, mm, pmd, entry >> PAGE_SHIFT)
    put_huge_page(m, cpu, entry >> PAGE_SHIFT)  # the page cache keeps them
