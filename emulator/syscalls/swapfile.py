"""swapoff: bring back every page that is in swap, mm by mm, so that no entry names a slot any more.

Each mm is kept by a user of its own (mmget_not_zero). Its last CPU may exit at that time, and the last user tears it
down. Its tables are walked under mmap_lock for reading, each pinned, each swap entry resolved as by a fault.

Source: try_to_unuse and unuse_pte_range, mm/swapfile.c; patch 5.
"""

from emulator.atomic import atomic_add, atomic_inc_not_zero, kernel, read_once, sched_yield
from emulator.bug import stopped
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.pagemap import trylock_page, unlock_page
from emulator.pages.rss import sync_mm_rss
from emulator.pages.swap_state import delete_unused_swap_cache, first_swap_slot
from emulator.syscalls.mmap import exit_mmap
from emulator.tables.rcu import cond_resched
from emulator.uapi import EBUSY, EINTR
from emulator.walks.pagewalk import WALK_UNUSE, walk_page_range
from emulator.watch.lockdep import might_sleep

_ROUNDS = 200  # over all mms, until swapoff gives up: a fork may bring entries to where it has been


@kernel
def unuse_vma(m, cpu, mm, vma):
    """Map the pages of all swap entries of a VMA: 0 or -ENOMEM."""
    m.mm_walk.private[cpu] = vma
    return walk_page_range(m, cpu, mm, m.vma.start[vma], m.vma.end[vma], WALK_UNUSE)


@kernel
def unuse_mm(m, cpu, mm):
    """Map the pages of all swap entries of an mm: 0 or -ENOMEM. Locking: takes and releases mmap_lock for reading."""
    error = 0
    mmap_read_lock(m, cpu, mm)
    vma = m.mm.first_vma[mm]
    while vma != 0 and error == 0:
        if read_once(m.vma.anon_vma, vma) != 0:
            error = unuse_vma(m, cpu, mm, vma)
        vma = m.vma.next[vma]
    mmap_read_unlock(m, cpu, mm)
    sync_mm_rss(m, cpu, mm)
    return error


@kernel
def swap_in_use(m, cpu):
    """Slots in use, after those that only the swap cache uses have been freed."""
    used = 0
    for slot in range(first_swap_slot(m), m.config.n_slot[0]):
        if read_once(m.cache.swap_map, slot) != 0:
            if trylock_page(m, cpu, slot):
                delete_unused_swap_cache(m, cpu, slot)
                unlock_page(m, cpu, slot)
            used += read_once(m.cache.swap_map, slot) != 0
    return used


@kernel
def try_to_unuse(m, cpu):
    """Bring every page back: 0, -ENOMEM, -EINTR, or -EBUSY if there is no end of it."""
    for _ in range(_ROUNDS):
        for mm in range(m.config.n_mm[0]):
            if atomic_inc_not_zero(m.mm.mm_users, mm):
                error = unuse_mm(m, cpu, mm)
                exit_mmap(m, cpu, mm)
                if error != 0:
                    return error
        if swap_in_use(m, cpu) == 0:
            return 0
        if stopped(m):
            return -EINTR
        cond_resched(m, cpu)
        sched_yield()
    return -EBUSY


@kernel
def swapoff(m, cpu):
    """swapoff(2), then swapon(2): 0 or -errno. No slot is taken meanwhile. Locking: caller must hold no lock."""
    might_sleep(m, cpu)
    atomic_add(m.swap.off, 0, 1)
    error = try_to_unuse(m, cpu)
    atomic_add(m.swap.off, 0, -1)
    return error
