"""One PTE gets another page: KSM lets two pages with the same words be one frame, a uprobe puts a copy in its place.

    KSM, mmap_lock for reading               another CPU
    ==========================               ===========
    both pages write-protected, flushed      stores: a fault, which copies: somebody else has the page
    the same words?
    ptl: is it the page still?
      clear, flush, the other page           finds the other page, write-protected

The entry stays counted. What a KSM page is mapped for is not noted in page.mapping (it has none). It is copied at the
first store even by its last user, and neither reclaimed nor migrated. A uprobe that finds the words of the page's
original, of the file or zero, takes the page away instead. The entry becomes none, and its table may go.

Source: try_to_merge_one_page, write_protect_page and replace_page, mm/ksm.c; __replace_page, kernel/events/uprobes.c.
"""

from emulator.atomic import DEBUG, atomic_add, kernel, read_once, smp_wmb, write_once
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.page_alloc import alloc_page, copy_page, put_page
from emulator.pages.pagemap import anon_page_row, cache_slot, trylock_anon_page, unlock_anon_page
from emulator.pages.rmap import page_add_new_anon_rmap
from emulator.pages.vma import linear_page_index, pte_modify, vma_lookup
from emulator.pgtable_types import ACCESSED, ANON_EXCLUSIVE, DIRTY, PAGE, PAGE_SHIFT, RW, SOFT_DIRTY, USER, ZERO_PAGE
from emulator.rmap_walks.page_vma_mapped import (
    clear_mapped_pte,
    get_page_at,
    page_vma_mapped_at,
    page_vma_mapped_walk_done,
    put_mapped_page,
    replace_mapped_pte,
)
from emulator.uapi import EFAULT, EINVAL, ENOMEM
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.shadow import FORKED, shadow_own

KSM = path_number("KSM")
UPROBE = path_number("uprobe")


@kernel
def write_protect_page(m, cpu, mm, addr, frame):
    """Let nobody store to an anonymous page; False if it is not mapped at `addr` alone, or pinned.

    Locking: caller must hold mmap_lock, the page lock and a reference on the page.
    """
    mmap_assert_locked(m, cpu, mm)
    pte = page_vma_mapped_at(m, cpu, mm, addr, frame)
    entry = 0
    alone = read_once(m.page.mapcount, frame) == 1 and read_once(m.page.mapping, frame) != 0
    if pte != 0 and alone and read_once(m.page_slot, frame) == 0:
        entry = clear_mapped_pte(m, cpu, pte, True)
    if entry != 0:
        write_once(m.entry, pte, entry & ~(RW | ANON_EXCLUSIVE))
    page_vma_mapped_walk_done(m, cpu)
    return entry != 0


@kernel
def same_words(m, one, other):
    """True if two frames hold the same."""
    words = m.config.frame_words[0]
    for word in range(words):
        if read_once(m.frame, one * words + word) != read_once(m.frame, other * words + word):
            return False
    return True


@kernel
def replace_page(m, cpu, mm, addr, old, new, entry):
    """Let `entry`, which maps `new`, take the place of the PTE that maps `old`. 0 if there is no such PTE, or a CPU may
    store through it. Nothing takes its place if `entry` is 0. Locking: as write_protect_page.
    """
    pte = page_vma_mapped_at(m, cpu, mm, addr, old)
    was = clear_mapped_pte(m, cpu, pte, True) if pte != 0 and read_once(m.entry, pte) & RW == 0 else 0
    if was != 0:
        replace_mapped_pte(m, cpu, pte, was, entry)
        atomic_add(m.mm.rss_anon, mm, -1 if entry == 0 else 0)
        put_mapped_page(m, old)
    page_vma_mapped_walk_done(m, cpu)
    return was != 0


@kernel
def try_to_merge_pages(m, cpu, mm, vma, addr, page, kpage_addr, kpage):
    """Let `addr` map `kpage` in place of `page` if both hold the same. Locking: as write_protect_page, for both."""
    if not write_protect_page(m, cpu, mm, kpage_addr, kpage) or not write_protect_page(m, cpu, mm, addr, page):
        return
    if not same_words(m, page, kpage):
        return
    took(m, cpu, KSM)
    write_once(m.page.mapping, kpage, 0)
    if DEBUG:
        write_once(m.page_stored_by, kpage, FORKED)
    atomic_add(m.page.refcount, kpage, 1)
    atomic_add(m.page.mapcount, kpage, 1)
    entry = pte_modify(kpage << PAGE_SHIFT | USER | ACCESSED | DIRTY | SOFT_DIRTY, m.vma.flags[vma])
    if not replace_page(m, cpu, mm, addr, page, kpage, entry):
        put_mapped_page(m, kpage)


@kernel
def merge_locked(m, cpu, mm, vma, addr, page, kpage_addr, kpage):
    """try_to_merge_pages with both page locks, if nobody has them. Locking: caller must hold mmap_lock, references."""
    mmap_assert_locked(m, cpu, mm)
    if not trylock_anon_page(m, cpu, kpage):
        return
    one = anon_page_row(m, page) == anon_page_row(m, kpage)
    if one or trylock_anon_page(m, cpu, page):
        try_to_merge_pages(m, cpu, mm, vma, addr, page, kpage_addr, kpage)
        if not one:
            unlock_anon_page(m, cpu, page)
    unlock_anon_page(m, cpu, kpage)


@kernel
def ksm_merge(m, cpu, mm, addr, kpage_addr):
    """Let two addresses of anonymous pages with the same words map one frame, if it is possible now: 0 or -EFAULT.

    Locking: takes and releases mmap_lock for reading.
    """
    mmap_read_lock(m, cpu, mm)
    error = -EFAULT
    vma = vma_lookup(m, mm, addr)
    if vma != 0 and vma_lookup(m, mm, kpage_addr) != 0:
        error = 0
        page, kpage = get_page_at(m, cpu, mm, addr), get_page_at(m, cpu, mm, kpage_addr)
        if page != 0 and kpage != 0 and page != kpage:
            merge_locked(m, cpu, mm, vma, addr & -PAGE, page, kpage_addr & -PAGE, kpage)
        if page != 0:
            put_page(m, cpu, page)
        if kpage != 0:
            put_page(m, cpu, kpage)
    mmap_read_unlock(m, cpu, mm)
    return error


@kernel
def original_page(m, vma, addr):
    """The frame that a fault at `addr` would begin with: the page cache's, -1 if it is not there, or the zero page."""
    if m.vma.file[vma] == 0:
        return ZERO_PAGE
    index = linear_page_index(m, vma, addr)
    file = m.vma.file[vma] - 1
    if index >= read_once(m.file.size, file):
        return -1
    frame = read_once(m.cache.frame, cache_slot(m, file, index))
    return frame if frame != 0 else -1


@kernel
def uprobe_replace(m, cpu, mm, vma, addr, old):
    """Put a copy in place of the page at `addr`, or nothing if it holds what the original does: 0 or -ENOMEM.

    Locking: caller must hold mmap_lock for writing, the page lock and a reference on the page.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if not write_protect_page(m, cpu, mm, addr, old):
        return 0
    took(m, cpu, UPROBE)
    original = original_page(m, vma, addr)
    if original >= 0 and same_words(m, old, original):
        replace_page(m, cpu, mm, addr, old, 0, 0)
        return 0
    new = alloc_page(m, cpu)
    if new == 0:
        return -ENOMEM
    copy_page(m, new, old)
    if DEBUG:
        shadow_own(m, mm, new, addr)
    smp_wmb()  # the contents before the entry that leads to them
    page_add_new_anon_rmap(m, mm, vma, addr, new)
    entry = pte_modify(new << PAGE_SHIFT | USER | ACCESSED | DIRTY | SOFT_DIRTY | ANON_EXCLUSIVE, m.vma.flags[vma])
    if not replace_page(m, cpu, mm, addr, old, new, entry):
        m.page.mapcount[new] = 0
        put_page(m, cpu, new)
    return 0


@kernel
def uprobe(m, cpu, mm, addr):
    """Replace the anonymous page at `addr`, if there is one that is nobody else's: 0, -EINVAL outside of private
    mappings, or -ENOMEM. Locking: takes and releases mmap_lock for writing.
    """
    mmap_write_lock(m, cpu, mm)
    error = -EINVAL
    vma = vma_lookup(m, mm, addr)
    if vma != 0:
        error = 0
        old = get_page_at(m, cpu, mm, addr)
        if old != 0:
            if trylock_anon_page(m, cpu, old):
                error = uprobe_replace(m, cpu, mm, vma, addr & -PAGE, old)
                unlock_anon_page(m, cpu, old)
            put_page(m, cpu, old)
    if DEBUG:
        write_once(m.mm.moves, mm, m.mm.moves[mm] + 1)  # it replaces pinned pages, too, as Linux does
    mmap_write_unlock(m, cpu, mm)
    return error
