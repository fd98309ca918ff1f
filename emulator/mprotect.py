"""mprotect: other permissions for pages that stay, so other bits in entries that stay; the count does not change.

    mprotect(PROT_READ)                     another CPU, same mm
    ===================                     ====================
    mmap_lock for writing, VMA flags
    pte_try_get, ptl                        stores through its TLB, until the flush
    clear, write back without RW
    pte_put; flush                          page fault: waits for mmap_lock, then -EFAULT

Source: change_protection and do_mprotect_pkey, mm/mprotect.c.
"""

from emulator.atomic import kernel, read_once, write_once, xchg
from emulator.gup import populate_private_locked
from emulator.huge_memory import split_huge_pmd
from emulator.kernel import EINVAL, ENOMEM
from emulator.mmu_gather import tlb_adjust_range, tlb_finish_mmu, tlb_gather_mmu, tlb_remove_tlb_entry
from emulator.paths import path_number, took
from emulator.pgtable import (
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PRESENT,
    PSE,
    RW,
    from_migration_entry,
    is_migration_entry,
    pmd_addr_end,
    pmd_lookup,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    to_migration_entry,
)
from emulator.points import point_number
from emulator.pte_ref import pte_lock, pte_put_many_tlb, pte_try_get_retry, pte_unlock
from emulator.rcu import cond_resched
from emulator.spinlock import PMD_LOCK, mmap_write_lock, mmap_write_unlock, spin_lock, spin_unlock
from emulator.tlb import point
from emulator.vma import (
    VM_ACCESS_FLAGS,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
    find_vma,
    pte_modify,
    vma_limit,
    vma_modify_flags,
)

MPROTECT = path_number("mprotect")
CHANGE_HUGE = path_number("huge page, mprotect")

PROTECTED = point_number("mprotect.changed")


@kernel
def change_pte_range(m, cpu, table, addr, end, flags):
    """Give the pages of [addr, end) in one PTE table the permissions of `flags`; those in swap get them when they come.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    took(m, cpu, MPROTECT)
    pte_lock(m, cpu, table)
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if is_migration_entry(entry):
            changed = pte_modify(from_migration_entry(entry, entry >> PAGE_SHIFT), flags)
            write_once(m.entry, pte, to_migration_entry(changed))
        elif pte_present(entry):
            entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
            changed = pte_modify(entry, flags)
            write_once(m.entry, pte, changed)
            if entry & ~changed & (PRESENT | RW):
                tlb_remove_tlb_entry(m, cpu, addr)
        addr += PAGE
    point(m, cpu, PROTECTED, table, flags)
    pte_unlock(m, cpu, table)


@kernel
def change_huge_pmd(m, cpu, pmd, addr, flags):
    """If a leaf stands at `pmd`, give it the permissions of `flags`. Locking: takes and releases pmd_lock; caller must
    hold an open gather. Source: mm/huge_memory.c.
    """
    spin_lock(m, cpu, m.ptdesc.ptl, pmd >> 9, PMD_LOCK)
    if pmd_trans_huge(read_once(m.entry, pmd)):
        took(m, cpu, CHANGE_HUGE)
        entry = xchg(m.entry, pmd, PSE)  # a leaf still, for whoever looks; the hardware may be setting the dirty bit
        changed = pte_modify(entry, flags)
        write_once(m.entry, pmd, changed)
        if entry & ~changed & (PRESENT | RW):
            tlb_adjust_range(m, cpu, addr, PMD_SIZE)
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd >> 9, PMD_LOCK)


@kernel
def change_or_split(m, cpu, mm, pmd, addr, end, flags):
    """Change the huge page at `pmd` if [addr, end) is all of it, else split it. Locking: as change_protection."""
    if end - addr == PMD_SIZE:
        change_huge_pmd(m, cpu, pmd, addr, flags)
    else:
        split_huge_pmd(m, cpu, mm, pmd, addr)


@kernel
def change_protection(m, cpu, mm, addr, end, flags):
    """Give [addr, end), which lies in one VMA, the permissions of `flags`, and flush what was lost.

    Locking: caller must hold mmap_lock for writing. A dying table is waited for, as in v1.
    """
    tlb_gather_mmu(m, cpu, mm, 0)
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_lookup(m, mm, addr)
        table = 0
        if pmd != 0:
            if pmd_trans_huge(read_once(m.entry, pmd)):
                change_or_split(m, cpu, mm, pmd, addr, following, flags)
            table = pte_try_get_retry(m, cpu, pmd)
        if table != 0:
            change_pte_range(m, cpu, table, addr, following, flags)
            pte_put_many_tlb(m, cpu, mm, pmd, addr, 1)
        addr = following
        cond_resched(m, cpu)
    tlb_finish_mmu(m, cpu)


@kernel
def mprotect_fixup(m, cpu, mm, row, start, end, prot):
    """mprotect for [start, end), which lies in the VMA at `row`: 0 or -ENOMEM. Locking: as change_protection."""
    before = m.vma.flags[row]
    flags = before & ~VM_ACCESS_FLAGS | prot
    if flags == before:
        return 0
    row = vma_modify_flags(m, cpu, mm, row, start, end, flags)
    if row < 0:
        return -ENOMEM
    change_protection(m, cpu, mm, start, end, flags)
    if before & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and flags & VM_WRITE:
        populate_private_locked(m, cpu, mm, row, start, end)
    return 0


@kernel
def do_mprotect(m, cpu, mm, start, length, prot):
    """mprotect(2): 0 or -errno; -ENOMEM at the first hole, what lies before it is done.

    Locking: takes and releases mmap_lock for writing.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length < 0 or prot & ~VM_ACCESS_FLAGS:
        return -EINVAL
    if length == 0:
        return 0
    result = 0
    mmap_write_lock(m, cpu, mm)
    while start < end and result == 0:
        row = find_vma(m, mm, start)
        if row == vma_limit(m, mm) or m.vma.start[row] > start:
            result = -ENOMEM
        else:
            until = min(m.vma.end[row], end)
            result = mprotect_fixup(m, cpu, mm, row, start, until, prot)
            start = until
    mmap_write_unlock(m, cpu, mm)
    return result
