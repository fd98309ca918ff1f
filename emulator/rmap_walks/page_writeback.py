"""Write-back: bring the dirty pages of a file to the disk, in batches.

    lock the page, write-protect it wherever it is mapped, clear its dirty bit
    mark it as under write-back, unlock it, add it to the batch
    ... the next page; the batch goes to the disk when it is full, at the end,
    and before waiting for a page that is under write-back already

What is collected and not submitted is under write-back all the same, while the next page lock is waited for. This is
the half of patch 1's deadlock that is lawful.

Source: write_cache_pages, mm/page-writeback.c; ext4_writepages keeps its bio open in that way.
"""

from emulator.atomic import kernel, knob, read_once, smp_store_release, write_once
from emulator.cpu.interrupts import point
from emulator.locking.mutex import mutex_wake
from emulator.mm_types import WRITE_BATCH
from emulator.pages.pagemap import (
    WRITEBACK,
    cache_slot,
    copy_to_disk,
    lock_page,
    set_page_dirty,
    unlock_page,
    wait_on_page_writeback,
)
from emulator.pgtable_types import DIRTY, RW
from emulator.rmap_walks.page_vma_mapped import clear_mapped_pte, page_vma_mapped_walk, rmap_walk_begin, rmap_walk_end
from emulator.uapi import EINVAL
from emulator.watch.lockdep import lockdep_assert_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

MKCLEAN = path_number("write-back")
COLLECTED = point_number("writeback.collected")
SUBMITTING = point_number("writeback.submitting")


@kernel
def end_page_writeback(m, slot):
    """The page is on the disk: wake the waiters."""
    # what is on the disk comes first: a waiter leaves by either; they pair with the acquires in wait_on_page_writeback
    smp_store_release(m.cache.written, slot, m.cache.written[slot] + 1)
    smp_store_release(m.cache.writeback, slot, 0)
    mutex_wake(m, slot)


@kernel
def submit_batch(m, cpu):
    """Write what was collected."""
    first = cpu * WRITE_BATCH
    point(m, cpu, SUBMITTING, m.batch[first], m.cpu.batch_pages[cpu])
    for i in range(m.cpu.batch_pages[cpu]):
        slot = m.batch[first + i]
        copy_to_disk(m, slot, m.cache.frame[slot])
        end_page_writeback(m, slot)
        m.cpu.written[cpu] += 1
    m.cpu.batch_pages[cpu] = 0


@kernel
def page_mkclean(m, cpu, slot):
    """Write-protect a page wherever it is mapped; what the PTEs knew of stores goes to the page.

    The flush is under ptl: a store to the page now faults, and waits for the page lock. Locking: caller must hold
    the page lock; takes and releases i_mmap_lock. Source: page_mkclean_one, mm/rmap.c.
    """
    lockdep_assert_held(m, cpu, slot)
    rmap_walk_begin(m, cpu, m.cache.frame[slot], 1, 0)
    pte = page_vma_mapped_walk(m, cpu)
    while pte != 0:
        took(m, cpu, MKCLEAN)
        if read_once(m.entry, pte) & (RW | DIRTY):
            entry = clear_mapped_pte(m, cpu, pte, not knob(m.config.mkclean_unflushed))
            write_once(m.entry, pte, entry & ~(RW | DIRTY))
            if entry & DIRTY:
                set_page_dirty(m, slot)
        pte = page_vma_mapped_walk(m, cpu)
    rmap_walk_end(m, cpu)


@kernel
def clear_page_dirty_for_io(m, cpu, slot):
    """Make the page clean, so that each store from now on faults; True if it was dirty.

    Locking: caller must hold the page lock.
    """
    lockdep_assert_held(m, cpu, slot)
    if read_once(m.cache.dirty, slot) == 0:
        return False
    page_mkclean(m, cpu, slot)
    write_once(m.cache.dirty, slot, 0)
    return True


@kernel
def write_page(m, cpu, slot):
    """Collect one page if it is dirty. Locking: takes and releases the page lock."""
    lock_page(m, cpu, slot)
    if m.cache.frame[slot] != 0 and read_once(m.cache.writeback, slot) != 0:
        submit_batch(m, cpu)  # it may be in there
        wait_on_page_writeback(m, cpu, slot, WRITEBACK)
    if m.cache.frame[slot] != 0 and clear_page_dirty_for_io(m, cpu, slot):
        write_once(m.cache.writeback, slot, cpu + 1)  # set_page_writeback
        m.batch[cpu * WRITE_BATCH + m.cpu.batch_pages[cpu]] = slot
        m.cpu.batch_pages[cpu] += 1
    unlock_page(m, cpu, slot)


@kernel
def write_cache_pages(m, cpu, file, first, end):
    """Write the dirty pages of [first, end) of a file: 0 or -EINVAL. Shared memory has no disk."""
    if not 0 <= file < m.config.n_file[0]:
        return -EINVAL
    if m.file.shmem[file] != 0:
        return 0
    for pgoff in range(first, min(end, m.config.file_pages[0])):
        slot = cache_slot(m, file, pgoff)
        if read_once(m.cache.dirty, slot) != 0:
            write_page(m, cpu, slot)
            point(m, cpu, COLLECTED, slot, m.cpu.batch_pages[cpu])
            if m.cpu.batch_pages[cpu] == WRITE_BATCH:
                submit_batch(m, cpu)
    submit_batch(m, cpu)
    return 0
