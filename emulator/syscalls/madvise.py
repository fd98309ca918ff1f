"""madvise: advice about pages. MADV_DONTNEED gives the frames back now, the others look at entries, fill them, or set
flags of the VMA.

Source: mm/madvise.c.
"""

from emulator.atomic import kernel, kernel_inline
from emulator.bug import detecting
from emulator.fault.zap import zap_page_range
from emulator.huge.huge_memory import vma_adjust_trans_huge
from emulator.locking.mmap_lock import mmap_read_lock, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock, release_fault_lock, vma_locks
from emulator.pages.swap_state import swap_has_room
from emulator.pages.vma import find_vma, lock_vma, vma_modify_flags
from emulator.pgtable import range_end
from emulator.pgtable_types import PAGE
from emulator.rmap_walks.anon_reclaim import pageout_range
from emulator.rmap_walks.folio import split_folios
from emulator.syscalls.file_advice import force_page_cache_readahead, pageout_file_range, split_file_folios
from emulator.syscalls.mseal import can_madvise_modify
from emulator.syscalls.vma_pieces import madvise_collapse
from emulator.tables.mmu_gather import ZAP_RECLAIM, tlb_finish_mmu, tlb_gather_mmu
from emulator.uapi import (
    EINVAL,
    ENOMEM,
    EPERM,
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    UIO_MAXIOV,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_SHARED,
    VM_WIPEONFORK,
)
from emulator.walks.guard import guard_install
from emulator.walks.gup import faultin_page_range
from emulator.walks.pagewalk import WALK_COLD, WALK_FREE, WALK_GUARD_REMOVE, WALK_WILLNEED, walk_page_range
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.shadow import shadow_forget


@kernel_inline
def changes_vma(advice):
    """True for advice that is kept as flags of the VMA."""
    return (
        advice in (MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK)
        or advice in (MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL)
        or advice in (MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_DONTDUMP, MADV_DODUMP)
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


@kernel_inline
def walk_of(advice):
    """The page walk of advice that looks at entries."""
    if advice == MADV_FREE:
        return WALK_FREE
    if advice == MADV_WILLNEED:
        return WALK_WILLNEED
    return WALK_GUARD_REMOVE if advice == MADV_GUARD_REMOVE else WALK_COLD


@kernel
def madvise_walk_ptes(m, cpu, mm, addr, end, advice):
    """Walk the PTE tables of [addr, end), which lies in one VMA. Frames stay; MADV_FREE allows reclaim to forget them.

    Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    if detecting(m) and advice == MADV_FREE:
        shadow_forget(m, cpu, mm, addr, end)
    if takes_folios_apart(advice):
        split_folios(m, cpu, mm, addr, end, advice == MADV_PAGEOUT and not swap_has_room(m))
    tlb_gather_mmu(m, cpu, mm, 0)
    walk_page_range(m, cpu, mm, addr, end, walk_of(advice))
    tlb_finish_mmu(m, cpu)


@kernel
def advised_flags(m, row, advice):
    """The flags of the VMA at `row` after advice that is kept there, or -EINVAL."""
    flags = m.vma.flags[row]
    special = flags & (VM_PFNMAP | VM_HUGETLB | VM_DROPPABLE)
    if advice == MADV_NORMAL:
        return flags & ~(VM_RAND_READ | VM_SEQ_READ)
    if advice == MADV_RANDOM:
        return flags & ~VM_SEQ_READ | VM_RAND_READ
    if advice == MADV_SEQUENTIAL:
        return flags & ~VM_RAND_READ | VM_SEQ_READ
    if advice == MADV_DONTFORK:
        return flags | VM_DONTCOPY
    if advice == MADV_DOFORK:
        return -EINVAL if flags & VM_PFNMAP else flags & ~VM_DONTCOPY
    if advice == MADV_WIPEONFORK:
        return -EINVAL if m.vma.file[row] != 0 or flags & VM_SHARED else flags | VM_WIPEONFORK
    if advice == MADV_KEEPONFORK:
        return -EINVAL if flags & VM_DROPPABLE else flags & ~VM_WIPEONFORK
    if advice == MADV_DONTDUMP:
        return flags | VM_DONTDUMP
    if advice == MADV_DODUMP:
        return -EINVAL if special else flags & ~VM_DONTDUMP
    if advice == MADV_HUGEPAGE:
        return flags & ~VM_NOHUGEPAGE | VM_HUGEPAGE
    if advice == MADV_NOHUGEPAGE:
        return flags & ~VM_HUGEPAGE | VM_NOHUGEPAGE
    if special or flags & VM_SHARED:
        return flags  # KSM has no use for it
    return flags | VM_MERGEABLE if advice == MADV_MERGEABLE else flags & ~VM_MERGEABLE


@kernel
def madvise_update_vma(m, cpu, mm, row, start, end, advice):
    """Set or clear the flag that the advice names: 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    flags = advised_flags(m, row, advice)
    if flags < 0:
        return flags
    if flags == m.vma.flags[row]:
        return 0
    vma_adjust_trans_huge(m, cpu, mm, start, end)
    return min(vma_modify_flags(m, cpu, mm, row, start, end, flags), 0)


@kernel
def madvise_vma_behavior(m, cpu, mm, row, start, end, advice):
    """What the advice means for [start, end), which lies in the VMA at `row`: 0 or -errno.

    Locking: caller must hold mmap_lock, for writing where the advice changes the VMA.
    """
    mmap_assert_locked(m, cpu, mm)
    flags = m.vma.flags[row]
    if not can_madvise_modify(m, row, advice):
        return -EPERM
    if flags & VM_HUGETLB:
        return -EINVAL  # of Linux's advice, MADV_DONTNEED before 5.18
    if changes_vma(advice):
        return madvise_update_vma(m, cpu, mm, row, start, end, advice)
    if advice == MADV_REMOVE:
        return -EINVAL  # vma_pieces.py:madvise_remove has it; process_madvise has not
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
    if takes_folios_apart(advice) and m.vma.file[row] != 0:
        split_file_folios(m, cpu, mm, row, start, end)
    if advice == MADV_PAGEOUT and m.vma.file[row] != 0:
        pageout_file_range(m, cpu, mm, row, start, end)
    if walks_entries(advice):
        madvise_walk_ptes(m, cpu, mm, start, end, advice)
        if advice == MADV_PAGEOUT:
            pageout_range(m, cpu, mm, start, end)
    else:
        zap_page_range(m, cpu, mm, start, end, ZAP_RECLAIM)
    return 0


@kernel
def madvise_walk_vmas(m, cpu, mm, start, end, advice):
    """Follow the advice VMA by VMA: 0 or -errno. Holes are skipped and reported as -ENOMEM at the end.

    Locking: as madvise_vma_behavior.
    """
    result = 0
    while start < end:
        row = find_vma(m, mm, start)
        if row == 0 or m.vma.start[row] >= end:
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

    Locking: takes and releases mmap_lock, for writing where the advice changes VMAs; MADV_DONTNEED the lock of the VMA.
    """
    if length == 0 and step > 0:
        return 0  # of no piece nothing is looked at
    if start & (PAGE - 1) or not madvise_behavior_valid(advice) or range_end(start, length) < 0:
        return -EINVAL
    if length < 0:
        return -ENOMEM  # there are holes in more than user space; Linux does what lies before the first
    if step < min(length, 1):
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
    if not (vma_locks(m) and advice == MADV_DONTNEED and lock_vma(m, cpu, mm, start, start + length) != 0):
        mmap_read_lock(m, cpu, mm)
    result = madvise_pieces(m, cpu, mm, start, length, step, advice)
    release_fault_lock(m, cpu, mm)
    return result


@kernel_inline
def do_madvise(m, cpu, mm, start, length, advice):
    """madvise(2): 0 or -errno; process_madvise with one piece. Source: do_madvise and madvise_walk_vmas."""
    return process_madvise(m, cpu, mm, start, length, length, advice)
