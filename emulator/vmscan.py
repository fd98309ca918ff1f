"""Reclaim: take clean pages of files that nobody maps out of memory, and wait for write-back if there are none.

Two callers. A fault that got no frame comes here after it has dropped every lock. A PTE table that would exceed the
limit of its memory control group comes here from wherever it is allocated; if that is under a page lock (knob
pte-alloc-under-page-lock) the wait for write-back closes a cycle, for whoever writes back may want that page lock.

Source: shrink_page_list, mm/vmscan.c: reclaim of a control group waits for write-back; try_charge, mm/memcontrol.c.
"""

from emulator.atomic import kernel, kernel_inline, read_once, smp_rmb
from emulator.page_alloc import alloc_table
from emulator.pagemap import RECLAIM, delete_from_page_cache, trylock_page, unlock_page, wait_on_page_writeback
from emulator.paths import path_number, took
from emulator.pgtable import PAGE_SHIFT, PTE_LEVEL
from emulator.points import point_number
from emulator.tlb import point

RECLAIM_PAGE = path_number("reclaim of a page")

CHARGING = point_number("memcg.charging")


@kernel
def reclaim_page(m, cpu, slot):
    """Take one page out of memory if it is clean, not mapped and not busy; True if so.

    A PTE is set under the page lock, so a mapcount of zero stays zero; a zap whose gather is open still has a
    reference, and it enters the dirty bit before it drops that: so dirty is looked at last (__remove_mapping).
    """
    if read_once(m.cache.frame, slot) == 0 or not trylock_page(m, cpu, slot):
        return False
    frame = m.cache.frame[slot]
    done = frame != 0 and read_once(m.page.mapcount, frame) == 0 and read_once(m.page.refcount, frame) == 1
    smp_rmb()
    if done and read_once(m.cache.dirty, slot) == 0 and read_once(m.cache.writeback, slot) == 0:
        took(m, cpu, RECLAIM_PAGE)
        delete_from_page_cache(m, cpu, slot)
        m.cpu.reclaimed[cpu] += 1
    else:
        done = False
    unlock_page(m, cpu, slot)
    return done


@kernel
def try_to_free_pages(m, cpu):
    """Free a page of the page cache; if none can be, wait for one under write-back: True if another look may pay.

    Locking: caller must hold no spinlock.
    """
    slots = m.config.n_file[0] * m.config.file_pages[0]
    for slot in range(slots):
        if reclaim_page(m, cpu, slot):
            return True
    for slot in range(slots):
        if read_once(m.cache.writeback, slot) != 0:
            wait_on_page_writeback(m, cpu, slot, RECLAIM)
            return True
    return False


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
        try_to_free_pages(m, cpu)


@kernel_inline
def pte_alloc_one(m, cpu):
    """A PTE table, private to the caller, or 0. Locking: caller must hold no spinlock."""
    if m.config.memcg_limit[0] != 0:
        memcg_charge(m, cpu)
    return alloc_table(m, cpu, PTE_LEVEL)
