"""The folio of a huge page: its 512 frames stay together when the leaf is split, until advice takes them apart.

A frame of it has LARGE in page.mapping. Advice about a part of it splits the folio first. The zero page takes the place
of pages that hold nothing but zeroes, so RssAnon falls to what was stored to. A folio that two mms map, or that is
pinned, is left alone, as are the pages of it.

Source: madvise_cold_or_pageout_pte_range and madvise_free_pte_range, mm/madvise.c; split_folio, mm/huge_memory.c;
try_to_map_unused_to_zeropage, mm/migrate.c, since 6.13.
"""

from emulator.atomic import atomic_add, atomic_inc_not_zero, kernel, read_once, write_once
from emulator.huge.huge_memory import HUGE_ZERO_PAGE, split_huge_pmd
from emulator.mm_types import LARGE, LAZYFREE
from emulator.pages.page_alloc import put_page
from emulator.pages.pagemap import trylock_anon_page, unlock_anon_page
from emulator.pages.vma import pte_modify
from emulator.pgtable import pmd_addr_end, pmd_lookup, pmd_trans_huge, pte_offset, pte_present, table_of
from emulator.pgtable_types import FILE, HPAGE_PMD_NR, PAGE, PAGE_SHIFT, PMD_SIZE, SPECIAL, UFFD_WP, ZERO_PTE
from emulator.policy.pte_ref import pte_lock, pte_put, pte_try_get, pte_unlock
from emulator.rmap_walks.page_vma_mapped import (
    clear_mapped_pte,
    page_vma_mapped_walk,
    put_mapped_page,
    replace_mapped_pte,
    rmap_walk_begin,
    rmap_walk_end,
)
from emulator.tables.rcu import cond_resched
from emulator.uapi import VM_LOCKED
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_locked
from emulator.watch.paths import path_number, took

SPLIT_FOLIO = path_number("folio, split")
INDEX_BITS = 9


@kernel
def folio_busy(m, head):
    """True if a page of the folio is mapped twice, or has users besides its mapping."""
    for frame in range(head, head + HPAGE_PMD_NR):
        if read_once(m.page.mapping, frame) & LARGE:
            mapped = read_once(m.page.mapcount, frame)
            if mapped > 1 or read_once(m.page.refcount, frame) != mapped:
                return True
    return False


@kernel
def zero_filled(m, frame):
    """True if a frame holds nothing but zeroes."""
    words = m.config.frame_words[0]
    for word in range(frame * words, (frame + 1) * words):
        if read_once(m.frame, word) != 0:
            return False
    return True


@kernel
def map_unused_to_zeropage(m, cpu, pte, frame):
    """Let the zero page take the place of the page of the walk if that holds nothing and is neither locked nor pinned.

    It is looked at when nobody can store to it any more. Locking: caller must hold ptl, the page lock and a reference.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    flags = m.vma.flags[m.pvmw.vma[cpu]]
    if flags & VM_LOCKED or not zero_filled(m, frame):
        return
    entry = clear_mapped_pte(m, cpu, pte, True)
    if entry == 0:
        return
    if not zero_filled(m, frame):
        write_once(m.entry, pte, entry)
        return
    replace_mapped_pte(m, cpu, pte, entry, pte_modify(ZERO_PTE | entry & UFFD_WP, flags))
    put_mapped_page(m, frame)
    atomic_add(m.mm.rss_anon, m.pvmw.mm[cpu], -1)


@kernel
def split_folio_page(m, cpu, frame):
    """Take one page out of its folio. Locking: takes the page lock by trylock, the anon_vma lock and ptl."""
    if not atomic_inc_not_zero(m.page.refcount, frame):
        return
    if trylock_anon_page(m, cpu, frame):
        if read_once(m.page.mapping, frame) & LARGE:
            rmap_walk_begin(m, cpu, frame, 1, 0)
            pte = page_vma_mapped_walk(m, cpu)
            write_once(m.page.mapping, frame, read_once(m.page.mapping, frame) & ~LARGE)
            if pte != 0:
                map_unused_to_zeropage(m, cpu, pte, frame)
            rmap_walk_end(m, cpu)
        unlock_anon_page(m, cpu, frame)
    put_page(m, cpu, frame)


@kernel
def split_folio(m, cpu, head):
    """Make small pages of a folio. Locking: as split_folio_page; caller must hold mmap_lock."""
    took(m, cpu, SPLIT_FOLIO)
    for frame in range(head, head + HPAGE_PMD_NR):
        if read_once(m.page.mapping, frame) & LARGE:
            split_folio_page(m, cpu, frame)
            cond_resched(m, cpu)


@kernel
def folio_of(m, pte):
    """The head of the folio whose page a PTE maps, or 0. Locking: caller must hold ptl."""
    entry = read_once(m.entry, pte)
    frame = entry >> PAGE_SHIFT
    if not pte_present(entry) or entry & (SPECIAL | FILE) or read_once(m.page.mapping, frame) & LARGE == 0:
        return 0
    return frame & -HPAGE_PMD_NR


@kernel
def maps_whole_folio(m, table):
    """The head of the folio whose pages the entries of a table map, one after the other, else 0.

    Locking: caller must hold ptl.
    """
    head = folio_of(m, table << INDEX_BITS)
    for i in range(HPAGE_PMD_NR if head != 0 else 0):
        pte = table << INDEX_BITS | i
        if folio_of(m, pte) != head or read_once(m.entry, pte) >> PAGE_SHIFT != head + i:
            return 0
    return head


@kernel
def find_folio(m, cpu, mm, pmd, addr, end):
    """The first page of a folio that [addr, end), in one PTE table, maps: head << 9 | its number in the range, or 0.

    -head if the range is all of a table, and that all of the folio. Locking: caller must hold mmap_lock; takes and
    releases ptl.
    """
    mmap_assert_locked(m, cpu, mm)
    table = pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return 0
    found = -maps_whole_folio(m, table) if end - addr == PMD_SIZE else 0
    page = 0
    while found == 0 and addr + page * PAGE < end:
        head = folio_of(m, pte_offset(table, addr + page * PAGE))
        if head != 0:
            found = head << INDEX_BITS | page
        page += 1
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return found


@kernel
def split_mapped_folios(m, cpu, mm, pmd, addr, end, whole):
    """split_folios for [addr, end), in one PTE table. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    while addr < end:
        found = find_folio(m, cpu, mm, pmd, addr, end)
        if found == 0:
            return
        head = -found if found < 0 else found >> INDEX_BITS
        lazy = read_once(m.page.mapping, head) & LAZYFREE
        if (found > 0 or (whole and lazy == 0)) and not folio_busy(m, head):
            split_folio(m, cpu, head)
        addr = end if found < 0 else addr + ((found & HPAGE_PMD_NR - 1) + 1) * PAGE


@kernel
def split_leaf_folio(m, cpu, mm, pmd, addr, end, whole):
    """split_folios for [addr, end), of which a leaf at `pmd` maps all. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    head = read_once(m.entry, pmd) >> PAGE_SHIFT
    lazy = read_once(m.page.mapping, head) & LAZYFREE
    if head == HUGE_ZERO_PAGE or folio_busy(m, head) or (end - addr == PMD_SIZE and (not whole or lazy)):
        return
    split_huge_pmd(m, cpu, mm, pmd, addr)
    split_folio(m, cpu, head)


@kernel
def split_folios(m, cpu, mm, addr, end, whole):
    """Split the folios that [addr, end) has a part of. With `whole` those that lie in it are split too, unless
    MADV_FREE has given them up. Locking: caller must hold mmap_lock, and have no gather open.
    """
    mmap_assert_locked(m, cpu, mm)
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        entry = 0 if pmd == 0 else read_once(m.entry, pmd)
        if pmd_trans_huge(entry) and entry & FILE == 0:
            split_leaf_folio(m, cpu, mm, pmd, addr, following, whole)
        elif entry != 0:
            split_mapped_folios(m, cpu, mm, pmd, addr, following, whole)
        addr = following
        cond_resched(m, cpu)
