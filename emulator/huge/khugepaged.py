"""Collapse: the pages of 2 MiB move into a huge page, and the PTE table is kept under it.

    collapse                              fast GUP                        hardware of another CPU
    ========                              ========                        =======================
    scan: the table pinned, ptl
    mmap_lock for writing: no fault,
      no slow GUP, no walker of the mm
    anon_vma lock: no rmap walker
    pmd_lock: clears the pmd              reads the pmd: none
    flush, tables included                                                forgets the table
    IPI: waits until interrupts are on    reads the old pmd, counts the
                                            frame, looks again: changed
    every page: is it pinned?
    copies the pages, clears the entries
    pmd_lock: deposits the table, sets the leaf

After the IPI nobody knows the table, so its pages may be copied, and a zap of the leaf may free it at once. Without the
IPI a fast GUP may pin a page that has been looked at (it must see the pmd gone then: 70cbc3cc78a9). Or it may go on in
a table that was freed and used again (2ba99c5e0881).

Here MADV_COLLAPSE alone collapses (syscalls/collapse.py); no daemon does by itself.

Source: hpage_collapse_scan_pmd and collapse_huge_page, mm/khugepaged.c.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    kernel,
    knob,
    or_words,
    read_once,
    smp_store_release,
    smp_wmb,
    write_once,
    xchg,
)
from emulator.bug import BUG
from emulator.cpu.flush import flush_tlb_mm_range, tlb_remove_table_sync_one
from emulator.cpu.interrupts import point
from emulator.huge.huge_memory import (
    HUGE_ZERO_PAGE,
    page_add_huge_anon_rmap,
    pgtable_trans_huge_deposit,
    transhuge_vma_suitable,
)
from emulator.locking.mmap_lock import (
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock_only,
    mmap_write_unlock,
)
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.locking.vma_lock import vma_start_write
from emulator.pages.huge_page import alloc_huge_page, clear_huge_page, put_huge_page
from emulator.pages.page_alloc import copy_page, put_page
from emulator.pages.rss import add_mm_rss
from emulator.pages.vma import find_vma, vmas_lock, vmas_unlock
from emulator.pgtable import entry_at, pgtable_of, pmd_lookup, pmd_trans_huge, populate, pte_present
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    DIRTY,
    FILE,
    HPAGE_PMD_NR,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PRESENT,
    PROTNONE,
    PSE,
    PTE_MARKER_GUARD,
    PTE_MARKER_UFFD_WP,
    RW,
    SOFT_DIRTY,
    UFFD_WP,
    USER,
)
from emulator.policy.pte_ref import pte_lock, pte_put, pte_table_emptied, pte_try_get, pte_unlock
from emulator.uapi import (
    VM_ACCESS_FLAGS,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_UFFD,
    VM_WRITE,
)
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_own

ENTRIES_PER_LINE = 8  # an empty cache line of a table is passed over at once
SCAN_SUCCEED, SCAN_PMD_MAPPED, SCAN_PMD_NULL, SCAN_FAIL = 0, 1, 2, 3
SCAN_PTE_NON_PRESENT, SCAN_PAGE_COUNT, SCAN_ALLOC_HUGE_PAGE_FAIL, SCAN_VMA_CHECK, SCAN_PMD_NONE = 4, 5, 6, 7, 8
SCAN_EXCEED_NONE_PTE, SCAN_PTE_UFFD_WP = 9, 10
SCAN = path_number("collapse, scan")
BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
COLLAPSE = path_number("collapse")
COLLAPSING = point_number("collapse.unhooked")
ISOLATED = point_number("collapse.isolated")
SCANNED = point_number("collapse.scanned")


@kernel
def collapse_line(m, first, watched):
    """collapse_entries for one line of a table, the entries from `first` on."""
    result = SCAN_SUCCEED
    for pte in range(first, first + ENTRIES_PER_LINE):
        entry = read_once(m.entry, pte)
        frame = entry >> PAGE_SHIFT
        if entry == PTE_MARKER_UFFD_WP or entry & UFFD_WP:
            return SCAN_PTE_UFFD_WP
        if entry == PTE_MARKER_GUARD or entry & FILE:
            result = max(result, SCAN_FAIL)  # no page comes in where a guard is, which is seen last
            continue
        if entry != 0 and not pte_present(entry):
            return SCAN_PTE_NON_PRESENT
        if watched and frame == HUGE_ZERO_PAGE:
            return SCAN_EXCEED_NONE_PTE
        if entry != 0 and frame != HUGE_ZERO_PAGE:
            if read_once(m.page.refcount, frame) != read_once(m.page.mapcount, frame):
                result = SCAN_PAGE_COUNT
    return result


@kernel
def collapse_entries(m, table, watched):
    """SCAN_SUCCEED if the entries of a table are pages that nobody else uses, the zero page, or none. All must be pages
    if userfaultfd has `watched` them.

    A page with more users than mappings is pinned. Locking: caller must hold the ptl, or know that nobody else
    can change an entry.
    """
    result = SCAN_SUCCEED
    for first in range(entry_at(table, 0), entry_at(table + 1, 0), ENTRIES_PER_LINE):
        if watched or or_words(m.entry, first, ENTRIES_PER_LINE) != 0:
            line = collapse_line(m, first, watched)
            if line in (SCAN_PTE_NON_PRESENT, SCAN_PTE_UFFD_WP, SCAN_EXCEED_NONE_PTE):
                return line
            result = max(result, line)
    return result


@kernel
def hpage_collapse_scan_pmd(m, cpu, mm, row, addr):
    """What a collapse of the 2 MiB at `addr`, of the VMA at `row`, would meet: a SCAN result.

    Locking: caller must hold mmap_lock; takes and releases ptl.
    """
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    entry = 0 if pmd == 0 else read_once(m.entry, pmd)
    if pmd_trans_huge(entry):
        return SCAN_PMD_MAPPED
    if pmd == 0:
        return SCAN_PMD_NULL
    table = 0 if entry == 0 else pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return SCAN_PMD_NONE
    took(m, cpu, SCAN)
    result = collapse_entries(m, table, m.vma.flags[row] & VM_UFFD != 0)
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return result


@kernel
def collapse_copy_page(m, cpu, mm, entry, frame, addr):
    """Bring the page that `entry` maps at `addr` into `frame`, and let go of it: 1, or 0 if it maps none."""
    old = entry >> PAGE_SHIFT
    if entry == 0 or old == HUGE_ZERO_PAGE:
        return 0
    copy_page(m, frame, old)
    if DEBUG:
        shadow_own(m, mm, frame, addr)
    atomic_add(m.page.mapcount, old, -1)
    put_page(m, cpu, old)
    return 1


@kernel
def collapse_copy(m, cpu, mm, table, head, addr):
    """Bring the pages of a table, which nobody can reach, into a block, and empty it. How many pages it had."""
    clear_huge_page(m, head)
    pages = cleared = 0
    for first in range(0, HPAGE_PMD_NR, ENTRIES_PER_LINE):
        if or_words(m.entry, entry_at(table, first), ENTRIES_PER_LINE) != 0:
            for i in range(first, first + ENTRIES_PER_LINE):
                entry = read_once(m.entry, entry_at(table, i))
                write_once(m.entry, entry_at(table, i), 0)
                cleared += entry != 0
                pages += collapse_copy_page(m, cpu, mm, entry, head + i, addr + i * PAGE)
    pte_table_emptied(m, cpu, table, cleared)
    return pages


@kernel
def take_table_out(m, cpu, mm, pmd, addr):
    """Clear the pmd, and wait until nobody can be looking at its table: the entry it held.

    Locking: takes and releases pmd_lock; caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    pmd_lock(m, cpu, pmd)
    entry = xchg(m.entry, pmd, 0)
    flush_tlb_mm_range(m, cpu, mm, addr, addr + PMD_SIZE, 1)
    pmd_unlock(m, cpu, pmd)
    point(m, cpu, COLLAPSING, pgtable_of(entry), pmd)
    if not (knob(m.config.collapse_without_ipi) or (DEBUG and m.config.broadcast_flush[0] == 2)):
        tlb_remove_table_sync_one(m, cpu)
    return entry


@kernel
def set_collapsed(m, cpu, mm, pmd, table, entry):
    """Let the leaf `entry` stand at `pmd`, over the table that did. Locking: as take_table_out."""
    pmd_lock(m, cpu, pmd)
    pgtable_trans_huge_deposit(m, cpu, mm, pmd, table)
    smp_store_release(m.entry, pmd, entry)
    pmd_unlock(m, cpu, pmd)


@kernel
def put_table_back(m, cpu, mm, pmd, table):
    """The collapse has failed: everything is as it was. Locking: as take_table_out."""
    pmd_lock(m, cpu, pmd)
    populate(m, mm, pmd, table)
    pmd_unlock(m, cpu, pmd)


@kernel
def collapse_huge_page(m, cpu, mm, row, addr, head):
    """Move the pages of the 2 MiB at `addr` into the block `head`, and map that: a SCAN result.

    If it fails the block is still the caller's. Locking: caller must hold mmap_lock for writing, and vmas_lock since it
    has seen the table.
    """
    mmap_assert_write_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    table = pgtable_of(take_table_out(m, cpu, mm, pmd, addr))
    if table == 0:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], 0)
    result = collapse_entries(m, table, m.vma.flags[row] & VM_UFFD != 0)
    if result != SCAN_SUCCEED:
        put_table_back(m, cpu, mm, pmd, table)
        return result
    took(m, cpu, COLLAPSE)
    point(m, cpu, ISOLATED, table, pmd)
    page_add_huge_anon_rmap(m, mm, row, addr, head)
    pages = collapse_copy(m, cpu, mm, table, head, addr)
    smp_wmb()  # the contents before the entry that leads to them
    entry = head << PAGE_SHIFT | PSE | USER | ACCESSED | DIRTY | SOFT_DIRTY | ANON_EXCLUSIVE
    flags = m.vma.flags[row]
    entry |= PRESENT if flags & VM_ACCESS_FLAGS else PROTNONE
    set_collapsed(m, cpu, mm, pmd, table, entry | (RW if flags & VM_WRITE else 0))
    add_mm_rss(m, cpu, mm, HPAGE_PMD_NR - pages)
    return SCAN_SUCCEED


@kernel
def hugepage_vma(m, mm, addr):
    """The row of the VMA that may have a huge page over the 2 MiB at `addr`, or 0.

    Locking: caller must hold mmap_lock.
    """
    row = find_vma(m, mm, addr)
    if row == 0 or not transhuge_vma_suitable(m, row, addr):
        return 0
    allowed = m.vma.flags[row] & (VM_NOHUGEPAGE | VM_PFNMAP) == 0
    return row if allowed and read_once(m.vma.anon_vma, row) != 0 else 0


@kernel
def collapse_one(m, cpu, mm, addr):
    """Collapse the 2 MiB at `addr`: a SCAN result. Locking: takes mmap_lock, for reading, then for writing."""
    mmap_read_lock(m, cpu, mm)
    row = hugepage_vma(m, mm, addr)
    result = SCAN_VMA_CHECK if row == 0 else hpage_collapse_scan_pmd(m, cpu, mm, row, addr)
    mmap_read_unlock(m, cpu, mm)
    if result != SCAN_SUCCEED:
        return result
    head = alloc_huge_page(m, cpu)
    if head == 0:
        return SCAN_ALLOC_HUGE_PAGE_FAIL
    mmap_write_lock_only(m, cpu, mm)
    row = hugepage_vma(m, mm, addr)
    result = SCAN_VMA_CHECK
    if row != 0:
        late = knob(m.config.collapse_late_vma_lock)
        if not late:
            vma_start_write(m, cpu, mm, row)  # before the look: MADV_DONTNEED may be freeing the table (366a4532d96f)
        early = late or knob(m.config.collapse_stale_scan)
        if early:
            result = hpage_collapse_scan_pmd(m, cpu, mm, row, addr)
            point(m, cpu, SCANNED, pmd_lookup(m, mm, addr), addr)
        if late:
            vma_start_write(m, cpu, mm, row)
        vmas_lock(m, cpu, mm)  # no rmap walker may be in the table; reclaim may have freed it before
        if not early:
            result = hpage_collapse_scan_pmd(m, cpu, mm, row, addr)
        if result == SCAN_SUCCEED:
            result = collapse_huge_page(m, cpu, mm, row, addr, head)
        vmas_unlock(m, cpu, mm)
    mmap_write_unlock(m, cpu, mm)
    if result != SCAN_SUCCEED:
        put_huge_page(m, cpu, head)
    return result
