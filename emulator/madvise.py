"""madvise: advice about pages. MADV_DONTNEED gives the frames back now, the others look at entries, fill them, or set
flags of the VMA.

Every walk over entries is the same: slice by slice, each table pinned by pte_try_get or skipped, ptl, put.

Source: mm/madvise.c.
"""

from emulator.anon_reclaim import pageout_range
from emulator.atomic import atomic_add, kernel, kernel_inline, read_once, write_once, xchg
from emulator.file_advice import force_page_cache_readahead, pageout_file_range
from emulator.folio import folio_busy, maps_whole_folio, split_folios
from emulator.guard import guard_install, guard_remove_pte_range
from emulator.gup import faultin_page_range
from emulator.huge_memory import HUGE_ZERO_PAGE, vma_adjust_trans_huge
from emulator.kernel import EINVAL, ENOMEM, detecting
from emulator.khugepaged import madvise_collapse
from emulator.memory import ZERO_PAGE, zap_page_range
from emulator.mmu_gather import tlb_adjust_range, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry
from emulator.paths import path_number, took
from emulator.pgtable import (
    ACCESSED,
    DIRTY,
    HPAGE_PMD_NR,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PSE,
    is_swap_entry,
    pmd_addr_end,
    pmd_lookup,
    pmd_trans_huge,
    pte_offset,
    pte_present,
)
from emulator.pte_ref import pte_lock, pte_put_many_tlb, pte_try_get, pte_unlock
from emulator.rcu import cond_resched
from emulator.rmap import LARGE, LAZYFREE
from emulator.shadow import shadow_forget
from emulator.spinlock import (
    PMD_LOCK,
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock,
    mmap_write_unlock,
    spin_lock,
    spin_unlock,
)
from emulator.swap_state import free_swap_and_cache, read_swap_cache_async, swap_has_room
from emulator.vma import (
    VM_DONTCOPY,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_WIPEONFORK,
    find_vma,
    vma_limit,
    vma_modify_flags,
)

YOUNG_DIRTY = path_number("MADV_FREE, COLD, PAGEOUT")
WILLNEED = path_number("MADV_WILLNEED")
FREE_SWAP = path_number("MADV_FREE of swap entries")

MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE = 3, 4, 8, 9
MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE = 14, 15, 25
MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK = 10, 11, 18, 19
MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE = 20, 21, 22, 23
MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE = 24, 102, 103
UIO_MAXIOV = 1024  # pieces of a vector


@kernel_inline
def changes_vma(advice):
    """True for advice that is kept as flags of the VMA."""
    return (
        advice in (MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK)
        or advice == MADV_HUGEPAGE
        or advice == MADV_NOHUGEPAGE
    )


@kernel_inline
def walks_entries(advice):
    """True for advice that looks at the entries that are there, and clears bits or markers."""
    return advice in (MADV_WILLNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_GUARD_REMOVE)


@kernel_inline
def takes_folios_apart(advice):
    """True for advice that splits the folios it means a part of."""
    return advice == MADV_FREE or advice == MADV_COLD or advice == MADV_PAGEOUT


@kernel_inline
def young_dirty(advice):
    """The bits of an entry that the advice clears."""
    return ACCESSED | DIRTY if advice == MADV_FREE else ACCESSED


@kernel_inline
def is_populate(advice):
    """True for advice that faults pages in."""
    return advice == MADV_POPULATE_READ or advice == MADV_POPULATE_WRITE


@kernel_inline
def madvise_behavior_valid(advice):
    """True for advice that is known."""
    return (
        advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_REMOVE, MADV_GUARD_INSTALL)
        or changes_vma(advice)
        or walks_entries(advice)
        or is_populate(advice)
        or advice == MADV_COLLAPSE
    )


@kernel
def mark_lazyfree(m, frame):
    """Reclaim may forget an anonymous page unless it is stored to.

    Where there is swap, not one that others have as well: their entries may be clean since it was read from there.
    Locking: caller must hold the ptl of a PTE that maps it.
    """
    mapping = read_once(m.page.mapping, frame)
    alone = m.config.n_swap[0] == 0 or read_once(m.page.mapcount, frame) == 1
    if mapping != 0 and alone and read_once(m.page_slot, frame) == 0:
        write_once(m.page.mapping, frame, mapping | LAZYFREE)


@kernel
def clear_young_dirty_ptes(m, cpu, table, addr, end, bits):
    """Clear `bits` of the present entries of [addr, end) in one PTE table; the hardware sets them again, without a
    fault: MADV_FREE makes pages clean and old, MADV_COLD old. Pages of a folio that could not be split are spared.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    took(m, cpu, YOUNG_DIRTY)
    pte_lock(m, cpu, table)
    whole = maps_whole_folio(m, table) if end - addr == PMD_SIZE else 0
    spared = LARGE if whole == 0 or folio_busy(m, whole) else 0
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        due = pte_present(entry) and entry >> PAGE_SHIFT != ZERO_PAGE and entry & bits
        if due and read_once(m.page.mapping, entry >> PAGE_SHIFT) & spared == 0:
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting these bits
            write_once(m.entry, pte, entry & ~bits)
            tlb_remove_tlb_entry(m, cpu, addr)
            if bits & DIRTY:
                mark_lazyfree(m, entry >> PAGE_SHIFT)
        addr += PAGE
    pte_unlock(m, cpu, table)


@kernel
def free_swap_ptes(m, cpu, mm, pmd, table, addr, end):
    """MADV_FREE: clear the swap entries of [addr, end) in one PTE table, and take them out of its count.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    start = addr
    cleared = 0
    pte_lock(m, cpu, table)
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if is_swap_entry(entry):
            took(m, cpu, FREE_SWAP)
            write_once(m.entry, pte, 0)
            free_swap_and_cache(m, cpu, entry >> PAGE_SHIFT)
            cleared += 1
        addr += PAGE
    pte_unlock(m, cpu, table)
    if cleared != 0:
        atomic_add(m.mm.rss_swap, mm, -cleared)
        pte_put_many_tlb(m, cpu, mm, pmd, start, cleared)


@kernel
def swapin_walk_pte_range(m, cpu, table, addr, end):
    """MADV_WILLNEED: read the pages of the swap entries of [addr, end) in one PTE table into the swap cache.

    Locking: caller must hold a reference on the table.
    """
    took(m, cpu, WILLNEED)
    while addr < end:
        entry = read_once(m.entry, pte_offset(table, addr))
        if is_swap_entry(entry):
            read_swap_cache_async(m, cpu, entry >> PAGE_SHIFT)
        addr += PAGE


@kernel
def madvise_pte_range(m, cpu, mm, pmd, table, addr, end, advice):
    """What the advice means for [addr, end) in one PTE table. Locking: caller must hold a reference on the table."""
    if advice == MADV_GUARD_REMOVE:
        guard_remove_pte_range(m, cpu, mm, pmd, table, addr, end)
    elif advice == MADV_WILLNEED:
        swapin_walk_pte_range(m, cpu, table, addr, end)
    else:
        clear_young_dirty_ptes(m, cpu, table, addr, end, young_dirty(advice))
        if advice == MADV_FREE:
            free_swap_ptes(m, cpu, mm, pmd, table, addr, end)


@kernel
def clear_young_huge_pmd(m, cpu, pmd, addr, bits):
    """If a leaf stands at `pmd` that nobody else maps, clear `bits` of it, as clear_young_dirty_ptes does.

    Locking: takes and releases pmd_lock; caller must hold an open gather. Source: madvise_free_huge_pmd.
    """
    spin_lock(m, cpu, m.ptdesc.ptl, pmd >> 9, PMD_LOCK)
    entry = read_once(m.entry, pmd)
    head = entry >> PAGE_SHIFT
    if pmd_trans_huge(entry) and head != HUGE_ZERO_PAGE and not folio_busy(m, head):
        entry = xchg(m.entry, pmd, PSE)  # a leaf still, for whoever looks
        write_once(m.entry, pmd, entry & ~bits)
        tlb_adjust_range(m, cpu, addr, PMD_SIZE)
        for frame in range(head, head + HPAGE_PMD_NR if bits & DIRTY else head):
            mark_lazyfree(m, frame)
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd >> 9, PMD_LOCK)


@kernel
def madvise_leaf(m, cpu, pmd, addr, end, advice):
    """What the advice means for [addr, end) in a huge page: nothing if that is a part of it: others map it, or it came
    meanwhile. It has neither swap entries nor guards. Locking: as madvise_walk_ptes.
    """
    if end - addr == PMD_SIZE and takes_folios_apart(advice):
        clear_young_huge_pmd(m, cpu, pmd, addr, young_dirty(advice))


@kernel
def madvise_walk_ptes(m, cpu, mm, addr, end, advice):
    """Walk the PTE tables of [addr, end), which lies in one VMA. Frames stay; MADV_FREE allows reclaim to forget them.

    Locking: caller must hold mmap_lock.
    """
    if detecting(m) and advice == MADV_FREE:
        shadow_forget(m, cpu, mm, addr, end)
    if takes_folios_apart(advice):
        split_folios(m, cpu, mm, addr, end, advice == MADV_PAGEOUT and not swap_has_room(m))
    tlb_gather_mmu(m, cpu, mm, 0)
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        table = 0
        if pmd != 0:
            if pmd_trans_huge(read_once(m.entry, pmd)):
                madvise_leaf(m, cpu, pmd, addr, following, advice)
            table = pte_try_get(m, cpu, pmd)
        if table != 0:
            madvise_pte_range(m, cpu, mm, pmd, table, addr, following, advice)
            pte_put_many_tlb(m, cpu, mm, pmd, addr, 1)
        addr = following
        cond_resched(m, cpu)
    tlb_finish_mmu(m, cpu)


@kernel
def madvise_update_vma(m, cpu, mm, row, start, end, advice):
    """Set or clear the flag that the advice names: 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    flags = m.vma.flags[row]
    if advice == MADV_DONTFORK:
        flags |= VM_DONTCOPY
    elif advice == MADV_WIPEONFORK:
        if m.vma.file[row] != 0:
            return -EINVAL
        flags |= VM_WIPEONFORK
    elif advice == MADV_KEEPONFORK:
        flags &= ~VM_WIPEONFORK
    elif advice == MADV_HUGEPAGE:
        flags = flags & ~VM_NOHUGEPAGE | VM_HUGEPAGE
    elif advice == MADV_NOHUGEPAGE:
        flags = flags & ~VM_HUGEPAGE | VM_NOHUGEPAGE
    elif flags & VM_PFNMAP:
        return -EINVAL
    else:
        flags &= ~VM_DONTCOPY
    if flags == m.vma.flags[row]:
        return 0
    vma_adjust_trans_huge(m, cpu, mm, start, end)
    return min(vma_modify_flags(m, cpu, mm, row, start, end, flags), 0)


@kernel
def madvise_vma_behavior(m, cpu, mm, row, start, end, advice):
    """What the advice means for [start, end), which lies in the VMA at `row`: 0 or -errno.

    Locking: caller must hold mmap_lock, for writing where the advice changes the VMA.
    """
    if changes_vma(advice):
        return madvise_update_vma(m, cpu, mm, row, start, end, advice)
    flags = m.vma.flags[row]
    if advice == MADV_REMOVE:
        return -EINVAL  # truncate.py:madvise_remove has it; process_madvise has not
    forbidden = VM_PFNMAP | VM_LOCKED
    if advice == MADV_WILLNEED:
        forbidden = 0
    elif advice == MADV_GUARD_REMOVE or advice == MADV_DONTNEED_LOCKED:
        forbidden = VM_PFNMAP
    if flags & forbidden or (m.vma.file[row] != 0 and advice == MADV_FREE):
        return -EINVAL
    if advice == MADV_GUARD_INSTALL:
        return guard_install(m, cpu, mm, row, start, end)
    if advice == MADV_WILLNEED and m.vma.file[row] != 0:
        force_page_cache_readahead(m, cpu, row, start, end)
        return 0
    if advice == MADV_PAGEOUT and m.vma.file[row] != 0:
        pageout_file_range(m, cpu, mm, row, start, end)
    if walks_entries(advice):
        madvise_walk_ptes(m, cpu, mm, start, end, advice)
        if advice == MADV_PAGEOUT:
            pageout_range(m, cpu, mm, start, end)
    else:
        zap_page_range(m, cpu, mm, start, end)
    return 0


@kernel
def madvise_walk_vmas(m, cpu, mm, start, end, advice):
    """Follow the advice VMA by VMA: 0 or -errno. Holes are skipped and reported as -ENOMEM at the end.

    Locking: as madvise_vma_behavior.
    """
    result = 0
    while start < end:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] >= end:
            return -ENOMEM
        if m.vma.start[row] > start:
            result = -ENOMEM
            start = m.vma.start[row]
        until = min(m.vma.end[row], end)
        error = madvise_vma_behavior(m, cpu, mm, row, start, until, advice)
        if error != 0:
            return error
        start = until
    return result


@kernel
def madvise_pieces(m, cpu, mm, start, length, step, advice):
    """Follow the advice in pieces of `step` bytes, until one fails; 0 if the first succeeds. Locking: as above."""
    done = 0
    while done < length:
        addr = start + done
        end = addr + ((min(step, length - done) + PAGE - 1) & -PAGE)
        if addr & (PAGE - 1):
            error = -EINVAL
        elif advice == MADV_COLLAPSE:
            error = madvise_collapse(m, cpu, mm, addr, end - addr)
        elif is_populate(advice):
            error = faultin_page_range(m, cpu, mm, addr, end, advice == MADV_POPULATE_WRITE)
        else:
            error = madvise_walk_vmas(m, cpu, mm, addr, end, advice)
        if error != 0:
            return error if done == 0 else 0
        done += step
    return 0


@kernel
def process_madvise(m, cpu, mm, start, length, step, advice):
    """process_madvise(2) with a vector of pieces of `step` bytes: 0 if any was done, else -errno.

    Locking: takes and releases mmap_lock, for writing where the advice changes VMAs.
    """
    if start & (PAGE - 1) or length < 0 or step < min(length, 1) or not madvise_behavior_valid(advice):
        return -EINVAL
    if length > step * UIO_MAXIOV:
        return -EINVAL
    if changes_vma(advice):
        mmap_write_lock(m, cpu, mm)
        result = madvise_pieces(m, cpu, mm, start, length, step, advice)
        mmap_write_unlock(m, cpu, mm)
        return result
    if advice == MADV_COLLAPSE:
        return madvise_pieces(m, cpu, mm, start, length, step, advice)  # it takes mmap_lock itself
    mmap_read_lock(m, cpu, mm)
    result = madvise_pieces(m, cpu, mm, start, length, step, advice)
    mmap_read_unlock(m, cpu, mm)
    return result


@kernel
def do_madvise(m, cpu, mm, start, length, advice):
    """madvise(2): 0 or -errno; process_madvise with one piece. Source: do_madvise and madvise_walk_vmas."""
    return process_madvise(m, cpu, mm, start, length, length, advice)
