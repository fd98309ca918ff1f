"""madvise: MADV_DONTNEED gives the frames back now, MADV_FREE lets reclaim take them; both keep the VMAs."""

from emulator.atomic import kernel, read_once, write_once, xchg
from emulator.kernel import EINVAL, ENOMEM
from emulator.memory import ZERO_PAGE, unmap_page_range
from emulator.mmu_gather import tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry
from emulator.pgtable import (
    ACCESSED,
    DIRTY,
    PAGE,
    PAGE_SHIFT,
    PRESENT,
    pmd_addr_end,
    pmd_lookup,
    pte_offset,
)
from emulator.pte_ref import pte_lock, pte_put_many_tlb, pte_try_get, pte_unlock
from emulator.rcu import cond_resched
from emulator.spinlock import mmap_read_lock, mmap_read_unlock
from emulator.vma import find_vma, vma_limit

MADV_DONTNEED = 4
MADV_FREE = 8


@kernel
def zap_page_range(m, cpu, mm, start, end):
    """Clear [start, end), which lies in one VMA, in one gather. Locking: caller must hold mmap_lock."""
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, start, end)
    tlb_finish_mmu(m, cpu)


@kernel
def madvise_free_pte_range(m, cpu, table, addr, end):
    """Make the pages of [addr, end) in one PTE table clean and old; a store makes them dirty again, without a fault.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    pte_lock(m, cpu, table)
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if entry & PRESENT and entry >> PAGE_SHIFT != ZERO_PAGE and entry & (ACCESSED | DIRTY):
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting these bits
            write_once(m.entry, pte, entry & ~(ACCESSED | DIRTY))
            tlb_remove_tlb_entry(m, cpu, addr)
        addr += PAGE
    pte_unlock(m, cpu, table)


@kernel
def madvise_free_single_vma(m, cpu, mm, addr, end):
    """MADV_FREE for [addr, end), which lies in one VMA. Without reclaim the frames stay.

    Locking: caller must hold mmap_lock. Source: madvise_free_single_vma, mm/madvise.c.
    """
    tlb_gather_mmu(m, cpu, mm, 0)
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        table = 0
        if pmd != 0:
            table = pte_try_get(m, cpu, pmd)
        if table != 0:
            madvise_free_pte_range(m, cpu, table, addr, following)
            pte_put_many_tlb(m, cpu, mm, pmd, addr, 1)
        addr = following
        cond_resched(m, cpu)
    tlb_finish_mmu(m, cpu)


@kernel
def madvise_vma(m, cpu, mm, start, end, advice):
    """What the advice means for [start, end), which lies in one VMA. Locking: caller must hold mmap_lock."""
    if advice == MADV_FREE:
        madvise_free_single_vma(m, cpu, mm, start, end)
    else:
        zap_page_range(m, cpu, mm, start, end)


@kernel
def do_madvise(m, cpu, mm, start, length, advice):
    """madvise(2): 0 or -errno. Holes are skipped and reported as -ENOMEM at the end.

    Locking: takes and releases mmap_lock for reading. Source: do_madvise and madvise_walk_vmas, mm/madvise.c.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length < 0 or end < start or not (advice == MADV_DONTNEED or advice == MADV_FREE):
        return -EINVAL
    result = 0
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    while start < end:
        if row == vma_limit(m, mm) or m.vma.start[row] >= end:
            result = -ENOMEM
            break
        if m.vma.start[row] > start:
            result = -ENOMEM
            start = m.vma.start[row]
        if advice == MADV_FREE and m.vma.file[row] != 0:
            result = -EINVAL
            break
        until = min(m.vma.end[row], end)
        madvise_vma(m, cpu, mm, start, until, advice)
        start = until
        row += 1
    mmap_read_unlock(m, cpu, mm)
    return result
