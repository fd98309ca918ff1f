"""Write-back: bring the dirty pages of a file to the disk, in batches.

    lock the page, write-protect it wherever it is mapped, clear its dirty bit
    mark it as under write-back, unlock it, add it to the batch
    ... the next page; the batch goes to the disk when it is full, at the end,
    and before waiting for a page that is under write-back already

What is collected and not submitted is under write-back all the same, while the next page lock is waited for: the half
of patch 1's deadlock that is lawful.

Source: write_cache_pages, mm/page-writeback.c; ext4_writepages keeps its bio open in that way.
"""

from emulator.atomic import kernel, read_once, smp_store_release, write_once
from emulator.kernel import EINVAL, ENOMEM
from emulator.mm_types import WRITE_BATCH
from emulator.mutex import mutex_wake
from emulator.pagemap import WRITEBACK, cache_slot, copy_to_disk, lock_page, unlock_page, wait_on_page_writeback
from emulator.pgtable import PAGE
from emulator.points import point_number
from emulator.rmap import page_mkclean
from emulator.tlb import point
from emulator.truncate import find_mapped_file
from emulator.vma import VM_SHARED

COLLECTED, SUBMITTING = point_number("writeback.collected"), point_number("writeback.submitting")


@kernel
def end_page_writeback(m, slot):
    """The page is on the disk: wake who waits for that."""
    write_once(m.cache.written, slot, m.cache.written[slot] + 1)
    smp_store_release(m.cache.writeback, slot, 0)  # pairs with the acquire in wait_on_page_writeback
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
def clear_page_dirty_for_io(m, cpu, slot):
    """Make the page clean, and everybody fault who stores to it from now on; True if it was dirty.

    Locking: caller must hold the page lock.
    """
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
    """Write the dirty pages of [first, end) of a file: 0 or -EINVAL."""
    if not 0 <= file < m.config.n_file[0]:
        return -EINVAL
    for pgoff in range(first, min(end, m.config.file_pages[0])):
        slot = cache_slot(m, file, pgoff)
        if read_once(m.cache.dirty, slot) != 0:
            write_page(m, cpu, slot)
            point(m, cpu, COLLECTED, slot, m.cpu.batch_pages[cpu])
            if m.cpu.batch_pages[cpu] == WRITE_BATCH:
                submit_batch(m, cpu)
    submit_batch(m, cpu)
    return 0


@kernel
def do_msync(m, cpu, mm, start, length):
    """msync(2) with MS_SYNC: write what the range maps, shared, VMA by VMA, without mmap_lock: 0 or -errno.

    Gaps are skipped and reported as -ENOMEM at the end. Source: mm/msync.c.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length < 0:
        return -EINVAL
    result = 0
    while start < end:
        until = find_mapped_file(m, cpu, mm, start, end)
        if until < 0:
            return until
        slot = m.vmf.slot[cpu]
        if slot == -2:
            result = -ENOMEM
        elif slot >= 0 and m.vmf.flags[cpu] & VM_SHARED:
            first = m.vmf.addr[cpu]
            write_cache_pages(m, cpu, slot // m.config.file_pages[0], first, first + (until - start) // PAGE)
        start = until
    return result
