"""What /proc/PID/smaps, pagemap and clear_refs do with one entry; pagewalk.py leads them there.

Source: fs/proc/task_mmu.c.
"""

from emulator.atomic import kernel, read_once
from emulator.pgtable import clear_bits, is_migration_entry, is_swap_entry, pte_present, table_of
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    DIRTY,
    FILE,
    PAGE_SHIFT,
    PTE_MARKER_GUARD,
    PTE_MARKER_UFFD_WP,
    RW,
    SOFT_DIRTY,
    SPECIAL,
    UFFD_WP,
)
from emulator.tables.mmu_gather import tlb_remove_tlb_entry
from emulator.uapi import PM_FILE, PM_GUARD_REGION, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SOFT_DIRTY, PM_SWAP, PM_UFFD_WP
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held


@kernel
def smaps_pte_entry(m, cpu, entry):
    """Add an entry to the sums of this CPU's SMAPS. Locking: caller must hold ptl, or pmd_lock of a leaf."""
    if not pte_present(entry):
        if is_swap_entry(entry) or is_migration_entry(entry):
            m.smaps.swap[cpu] += 1
        return
    frame = entry >> PAGE_SHIFT
    if frame == 0 or entry & SPECIAL:
        return
    m.smaps.rss[cpu] += 1
    m.smaps.anonymous[cpu] += 1 if entry & FILE == 0 else 0
    m.smaps.shared[cpu] += 1 if read_once(m.page.mapcount, frame) > 1 else 0
    m.smaps.referenced[cpu] += 1 if entry & ACCESSED else 0
    m.smaps.dirty[cpu] += 1 if entry & DIRTY else 0
    m.smaps.soft_dirty[cpu] += 1 if entry & SOFT_DIRTY else 0


@kernel
def smaps_clear(m, cpu):
    """Begin with sums of zero."""
    m.smaps.rss[cpu] = m.smaps.anonymous[cpu] = m.smaps.shared[cpu] = 0
    m.smaps.referenced[cpu] = m.smaps.dirty[cpu] = m.smaps.soft_dirty[cpu] = m.smaps.swap[cpu] = 0


@kernel
def pagemap_word(entry):
    """What pagemap says of a page, by its entry."""
    if entry == 0:
        return 0
    if entry == PTE_MARKER_GUARD:
        return PM_GUARD_REGION | PM_SWAP
    if entry == PTE_MARKER_UFFD_WP:
        return PM_UFFD_WP | PM_SWAP
    word = PM_UFFD_WP if entry & UFFD_WP else 0
    if not pte_present(entry):
        return word | PM_SWAP if is_swap_entry(entry) or is_migration_entry(entry) else 0
    word |= entry >> PAGE_SHIFT | PM_PRESENT
    if entry & FILE:
        word |= PM_FILE
    if entry & ANON_EXCLUSIVE:
        word |= PM_MMAP_EXCLUSIVE
    if entry & SOFT_DIRTY:
        word |= PM_SOFT_DIRTY
    return word


@kernel
def clear_pte_bits(m, cpu, pte, addr, bits):
    """Clear bits of a present entry, and note that its translation must go. Locking: caller must hold ptl, and have a
    gather open.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    assert_gather_open(m, cpu)
    entry = read_once(m.entry, pte)
    if not pte_present(entry) or entry & bits == 0 or entry & SPECIAL:
        return
    clear_bits(m, pte, bits)
    tlb_remove_tlb_entry(m, cpu, addr)


@kernel
def clear_refs_pte(m, cpu, pte, addr):
    """clear_refs 1: the page was not used yet. Locking: as clear_pte_bits."""
    clear_pte_bits(m, cpu, pte, addr, ACCESSED)


@kernel
def clear_soft_dirty_pte(m, cpu, pte, addr):
    """clear_refs 4: the page was not stored to yet; the next store is a fault. Locking: as clear_pte_bits."""
    clear_pte_bits(m, cpu, pte, addr, RW | SOFT_DIRTY)
