"""Reclaim of the page cache: clean pages of files that nobody maps, and pages of swap; else wait for write-back.

Two callers. A fault that got no frame reclaims after it has dropped every lock (anon_reclaim.py). A PTE table that
would exceed the limit of its memory control group comes here from wherever it is allocated. If that is under a page
lock (knob pte-alloc-under-page-lock) the wait for write-back closes a cycle, for the writer may want that page lock.

Source: shrink_page_list, mm/vmscan.c: reclaim of a control group waits for write-back; try_charge, mm/memcontrol.c.
"""

from emulator.atomic import DEBUG, kernel, kernel_inline, read_once, smp_rmb, write_once
from emulator.cpu.interrupts import point
from emulator.mm_types import SWAP_HAS_CACHE
from emulator.pages.page_alloc import alloc_table
from emulator.pages.pagemap import (
    RECLAIM,
    copy_to_disk,
    delete_from_page_cache,
    trylock_page,
    unlock_page,
    wait_on_page_writeback,
)
from emulator.pgtable_types import PAGE_SHIFT, PTE_LEVEL
from emulator.watch.lockdep import lockdep_assert_held, might_sleep
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_swap_out

RECLAIM_PAGE = path_number("reclaim of a page")

CHARGING = point_number("memcg.charging")


@kernel
def swap_writepage(m, cpu, slot):
    """Have a page of swap, which nobody can store to any more, on the disk. Locking: caller must hold the page lock."""
    lockdep_assert_held(m, cpu, slot)
    if DEBUG:
        shadow_swap_out(m, slot, m.cache.frame[slot])
    if read_once(m.cache.dirty, slot) != 0:
        copy_to_disk(m, slot, m.cache.frame[slot])
        write_once(m.cache.dirty, slot, 0)


@kernel
def reclaim_page(m, cpu, slot):
    """Take one page out of memory if it is clean, or of swap, not mapped and not busy; True if so.

    A PTE is set under the page lock, so a mapcount of zero stays zero. A zap whose gather is open still has a
    reference, and it enters the dirty bit before it drops that. So dirty is looked at last (__remove_mapping).
    """
    if read_once(m.cache.frame, slot) == 0 or not trylock_page(m, cpu, slot):
        return False
    frame = m.cache.frame[slot]
    done = frame != 0 and read_once(m.page.mapcount, frame) == 0 and read_once(m.page.refcount, frame) == 1
    smp_rmb()
    if done and read_once(m.cache.swap_map, slot) > SWAP_HAS_CACHE:
        swap_writepage(m, cpu, slot)  # dirty if it was pinned when it was unmapped
    clean = read_once(m.cache.dirty, slot) == 0 or read_once(m.cache.swap_map, slot) == SWAP_HAS_CACHE
    small = read_once(m.cache.order, slot) == 0
    if done and clean and small and read_once(m.cache.writeback, slot) == 0:
        took(m, cpu, RECLAIM_PAGE)
        delete_from_page_cache(m, cpu, slot)
        m.cpu.reclaimed[cpu] += 1
    else:
        done = False
    unlock_page(m, cpu, slot)
    return done


@kernel
def shrink_page_cache(m, cpu):
    """Free a page of the page cache or the swap cache; True if one could be. Locking: caller must hold no spinlock."""
    might_sleep(m, cpu)
    for slot in range(m.config.n_slot[0]):
        if reclaim_page(m, cpu, slot):
            return True
    return False


@kernel
def memcg_reclaim(m, cpu):
    """Free a page of the page cache; if none can be, wait for one under write-back.

    Locking: caller must hold no spinlock.
    """
    might_sleep(m, cpu)
    if shrink_page_cache(m, cpu):
        return
    for slot in range(m.config.n_file[0] * m.config.file_pages[0]):
        if read_once(m.cache.writeback, slot) != 0:
            wait_on_page_writeback(m, cpu, slot, RECLAIM)
            return


@kernel
def memcg_usage(m):
    """Pages of files in memory, and page tables."""
    usage = 0
    for slot in range(m.config.n_file[0] * m.config.file_pages[0]):
        usage += read_once(m.cache.frame, slot) != 0
    for mm in range(m.config.n_mm[0]):
        usage += read_once(m.mm.pgtables_bytes, mm) >> PAGE_SHIFT
    return usage


@kernel
def memcg_charge(m, cpu):
    """Make room for one more table: one round of reclaim if the limit is reached. It is charged in any case."""
    point(m, cpu, CHARGING, 0, 0)
    if memcg_usage(m) >= m.config.memcg_limit[0]:
        memcg_reclaim(m, cpu)


@kernel_inline
def pte_alloc_one(m, cpu):
    """A PTE table, private to the caller, or 0. Locking: caller must hold no spinlock."""
    might_sleep(m, cpu)
    if m.config.memcg_limit[0] != 0:
        memcg_charge(m, cpu)
    return alloc_table(m, cpu, PTE_LEVEL)
