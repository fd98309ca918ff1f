"""Migration: a page moves to another frame, and no mapping of it notices.

    migrate                                  fault, or slow GUP
    =======                                  ==================
    reference, page lock
    rmap walk, under ptl: clear the PTE,
      flush, migration entry                 finds the migration entry
    not mapped, nor pinned? copy               under ptl: whose page lock is that?
    rmap walk, under ptl: each migration       the reference on the table is dropped only now
      entry names the new frame              waits for the page lock
    page unlock                              faults again

A migration entry is counted like any other, so no table comes or goes. It keeps what its PTE allowed; mprotect changes
that, fork copies the entry as one that may not be written, zap clears it. The flush comes before ptl is dropped: a CPU
that finds the migration entry and clears it has nothing to flush (60bae7370896).

Source: unmap_and_move, try_to_migrate_one and remove_migration_pte, mm/migrate.c and mm/rmap.c; patch 5.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    atomic_add_return,
    atomic_inc_not_zero,
    kernel,
    knob,
    read_once,
    smp_wmb,
    write_once,
)
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.locking.mutex import mutex_lock, mutex_unlock
from emulator.mm_types import FRAMES, LARGE, LAZYFREE
from emulator.pages.page_alloc import alloc_page, copy_page, put_page
from emulator.pages.pagemap import PAGE_LOCK, page_lock_row, set_page_dirty
from emulator.pages.swap_state import first_swap_slot
from emulator.pages.vma import vma_lookup
from emulator.pgtable import from_migration_entry, table_of, to_migration_entry
from emulator.pgtable_types import DIRTY, FILE, PAGE
from emulator.rmap_walks.page_vma_mapped import (
    PVMW_MIGRATION,
    clear_mapped_pte,
    get_page_at,
    page_vma_mapped_walk,
    page_vma_mapped_walk_done,
    put_mapped_page,
    replace_mapped_pte,
    rmap_walk_begin,
    rmap_walk_end,
)
from emulator.tables.rcu import cond_resched
from emulator.uapi import ENOMEM, ENXIO
from emulator.watch.lockdep import assert_ptl_held, might_sleep
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_migrated

LOOKUP = path_number("migration, the look-up")
BOTH_WALKS = path_number("migration, both walks")
UNMAPPED = point_number("migrate.unmapped")
UNFLUSHED = point_number("migrate.unflushed")


@kernel
def set_migration_pte(m, cpu, pte, frame):
    """Replace a PTE of the walk by a migration entry, which stays counted; False if the page is pinned.

    Locking: caller must hold ptl and the page lock.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    entry = clear_mapped_pte(m, cpu, pte, not knob(m.config.migrate_late_flush))
    if entry == 0:
        return False
    took(m, cpu, BOTH_WALKS)
    if entry & DIRTY and entry & FILE:
        set_page_dirty(m, m.page_slot[frame] - 1)
    elif entry & DIRTY:
        write_once(m.page.mapping, frame, read_once(m.page.mapping, frame) & ~LAZYFREE)
    replace_mapped_pte(m, cpu, pte, entry, to_migration_entry(entry))
    put_mapped_page(m, frame)
    return True


@kernel
def flush_late(m, cpu, mm, addr):
    """What migrate-late-flush does after the ptl was dropped, and interrupts may have come."""
    if knob(m.config.migrate_late_flush) and addr >= 0:
        point(m, cpu, UNFLUSHED, addr, mm)
        cond_resched(m, cpu)
        flush_tlb_mm_range(m, cpu, mm, addr, addr + PAGE, 0)


@kernel
def try_to_migrate(m, cpu, frame):
    """Replace every PTE of the page by a migration entry; True if nobody maps it any more.

    Locking: caller must hold the page lock and a reference.
    """
    mm = addr = -1
    rmap_walk_begin(m, cpu, frame, 1, 0)
    while True:
        page_vma_mapped_walk_done(m, cpu)
        flush_late(m, cpu, mm, addr)
        pte = page_vma_mapped_walk(m, cpu)
        if pte == 0 or not set_migration_pte(m, cpu, pte, frame):
            break
        mm, addr = m.pvmw.mm[cpu], m.pvmw.addr[cpu]
    rmap_walk_end(m, cpu)
    return read_once(m.page.mapcount, frame) == 0


@kernel
def remove_migration_ptes(m, cpu, frame, to):
    """Let every PTE that waits for `frame` map `to`, which may be the same. Locking: caller must hold the page lock."""
    rmap_walk_begin(m, cpu, frame, 1, PVMW_MIGRATION)
    if DEBUG and to != frame:
        write_once(m.page_stored_by, to, read_once(m.page_stored_by, frame))  # mremap has told `frame` where it is
    while True:
        pte = page_vma_mapped_walk(m, cpu)
        if pte == 0:
            break
        waiting = read_once(m.entry, pte)
        entry = from_migration_entry(waiting, to)
        atomic_add(m.page.refcount, to, 1)
        shared = atomic_add_return(m.page.mapcount, to, 1) > 1
        if DEBUG and entry & FILE == 0:
            shadow_migrated(m, m.pvmw.mm[cpu], to, m.pvmw.addr[cpu], shared)
        if entry & FILE == 0 and read_once(m.page.mapping, to) & LAZYFREE == 0:
            entry |= DIRTY
        replace_mapped_pte(m, cpu, pte, waiting, entry)
    rmap_walk_end(m, cpu)


@kernel
def copy_migrated_page(m, frame, to, slot):
    """Let `to` be the page that `frame` was: its contents, its place in the page cache. Locking: caller must hold the
    page lock; nobody maps it.
    """
    copy_page(m, to, frame)
    if DEBUG:
        m.page_memcg[to] = m.page_memcg[frame]  # mem_cgroup_migrate
        m.page_memcg[frame] = 0
    write_once(m.page.mapping, to, read_once(m.page.mapping, frame) & ~LARGE)
    smp_wmb()  # the contents before the entries that lead to them
    if slot >= 0:
        atomic_add(m.page.refcount, to, 1)
        write_once(m.page_slot, to, slot + 1)
        write_once(m.cache.frame, slot, to)


@kernel
def move_to_new_page(m, cpu, frame, to, slot):
    """Migrate a page to the frame `to`; False if somebody uses it otherwise. Locking: as try_to_migrate."""
    cached = 1 if slot >= 0 else 0
    if cached and read_once(m.cache.writeback, slot) != 0:
        return False
    unmapped = try_to_migrate(m, cpu, frame)
    point(m, cpu, UNMAPPED, frame, to)
    moved = unmapped and read_once(m.page.refcount, frame) == 1 + cached
    if moved:
        copy_migrated_page(m, frame, to, slot)
    remove_migration_ptes(m, cpu, frame, to if moved else frame)
    if moved and cached:
        write_once(m.page_slot, frame, 0)
        put_page(m, cpu, frame)
    return moved


@kernel
def migrate_page(m, cpu, frame):
    """Move the page in `frame` elsewhere: 1, 0 if it has to stay, or -ENOMEM. The caller's reference is used up.

    Pages in the swap cache stay, and those of large folios of files. Locking: caller must hold no lock.
    """
    might_sleep(m, cpu)
    to = alloc_page(m, cpu)
    if to == 0:
        put_page(m, cpu, frame)
        return -ENOMEM
    row = page_lock_row(m, frame)
    mutex_lock(m, cpu, row, PAGE_LOCK)
    slot = read_once(m.page_slot, frame) - 1
    moved = 0
    if row == page_lock_row(m, frame) and slot < first_swap_slot(m):
        small = slot < 0 or read_once(m.cache.order, slot) == 0
        if small and (slot >= 0 or read_once(m.page.mapping, frame) != 0):
            moved = 1 if move_to_new_page(m, cpu, frame, to, slot) else 0
    mutex_unlock(m, cpu, row, PAGE_LOCK)
    put_page(m, cpu, to)
    put_page(m, cpu, frame)
    m.cpu.migrated[cpu] += moved
    return moved


@kernel
def migrate_frames(m, cpu, pages):
    """Migrate up to `pages` pages, going round the frames from where the last one stopped; 0 or -ENOMEM."""
    frames = m.zone.limit[FRAMES] - 1
    for _ in range(frames):
        if pages <= 0:
            break
        frame = 1 + atomic_add_return(m.swap.hand, 0, 1) % frames
        used = read_once(m.page.mapping, frame) != 0 or read_once(m.page_slot, frame) != 0
        if used and atomic_inc_not_zero(m.page.refcount, frame):
            moved = migrate_page(m, cpu, frame)
            if moved < 0:
                return moved
            pages -= moved
        cond_resched(m, cpu)
    return 0


@kernel
def lookup_page(m, cpu, mm, addr):
    """get_page_at if a VMA is there, else 0. Locking: takes and releases mmap_lock for reading."""
    frame = 0
    mmap_read_lock(m, cpu, mm)
    if vma_lookup(m, mm, addr) != 0:
        took(m, cpu, LOOKUP)
        frame = get_page_at(m, cpu, mm, addr)
    mmap_read_unlock(m, cpu, mm)
    return frame


@kernel
def do_migrate(m, cpu, mm, addr, pages):
    """Migrate the page at `addr`, or so many pages of anybody if that is 0: 0, -ENXIO if there is none, or -ENOMEM."""
    if addr == 0:
        return migrate_frames(m, cpu, pages)
    frame = lookup_page(m, cpu, mm, addr)
    if frame == 0:
        return -ENXIO
    return min(migrate_page(m, cpu, frame), 0)
