"""Copy-on-write: a write fault on a present entry that is read-only."""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_wmb,
    write_once,
    xchg,
)
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.pages.page_alloc import alloc_page, clear_page, copy_page, put_page
from emulator.pages.rmap import page_add_new_anon_rmap
from emulator.pages.rss import add_mm_rss
from emulator.pages.swap_state import free_page_and_swap_cache
from emulator.pages.vma import anon_vma_prepare
from emulator.pgtable import pgtable_of, set_bits
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    ANON_PTE,
    DIRTY,
    PAGE,
    PAGE_SHIFT,
    RW,
    SOFT_DIRTY,
    ZERO_PAGE,
)
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_unlock
from emulator.uapi import ENOMEM
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.shadow import shadow_own

WRITE_REUSE = path_number("write to a frame of one user")
WRITE_SHARED = path_number("write to a shared frame")
WRITE_ZERO_PAGE = path_number("write to the zero page")


@kernel_inline
def same_but_bits(entry, orig):
    """True if an entry is still what it was: the hardware may have set its accessed and dirty bits meanwhile."""
    return entry & ~(ACCESSED | DIRTY) == orig & ~(ACCESSED | DIRTY)


@kernel
def wp_page_reuse(m, mm, pte, addr):
    """Let a write-protected frame be written. Locking: caller must hold ptl, and know that nobody shares the frame."""
    if DEBUG:
        shadow_own(m, mm, pgtable_of(read_once(m.entry, pte)), addr)
    set_bits(m, pte, RW | ACCESSED | DIRTY | SOFT_DIRTY | ANON_EXCLUSIVE)


@kernel
def wp_page_copy(m, cpu, mm, vma, pmd, table, pte, addr, orig):
    """Give a write-protected PTE, of the zero page or of a shared frame, a frame of its own. 0 or -ENOMEM.

    The old translation is flushed before the new one is set, under ptl (ptep_clear_flush). The entry stays counted.
    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    mmap_assert_locked(m, cpu, mm)
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    old = orig >> PAGE_SHIFT
    if old == ZERO_PAGE:
        took(m, cpu, WRITE_ZERO_PAGE)
        clear_page(m, frame)
    else:
        copy_page(m, frame, old)
        if DEBUG:
            shadow_own(m, mm, frame, addr)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    held = pte_lock(m, cpu, pmd, table)
    same = held and same_but_bits(read_once(m.entry, pte), orig)
    if same:
        page = addr & -PAGE
        xchg(m.entry, pte, 0)
        flush_tlb_mm_range(m, cpu, mm, page, page + PAGE, 0)
        page_add_new_anon_rmap(m, mm, vma, addr, frame)
        write_once(m.entry, pte, frame << PAGE_SHIFT | ANON_PTE)
        entry_changed(m, cpu, pmd, orig, frame << PAGE_SHIFT | ANON_PTE, 1)
        if old == ZERO_PAGE:
            add_mm_rss(m, cpu, mm, 1)
        else:
            atomic_add(m.page.mapcount, old, -1)
    if held:
        pte_unlock(m, cpu, table)
    if not same:
        put_page(m, cpu, frame)
    elif old != ZERO_PAGE:
        free_page_and_swap_cache(m, cpu, old)
    return 0


@kernel
def get_page_of(m, cpu, pmd, table, pte, orig):
    """Take a reference on the frame of a PTE if that is the same still; True if so.

    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    if not pte_lock(m, cpu, pmd, table):
        return False
    same = same_but_bits(read_once(m.entry, pte), orig)
    if same:
        atomic_add(m.page.refcount, orig >> PAGE_SHIFT, 1)
    pte_unlock(m, cpu, table)
    return same


@kernel
def do_wp_page(m, cpu, mm, vma, pmd, table, pte, addr, orig):
    """Write fault on a present read-only PTE: break COW. 0 or -ENOMEM.

    A frame with one user is this entry's alone: fork, which would add another, needs mmap_lock for writing.
    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    mmap_assert_locked(m, cpu, mm)
    frame = orig >> PAGE_SHIFT
    if frame == ZERO_PAGE:
        return wp_page_copy(m, cpu, mm, vma, pmd, table, pte, addr, orig)
    if read_once(m.page_slot, frame) != 0 and get_page_of(m, cpu, pmd, table, pte, orig):
        free_page_and_swap_cache(m, cpu, frame)  # or the cache would be taken for somebody who shares it
    if not pte_lock(m, cpu, pmd, table):
        return 0
    entry = read_once(m.entry, pte)
    same = same_but_bits(entry, orig)
    users = read_once(m.page.refcount, frame)
    if knob(m.config.reuse_by_mapcount):
        users = read_once(m.page.mapcount, frame)
    alone = users == 1 and read_once(m.page.mapping, frame) != 0  # KSM's are copied
    shared = same and entry & ANON_EXCLUSIVE == 0 and not alone
    if shared:
        took(m, cpu, WRITE_SHARED)
        atomic_add(m.page.refcount, frame, 1)  # get_page: it stays while it is copied
    elif same:
        took(m, cpu, WRITE_REUSE)
        wp_page_reuse(m, mm, pte, addr)
    pte_unlock(m, cpu, table)
    if not shared:
        return 0
    result = wp_page_copy(m, cpu, mm, vma, pmd, table, pte, addr, orig)
    put_page(m, cpu, frame)
    return result
