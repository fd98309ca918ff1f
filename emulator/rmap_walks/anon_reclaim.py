"""Reclaim of anonymous memory: pages go to swap, or are forgotten if MADV_FREE has said so and nobody stored since.

    reclaim                                 fault
    =======                                 =====
    a reference on the frame, its lock
    rmap walk: ptl, clear, flush,
      swap entry (or none), ptl off         finds the swap entry: waits for the slot's page lock
    not mapped, nor pinned: to the disk,
      out of the swap cache                 reads it back

An entry that becomes a swap entry stays counted in its table. One that becomes none does not, and reclaim may so free
the table, from its rmap walk, with no mmap_lock. Reclaim must get a reference on a page first: the frame may be freed,
and be another page, by then.

Source: shrink_page_list and pageout, mm/vmscan.c; try_to_unmap_one, mm/rmap.c; madvise_cold_or_pageout_pte_range.
"""

from emulator.atomic import (
    atomic_add,
    atomic_add_return,
    atomic_inc_not_zero,
    kernel,
    knob,
    read_once,
    smp_rmb,
    write_once,
)
from emulator.cpu.interrupts import point
from emulator.mm_types import FRAMES, LAZYFREE, MAPPING_SHIFT
from emulator.pages.huge_page import sole_user
from emulator.pages.page_alloc import put_page
from emulator.pages.pagemap import (
    RECLAIM,
    delete_from_page_cache,
    trylock_anon_page,
    trylock_page,
    unlock_anon_page,
    unlock_page,
    wait_on_page_writeback,
)
from emulator.pages.swap_state import (
    add_to_swap_cache,
    delete_unused_swap_cache,
    get_swap_page,
    swap_duplicate,
    swap_has_room,
)
from emulator.pages.vmscan import shrink_page_cache, swap_writepage
from emulator.pgtable import pmd_addr_end, pmd_lookup, pmd_trans_huge, table_of
from emulator.pgtable_types import DIRTY, PAGE, PAGE_SHIFT, SWAP_ENTRY, UFFD_WP
from emulator.rmap_walks.page_vma_mapped import (
    clear_mapped_pte,
    get_page_at,
    page_vma_mapped_walk,
    put_mapped_page,
    replace_mapped_pte,
    rmap_walk_begin,
    rmap_walk_end,
)
from emulator.tables.rcu import cond_resched
from emulator.uapi import VM_DROPPABLE, VM_LOCKED
from emulator.watch.lockdep import assert_ptl_held, might_sleep, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

SWAP_CLUSTER_MAX = 32  # pages that go in one walk
TO_SWAP = path_number("reclaim to swap")
DISCARD = path_number("reclaim after MADV_FREE")
UNMAPPED = point_number("reclaim.unmapped")


@kernel
def isolate_anon_page(m, frame):
    """Take a reference on a frame that is an anonymous page, and that there may be another place for; True if so."""
    mapping = read_once(m.page.mapping, frame)
    if mapping == 0 or not (mapping & LAZYFREE or swap_has_room(m) or read_once(m.page_slot, frame) != 0):
        return False
    return atomic_inc_not_zero(m.page.refcount, frame)


@kernel
def set_swap_pte(m, cpu, pte, frame, slot):
    """Replace a PTE of the walk by a swap entry, which stays counted; False if the page is pinned.

    Locking: caller must hold ptl and the page lock.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    entry = clear_mapped_pte(m, cpu, pte, True)
    if entry == 0:
        return False
    took(m, cpu, TO_SWAP)
    swap_duplicate(m, slot)
    replace_mapped_pte(m, cpu, pte, entry, slot << PAGE_SHIFT | SWAP_ENTRY | entry & UFFD_WP)
    put_mapped_page(m, frame)
    if knob(m.config.swap_uncounted):
        m.pvmw.cleared[cpu] += 1
    atomic_add(m.mm.rss_anon, m.pvmw.mm[cpu], -1)
    atomic_add(m.mm.rss_swap, m.pvmw.mm[cpu], 1)
    return True


@kernel
def discard_pte(m, cpu, pte):
    """Clear a PTE of the walk, whose page nobody needs; False if somebody has stored to it, or pinned it.

    Locking: caller must hold ptl and a reference on the page.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    frame = m.pvmw.frame[cpu]
    entry = clear_mapped_pte(m, cpu, pte, True)
    if entry == 0:
        return False
    pinned = read_once(m.page.refcount, frame) != 1 + read_once(m.page.mapcount, frame)
    smp_rmb()  # a device says that it has stored, then it unpins
    lazyfree = read_once(m.page.mapping, frame) & LAZYFREE != 0
    dirty = entry & DIRTY and m.vma.flags[m.pvmw.vma[cpu]] & VM_DROPPABLE == 0
    if not lazyfree or dirty or pinned:
        write_once(m.entry, pte, entry)
        write_once(m.page.mapping, frame, read_once(m.page.mapping, frame) & ~LAZYFREE)  # SetPageSwapBacked
        return False
    took(m, cpu, DISCARD)
    replace_mapped_pte(m, cpu, pte, entry, 0)
    put_mapped_page(m, frame)
    atomic_add(m.mm.rss_anon, m.pvmw.mm[cpu], -1)
    return True


@kernel
def try_to_unmap(m, cpu, frame, pages, slot):
    """Take a run of anonymous pages away from all their mappings. Swap entries of `slot` take the place of one page,
    nothing that of each if `slot` is negative. True if nobody maps the first any more.

    Locking: caller must hold the page lock of the first and a reference on each.
    """
    rmap_walk_begin(m, cpu, frame, pages, 0)
    while True:
        pte = page_vma_mapped_walk(m, cpu)
        if pte == 0 or m.vma.flags[m.pvmw.vma[cpu]] & VM_LOCKED:
            break
        if not (set_swap_pte(m, cpu, pte, frame, slot) if slot >= 0 else discard_pte(m, cpu, pte)):
            break
    rmap_walk_end(m, cpu)
    return read_once(m.page.mapcount, frame) == 0


@kernel
def swap_out_to(m, cpu, frame, slot):
    """Bring a page that is in the swap cache to the disk and out of memory; True if that was possible.

    A page that is pinned stays in the cache: what is stored to it must not be lost. Locking: caller must hold both page
    locks and a reference.
    """
    unmapped = try_to_unmap(m, cpu, frame, 1, slot)
    point(m, cpu, UNMAPPED, frame, slot)
    if not unmapped or read_once(m.page.refcount, frame) != 2:
        delete_unused_swap_cache(m, cpu, slot)
        return False
    swap_writepage(m, cpu, slot)
    delete_from_page_cache(m, cpu, slot)
    return True


@kernel
def add_to_swap(m, cpu, frame):
    """The slot of an anonymous page, a fresh one if it has none, with its page locked; or -1.

    Locking: caller must hold the page lock of the frame.
    """
    slot = read_once(m.page_slot, frame) - 1
    if slot < 0:
        slot = get_swap_page(m, cpu)
        if slot >= 0:
            add_to_swap_cache(m, slot, frame)
        return slot
    if not trylock_page(m, cpu, slot):
        return -1
    if m.cache.frame[slot] == frame:
        return slot
    unlock_page(m, cpu, slot)
    return -1


@kernel
def get_lazyfree_page(m, cpu, frame, mapping):
    """Take a reference on a frame if `mapping`, which says MADV_FREE, is what it is; True if so. It may be another page
    by the time it is held.
    """
    if read_once(m.page.mapping, frame) != mapping or not atomic_inc_not_zero(m.page.refcount, frame):
        return False
    if read_once(m.page.mapping, frame) == mapping and read_once(m.page_slot, frame) == 0:
        return True
    put_page(m, cpu, frame)
    return False


@kernel
def get_lazyfree_run(m, cpu, frame, most):
    """Take a reference on each page behind `frame` that MADV_FREE has released with it: how many, with that, `most` or
    fewer.

    Their frames and their page indices are side by side, as those of a huge page that was split, which goes like one.
    """
    mapping = read_once(m.page.mapping, frame)
    most = min(most, m.zone.limit[FRAMES] - frame)
    pages = 1
    while pages < most and get_lazyfree_page(m, cpu, frame + pages, mapping + (pages << MAPPING_SHIFT)):
        pages += 1
    return pages


@kernel
def discard_lazyfree_run(m, cpu, frame, most):
    """Forget what MADV_FREE has released at `frame` and behind it, up to `most` pages, in one walk. True if the
    caller's reference on the first is the last.

    An open gather may still have one. Then nothing was freed, and reporting success would loop.
    Locking: as try_to_unmap. The others' page locks are not taken: a path that works on one has a reference, too.
    """
    pages = get_lazyfree_run(m, cpu, frame, most)
    unmapped = try_to_unmap(m, cpu, frame, pages, -1)
    for i in range(1, pages):
        put_page(m, cpu, frame + i)
    return unmapped and read_once(m.page.refcount, frame) == 1


@kernel
def reclaim_anon_page(m, cpu, frame, most):
    """Take an anonymous page out of memory, and up to `most` that MADV_FREE has released with it; True if the caller's
    reference is the last. Locking: none but that."""
    if not trylock_anon_page(m, cpu, frame):
        return False
    done = False
    mapping = read_once(m.page.mapping, frame)
    if mapping & LAZYFREE and read_once(m.page_slot, frame) == 0:
        done = discard_lazyfree_run(m, cpu, frame, most)
    elif mapping != 0:
        slot = add_to_swap(m, cpu, frame)
        if slot >= 0:
            done = swap_out_to(m, cpu, frame, slot)
            unlock_page(m, cpu, slot)
    unlock_anon_page(m, cpu, frame)
    if done:
        m.cpu.swapped_out[cpu] += 1
    return done


@kernel
def shrink_anon(m, cpu, pages):
    """Reclaim up to `pages` anonymous pages, going round the frames from where the last one stopped: how many.

    Locking: caller must hold no spinlock, no page lock but by trylock, and no anon_vma lock.
    """
    might_sleep(m, cpu)
    frames = m.zone.limit[FRAMES] - 1
    done = 0
    for _ in range(frames):
        if done == pages:
            break
        frame = 1 + atomic_add_return(m.swap.hand, 0, 1) % frames
        if isolate_anon_page(m, frame):
            done += reclaim_anon_page(m, cpu, frame, SWAP_CLUSTER_MAX)
            put_page(m, cpu, frame)
            cond_resched(m, cpu)
    return done


@kernel
def try_to_free_pages(m, cpu):
    """Free a page, of a file if there is a clean one, else anonymous; else wait for write-back: True if another look
    may pay. Locking: caller must hold no lock.
    """
    if shrink_page_cache(m, cpu) or shrink_anon(m, cpu, 1) != 0:
        return True
    for slot in range(m.config.n_slot[0]):
        if read_once(m.cache.writeback, slot) != 0:
            wait_on_page_writeback(m, cpu, slot, RECLAIM)
            return True
    return False


@kernel
def pageout_page(m, cpu, mm, addr, end):
    """MADV_PAGEOUT of the page at `addr`, and of those up to `end` that MADV_FREE has released with it. Pages that
    others map as well stay. Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    frame = get_page_at(m, cpu, mm, addr)
    if frame != 0:
        if read_once(m.page.mapcount, frame) == 1 and read_once(m.page.mapping, frame) != 0:
            reclaim_anon_page(m, cpu, frame, min(SWAP_CLUSTER_MAX, (end - addr + PAGE - 1) // PAGE))
        put_page(m, cpu, frame)


@kernel
def pageout_range(m, cpu, mm, addr, end):
    """MADV_PAGEOUT for [addr, end), which lies in one VMA. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    while addr < end:
        pmd = pmd_lookup(m, mm, addr)
        entry = 0 if pmd == 0 else read_once(m.entry, pmd)
        if entry == 0 or (pmd_trans_huge(entry) and not sole_user(m, entry >> PAGE_SHIFT)):
            addr = pmd_addr_end(addr, end)  # nothing there, or others map the huge page as well
        else:
            pageout_page(m, cpu, mm, addr, end)
            addr += PAGE
        cond_resched(m, cpu)
