"""Swap: pages of the disk that anonymous pages go to, and the swap cache: those of them that are in memory as well.

A page of swap is a row `slot` of `m.cache` behind those of the files. So it has a page lock, a frame, a dirty bit and a
place on the disk. cache.swap_map counts the swap entries that name it, and SWAP_HAS_CACHE on top while the slot has a
frame. A swap entry counts in its PTE table as any other. A slot is free when it is zero.

    swap out (anon_reclaim.py)                         page fault (swap_fault.py)
    ==========================                         ==========================
    lock the page; a free slot, its page lock
    the frame is in the swap cache: SWAP_HAS_CACHE
    each PTE that maps it, under ptl:                  finds the swap entry
      flush, swap entry: swap_map + 1                  locks the slot's page: waits here, or
    nobody maps it: write it to the disk                 reads the page from the disk again
    out of the swap cache, unlock, free the frame      ptl, is the entry the same? map it: swap_map - 1

A page that is in the swap cache and can be stored to is dirty there. It leaves the cache when no swap entry is left.

Source: mm/swap_state.c, mm/swapfile.c.
"""

from emulator.atomic import DEBUG, atomic_add, cmpxchg, kernel, kernel_inline, read_once, write_once
from emulator.bug import BUG
from emulator.mm_types import SWAP_HAS_CACHE
from emulator.pages.page_alloc import alloc_page, put_page
from emulator.pages.pagemap import add_to_page_cache, delete_from_page_cache, swap_map_sub, trylock_page, unlock_page
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import lockdep_assert_held, might_sleep
from emulator.watch.shadow import shadow_swap_in

BUG_SWAP_COUNT = int(Bug.SWAP_COUNT_UNDERFLOW)


@kernel
def first_swap_slot(m):
    """The first row of `m.cache` that is a page of swap."""
    return m.config.n_file[0] * m.config.file_pages[0]


@kernel_inline
def swap_has_room(m):
    """True if a slot may be free, and swap is on."""
    return read_once(m.swap.used, 0) < m.config.n_swap[0] and read_once(m.swap.off, 0) == 0


@kernel
def get_swap_page(m, cpu):
    """Take a free slot; it has SWAP_HAS_CACHE and its page is locked. -1 if there is none.

    The holder of the lock of a free slot had seen an old swap entry: another slot is taken then. Locking: none needed.
    """
    if not swap_has_room(m):
        return -1
    for slot in range(first_swap_slot(m), m.config.n_slot[0]):
        if read_once(m.cache.swap_map, slot) == 0 and cmpxchg(m.cache.swap_map, slot, 0, SWAP_HAS_CACHE) == 0:
            atomic_add(m.swap.used, 0, 1)
            if trylock_page(m, cpu, slot):
                return slot
            swap_map_sub(m, slot, SWAP_HAS_CACHE)
    return -1


@kernel_inline
def swap_duplicate(m, slot):
    """One more PTE names the slot. Locking: caller must hold the ptl of one that does, or the page lock."""
    atomic_add(m.cache.swap_map, slot, 1)


@kernel
def swap_free(m, cpu, slot):
    """One PTE less names the slot; what swap_map is then. Locking: caller must hold the ptl."""
    users = swap_map_sub(m, slot, 1)
    if users < 0 or users & (SWAP_HAS_CACHE - 1) == SWAP_HAS_CACHE - 1:
        BUG(m, cpu, BUG_SWAP_COUNT, slot, users + 1, users)
    return users


@kernel
def swapcache_prepare(m, slot):
    """Claim the cache of a slot that PTEs name; False if it has been freed, or taken by another page.

    Locking: caller must hold the page lock. Source: __swap_duplicate with SWAP_HAS_CACHE.
    """
    users = read_once(m.cache.swap_map, slot)
    while 0 < users < SWAP_HAS_CACHE:
        seen = cmpxchg(m.cache.swap_map, slot, users, users + SWAP_HAS_CACHE)
        if seen == users:
            return True
        users = seen
    return False


@kernel
def add_to_swap_cache(m, slot, frame):
    """The frame, which PTEs map, is the slot's page from here on; the disk has something else.

    Locking: caller must hold both page locks.
    """
    atomic_add(m.page.refcount, frame, 1)
    write_once(m.page_slot, frame, slot + 1)
    write_once(m.cache.dirty, slot, 1)
    m.cache.uptodate[slot] = 1
    if DEBUG:
        write_once(m.cache.stored_by, slot, 0)
    write_once(m.cache.frame, slot, frame)


@kernel
def read_swap_cache(m, cpu, slot, frame):
    """Read a slot's page into `frame`, which the swap cache gets; False if the slot was freed meanwhile.

    Locking: caller must hold the page lock; the page must not be in memory.
    """
    lockdep_assert_held(m, cpu, slot)
    if not swapcache_prepare(m, slot):
        return False
    add_to_page_cache(m, slot, frame)
    if DEBUG:
        shadow_swap_in(m, slot, frame)
    m.cpu.swapped_in[cpu] += 1
    return True


@kernel
def read_swap_cache_async(m, cpu, slot):
    """Have the slot's page in the swap cache, if there is memory for it and nobody has it locked.

    Locking: caller must hold no spinlock.
    """
    might_sleep(m, cpu)
    if read_once(m.cache.frame, slot) != 0:
        return
    frame = alloc_page(m, cpu)
    if frame == 0:
        return
    done = False
    if trylock_page(m, cpu, slot):
        done = m.cache.frame[slot] == 0 and read_swap_cache(m, cpu, slot, frame)
        unlock_page(m, cpu, slot)
    if not done:
        put_page(m, cpu, frame)


@kernel
def delete_unused_swap_cache(m, cpu, slot):
    """Take the slot's page out of the cache if no PTE names the slot. Locking: caller must hold the page lock."""
    lockdep_assert_held(m, cpu, slot)
    if m.cache.frame[slot] != 0 and read_once(m.cache.swap_map, slot) == SWAP_HAS_CACHE:
        delete_from_page_cache(m, cpu, slot)


@kernel
def free_swap_and_cache(m, cpu, slot):
    """A PTE that named the slot was cleared; without others the slot is free. Locking: caller must hold the ptl."""
    if swap_free(m, cpu, slot) == SWAP_HAS_CACHE and trylock_page(m, cpu, slot):
        delete_unused_swap_cache(m, cpu, slot)
        unlock_page(m, cpu, slot)


@kernel
def try_to_free_swap(m, cpu, frame):
    """Take an anonymous page out of the swap cache if no PTE names its slot, and nobody has it locked.

    Locking: caller must have a reference on the frame. A spinlock may be held.
    """
    slot = read_once(m.page_slot, frame) - 1
    if slot >= first_swap_slot(m) and trylock_page(m, cpu, slot):
        if m.cache.frame[slot] == frame:
            delete_unused_swap_cache(m, cpu, slot)
        unlock_page(m, cpu, slot)


@kernel
def free_page_and_swap_cache(m, cpu, frame):
    """Drop the reference of a PTE; a page that nothing but the swap cache needs goes."""
    try_to_free_swap(m, cpu, frame)
    put_page(m, cpu, frame)
