"""Copy-on-write, and a write fault on any other present entry that is read-only: do_wp_page.

    zero page             a fresh frame in its place
    shared frame          keeps the frame, copies it into one of its own
    frame of one user     sets RW
    file, private         as a shared frame
    file, shared          locks the page, waits for write-back, makes it dirty, sets RW

Source: do_wp_page, wp_page_copy, wp_page_reuse and wp_page_shared, mm/memory.c.
"""

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
from emulator.pages.pagemap import WRITEBACK, lock_page, set_page_dirty, unlock_page, wait_on_page_writeback
from emulator.pages.rmap import page_add_new_anon_rmap, page_remove_rmap
from emulator.pages.rss import add_mm_rss
from emulator.pages.swap_state import free_page_and_swap_cache
from emulator.pages.vma import anon_vma_prepare
from emulator.pgtable import pgtable_of, pte_offset, set_bits
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    ANON_PTE,
    DIRTY,
    FILE,
    PAGE,
    PAGE_SHIFT,
    RW,
    SOFT_DIRTY,
    ZERO_PAGE,
)
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_unlock
from emulator.uapi import ENOMEM, VM_SHARED
from emulator.watch.lockdep import lockdep_assert_held, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.shadow import shadow_copy, shadow_own

WRITE_PRIVATE_FILE = path_number("first write, private file")
WRITE_REUSE = path_number("write to a frame of one user")
WRITE_SHARED = path_number("write to a shared frame")
WRITE_SHARED_FILE = path_number("first write, shared file")
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
def copy_user_page(m, cpu, frame, source):
    """Copy a page of a file into a fresh frame of the fault's address."""
    copy_page(m, frame, source)
    shadow_copy(m, m.vmf.mm[cpu], m.vmf.addr[cpu], frame, source)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them


@kernel
def page_mkwrite(m, cpu, slot):
    """A page is about to be written through a mapping: wait until its old contents are on the disk, make it dirty.

    Locking: caller must hold the page lock. Source: do_page_mkwrite, filemap_page_mkwrite, wait_for_stable_page.
    """
    lockdep_assert_held(m, cpu, slot)
    wait_on_page_writeback(m, cpu, slot, WRITEBACK)
    set_page_dirty(m, slot)


@kernel
def fill_copy(m, cpu, frame, orig):
    """Give a fresh frame what the fault's entry `orig` maps."""
    source = orig >> PAGE_SHIFT
    if source == ZERO_PAGE:
        took(m, cpu, WRITE_ZERO_PAGE)
        clear_page(m, frame)
    elif orig & FILE:
        copy_user_page(m, cpu, frame, source)
    else:
        copy_page(m, frame, source)
        if DEBUG:
            shadow_own(m, m.vmf.mm[cpu], frame, m.vmf.addr[cpu])
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them


@kernel
def account_copy(m, cpu, mm, orig):
    """An entry that was `orig` maps a frame of its own now. Locking: caller must hold ptl."""
    old = orig >> PAGE_SHIFT
    if orig & FILE:
        took(m, cpu, WRITE_PRIVATE_FILE)
        page_remove_rmap(m, mm, old)
    elif old != ZERO_PAGE:
        atomic_add(m.page.mapcount, old, -1)


@kernel
def wp_page_copy(m, cpu):
    """Give the fault's entry, of the zero page, a shared frame or a page of a file, a frame of its own. 0 or -ENOMEM.

    The old translation is flushed before the new one is set, under ptl (ptep_clear_flush). The entry stays counted.
    Locking: takes and releases ptl; caller must hold mmap_lock, the fault's reference, and the frame.
    """
    mm, pmd, table, orig = m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.table[cpu], m.vmf.orig_pte[cpu]
    mmap_assert_locked(m, cpu, mm)
    addr, old = m.vmf.addr[cpu] & -PAGE, orig >> PAGE_SHIFT
    anon_vma_prepare(m, mm, m.vmf.vma[cpu])
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    fill_copy(m, cpu, frame, orig)
    pte = pte_offset(table, addr)
    held = pte_lock(m, cpu, pmd, table)
    same = held and same_but_bits(read_once(m.entry, pte), orig)
    if same:
        xchg(m.entry, pte, 0)
        flush_tlb_mm_range(m, cpu, mm, addr, addr + PAGE, 0)
        page_add_new_anon_rmap(m, mm, m.vmf.vma[cpu], addr, frame)
        write_once(m.entry, pte, frame << PAGE_SHIFT | ANON_PTE)
        entry_changed(m, cpu, pmd, table, orig, frame << PAGE_SHIFT | ANON_PTE, 1)
        account_copy(m, cpu, mm, orig)
    if held:
        pte_unlock(m, cpu, table)
    if not same:
        put_page(m, cpu, frame)
        return 0
    if old == ZERO_PAGE or orig & FILE:
        add_mm_rss(m, cpu, mm, 1)
    if orig & FILE:
        put_page(m, cpu, old)
    elif old != ZERO_PAGE:
        free_page_and_swap_cache(m, cpu, old)
    return 0


@kernel
def wp_page_shared(m, cpu):
    """First write to a page of a shared mapping: make it dirty, then the PTE writable. 0.

    Locking: takes and releases the page lock and ptl; caller must hold mmap_lock and the fault's reference.
    """
    table, orig = m.vmf.table[cpu], m.vmf.orig_pte[cpu]
    pte = pte_offset(table, m.vmf.addr[cpu])
    slot = read_once(m.page_slot, orig >> PAGE_SHIFT) - 1
    if slot < 0:
        return 0  # out of the page cache by now, so unmapped: fault again
    lock_page(m, cpu, slot)
    if m.cache.frame[slot] == orig >> PAGE_SHIFT:
        took(m, cpu, WRITE_SHARED_FILE)
        page_mkwrite(m, cpu, slot)
        if pte_lock(m, cpu, m.vmf.pmd[cpu], table):
            if same_but_bits(read_once(m.entry, pte), orig):
                set_bits(m, pte, RW | ACCESSED | DIRTY | SOFT_DIRTY)  # more rights: no flush, the fault forgets the old
            pte_unlock(m, cpu, table)
    unlock_page(m, cpu, slot)
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
def wp_page_anon(m, cpu):
    """Write fault on a read-only PTE of an anonymous frame: the frame becomes this entry's alone, or is copied.

    A frame with one user is this entry's alone: fork, which would add another, needs mmap_lock for writing.
    0 or -ENOMEM. Locking: as do_wp_page.
    """
    pmd, table, orig = m.vmf.pmd[cpu], m.vmf.table[cpu], m.vmf.orig_pte[cpu]
    pte, frame = pte_offset(table, m.vmf.addr[cpu]), orig >> PAGE_SHIFT
    if read_once(m.page_slot, frame) != 0 and get_page_of(m, cpu, pmd, table, pte, orig):
        free_page_and_swap_cache(m, cpu, frame)  # or the cache would be taken for another user
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
        wp_page_reuse(m, m.vmf.mm[cpu], pte, m.vmf.addr[cpu])
    pte_unlock(m, cpu, table)
    if not shared:
        return 0
    result = wp_page_copy(m, cpu)
    put_page(m, cpu, frame)
    return result


@kernel
def do_wp_page(m, cpu):
    """The fault is a write on a present, read-only entry: break COW, or make the page of a file dirty. 0 or -ENOMEM.

    Locking: takes and releases ptl; caller must hold mmap_lock and the fault's reference.
    """
    table, orig = m.vmf.table[cpu], m.vmf.orig_pte[cpu]
    frame = orig >> PAGE_SHIFT
    if orig & FILE == 0:
        return wp_page_copy(m, cpu) if frame == ZERO_PAGE else wp_page_anon(m, cpu)
    if m.vma.flags[m.vmf.vma[cpu]] & VM_SHARED:
        return wp_page_shared(m, cpu)
    if not get_page_of(m, cpu, m.vmf.pmd[cpu], table, pte_offset(table, m.vmf.addr[cpu]), orig):
        return 0
    result = wp_page_copy(m, cpu)
    put_page(m, cpu, frame)
    return result
