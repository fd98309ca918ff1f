"""The page cache: pages of files, and of swap, in memory, the locks and flags of each, and the disk behind them.

Page `pgoff` of file `file` is row `slot` of `m.cache`; behind the files' come the rows of swap (swap_state.py). Its
frame is shared by all mappings: the frame's refcount is one for the page cache and one per PTE. The page lock is taken
to put a page in, to take it out, and to map it. So a page that is locked and in the cache stays there (truncate.py).
Contents go to the disk by write-back alone, those of swap by reclaim.

Source: include/linux/pagemap.h, mm/filemap.c.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    atomic_add_return,
    kernel,
    kernel_inline,
    read_once,
    smp_load_acquire,
    write_once,
)
from emulator.bug import waits_for
from emulator.cpu.interrupts import point
from emulator.locking.mutex import anon_vma_row, mutex_lock, mutex_sleep, mutex_trylock, mutex_unlock, mutex_wait
from emulator.mm_types import NR_PAGE_LOCKS, SWAP_HAS_CACHE
from emulator.pages.page_alloc import put_page
from emulator.watch.lockdep import lockdep_assert_held, might_sleep
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

INODE_LOCK = int(Wait.INODE_LOCK)
PAGE_LOCK = int(Wait.PAGE_LOCK)
WRITEBACK = int(Wait.WRITEBACK)
RECLAIM = int(Wait.RECLAIM)
WAIT_NOTHING = int(Wait.NOTHING)
PAGE_LOCKED = point_number("page.locked")
PAGE_GONE = point_number("page.gone")


@kernel
def page_lock_row(m, frame):
    """The row of `mutex` of a frame's page lock: its page's if it is of a file, else one that it shares with others."""
    slot = read_once(m.page_slot, frame) - 1
    if 0 <= slot < m.config.n_file[0] * m.config.file_pages[0]:
        return slot
    return anon_page_row(m, frame)


@kernel_inline
def anon_page_row(m, frame):
    """The row of `mutex` of an anonymous frame's page lock."""
    return anon_vma_row(m, m.config.n_mm[0]) + frame % NR_PAGE_LOCKS


@kernel_inline
def trylock_anon_page(m, cpu, frame):
    """Take the page lock of an anonymous frame if it is free; True if so."""
    return mutex_trylock(m, cpu, anon_page_row(m, frame), PAGE_LOCK)


@kernel
def unlock_anon_page(m, cpu, frame):
    """Release the page lock of an anonymous frame."""
    mutex_unlock(m, cpu, anon_page_row(m, frame), PAGE_LOCK)


@kernel_inline
def cache_slot(m, file, pgoff):
    """The row of `m.cache` of a page."""
    return file * m.config.file_pages[0] + pgoff


@kernel_inline
def folio_slot(m, slot, order):
    """The row of the first page of the folio of 2**order pages that a page of a file is in: its lock is the folio's."""
    return slot - slot % m.config.file_pages[0] % (1 << order)


@kernel_inline
def inode_row(m, file):
    """The row of a file's inode lock."""
    return m.config.n_slot[0] + file


@kernel
def inode_lock(m, cpu, file):
    """Take the lock under which a file's size changes. Locking: caller must hold no lock."""
    might_sleep(m, cpu)
    mutex_lock(m, cpu, inode_row(m, file), INODE_LOCK)


@kernel
def inode_unlock(m, cpu, file):
    """Release the inode lock."""
    mutex_unlock(m, cpu, inode_row(m, file), INODE_LOCK)


@kernel
def lock_page(m, cpu, slot):
    """Take the page lock; sleeps. Locking: caller must hold no spinlock."""
    might_sleep(m, cpu)
    mutex_lock(m, cpu, slot, PAGE_LOCK)
    point(m, cpu, PAGE_LOCKED, slot, m.cache.frame[slot])


@kernel_inline
def trylock_page(m, cpu, slot):
    """Take the page lock if it is free; True if so."""
    return mutex_trylock(m, cpu, slot, PAGE_LOCK)


@kernel
def unlock_page(m, cpu, slot):
    """Release the page lock."""
    mutex_unlock(m, cpu, slot, PAGE_LOCK)


@kernel
def wait_on_page_locked(m, cpu, slot):
    """Wait until nobody holds the page lock."""
    mutex_wait(m, cpu, slot, PAGE_LOCK)


@kernel
def wait_on_page_writeback(m, cpu, slot, what):
    """Wait until the write-back that is under way has ended; `what` is the Wait, WRITEBACK or RECLAIM.

    A CPU without the page lock may find the next one. Locking: caller must hold no spinlock; a page lock is
    allowed.
    """
    might_sleep(m, cpu)
    written = smp_load_acquire(m.cache.written, slot)
    if smp_load_acquire(m.cache.writeback, slot) == 0:
        return
    waits_for(m, cpu, what, slot)
    while True:
        seq = smp_load_acquire(m.mutex.seq, slot)
        if smp_load_acquire(m.cache.writeback, slot) == 0:  # pairs with the releases in end_page_writeback
            break
        if smp_load_acquire(m.cache.written, slot) != written:
            break
        mutex_sleep(m, cpu, slot, seq)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel_inline
def set_page_dirty(m, slot):
    """The page differs from the disk. Locking: caller must hold the page lock, or the ptl of a PTE that maps it."""
    write_once(m.cache.dirty, slot, 1)


@kernel
def copy_from_disk(m, slot, frame):
    """Read a page."""
    words = m.config.frame_words[0]
    for word in range(words):
        m.frame[frame * words + word] = m.disk[slot * words + word]


@kernel
def copy_to_disk(m, slot, frame):
    """Write a page."""
    words = m.config.frame_words[0]
    for word in range(words):
        m.disk[slot * words + word] = read_once(m.frame, frame * words + word)


@kernel
def add_to_page_cache(m, slot, frame):
    """Give the page a frame and read it. The caller's reference becomes the page cache's.

    Locking: caller must hold the page lock.
    """
    write_once(m.page_slot, frame, slot + 1)  # do_wp_page may be looking, by an entry that it will find changed
    if DEBUG:
        write_once(m.page_stored_by, frame, 0)
    write_once(m.cache.frame, slot, frame)
    copy_from_disk(m, slot, frame)
    m.cache.uptodate[slot] = 1


@kernel
def swap_map_sub(m, slot, n):
    """Take n from the count of a slot of swap, which is free at zero; what is left."""
    left = atomic_add_return(m.cache.swap_map, slot, -n)
    if left == 0:
        atomic_add(m.swap.used, 0, -1)
    return left


@kernel
def delete_from_page_cache(m, cpu, slot):
    """Take the page out of memory; of a file nobody may map it. Locking: caller must hold the page lock."""
    lockdep_assert_held(m, cpu, slot)
    frame = m.cache.frame[slot]
    write_once(m.page_slot, frame, 0)
    swap = read_once(m.cache.swap_map, slot) & SWAP_HAS_CACHE
    m.cache.uptodate[slot] = 0
    write_once(m.cache.dirty, slot, 0)
    write_once(m.cache.stored, slot, 0)
    write_once(m.cache.frame, slot, 0)
    if swap != 0:
        swap_map_sub(m, slot, SWAP_HAS_CACHE)  # the last: the slot may be somebody else's now
    point(m, cpu, PAGE_GONE, frame, slot)
    put_page(m, cpu, frame)


@kernel_inline
def page_add_file_rmap(m, mm, frame):
    """One more PTE maps the page. Locking: caller must hold the page lock and the ptl."""
    atomic_add(m.page.refcount, frame, 1)
    atomic_add(m.page.mapcount, frame, 1)
    atomic_add(m.mm.rss_file, mm, 1)
