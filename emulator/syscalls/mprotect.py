"""mprotect: other permissions for pages that stay, so other bits in entries that stay; the count does not change.

    mprotect(PROT_READ)                     another CPU, same mm
    ===================                     ====================
    mmap_lock for writing, VMA flags
    pte_try_get, ptl                        stores through its TLB, until the flush
    clear, write back without RW
    pte_put; flush                          page fault: waits for mmap_lock, then -EFAULT

Source: change_protection and do_mprotect_pkey, mm/mprotect.c.
"""

from emulator.atomic import kernel, read_once
from emulator.huge.hugetlb import hugetlb_file, hugetlb_unshare_pmds
from emulator.locking.mmap_lock import mmap_write_unlock
from emulator.locking.mutex import i_mmap_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import may_split, vma_lookup, vma_modify_flags, vma_modify_locked, vmas_lock, vmas_unlock
from emulator.pgtable_types import PAGE
from emulator.tables.mmu_gather import tlb_finish_mmu, tlb_gather_mmu
from emulator.uapi import (
    EINVAL,
    ENOMEM,
    EPERM,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_NORESERVE,
    VM_PKEY_BIT0,
    VM_SEALED,
    VM_SHARED,
    VM_UFFD,
    VM_WRITE,
)
from emulator.walks.gup import populate_private_locked
from emulator.walks.pagewalk import WALK_PROTECT, walk_page_range
from emulator.watch.lockdep import mmap_assert_write_locked


@kernel
def change_protection(m, cpu, mm, addr, end, flags):
    """Give [addr, end), which lies in one VMA, the permissions of `flags`, and flush what was lost.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    tlb_gather_mmu(m, cpu, mm, 0)
    m.mm_walk.private[cpu] = flags
    walk_page_range(m, cpu, mm, addr, end, WALK_PROTECT)
    tlb_finish_mmu(m, cpu)


@kernel
def reserved(m, row, flags):
    """The VMA's new flags, with VM_ACCOUNT if its pages count as reserved with them. Source: mprotect_fixup."""
    before = m.vma.flags[row]
    if flags & VM_WRITE:
        free = before & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE)
        return flags if free else flags | VM_ACCOUNT
    untouched = m.vma.file[row] == 0 and read_once(m.vma.anon_vma, row) == 0
    return flags & ~VM_ACCOUNT if untouched else flags


@kernel
def mprotect_fixup(m, cpu, mm, row, start, end, prot):
    """mprotect for [start, end), which lies in the VMA at `row`: 0 or -errno. Locking: as change_protection."""
    before = m.vma.flags[row]
    flags = before & ~(VM_ACCESS_FLAGS | VM_PKEY_BIT0) | prot
    if before & VM_SEALED:
        return -EPERM
    if flags == before:
        return 0
    if not (may_split(m, mm, start) and may_split(m, mm, end)):
        return -EINVAL
    flags = reserved(m, row, flags)
    if flags & VM_HUGETLB:  # before the flags change: an mm that shares a table by them must find its leaves so
        hugetlb_unshare_pmds(m, cpu, mm, start, end)
        vmas_lock(m, cpu, mm)
        row = vma_modify_locked(m, cpu, mm, row, start, end, flags)
        vmas_unlock(m, cpu, mm)
    else:
        row = vma_modify_flags(m, cpu, mm, row, start, end, flags)
    if row >= 0:
        change_protection(m, cpu, mm, start, end, flags)
    if flags & VM_HUGETLB:
        i_mmap_unlock(m, cpu, hugetlb_file(m))
    if row < 0:
        return -ENOMEM
    locked = before & (VM_WRITE | VM_SHARED | VM_LOCKED_MASK) == VM_LOCKED  # with MLOCK_ONFAULT nothing is brought
    if locked and flags & (VM_WRITE | VM_UFFD) == VM_WRITE:
        populate_private_locked(m, cpu, mm, row, start, end)
    return 0


@kernel
def do_mprotect(m, cpu, mm, start, length, prot):
    """mprotect(2): 0 or -errno; -ENOMEM at the first hole, what lies before it is done.

    Locking: takes and releases mmap_lock for writing.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or prot & ~(VM_ACCESS_FLAGS | VM_PKEY_BIT0):
        return -EINVAL
    if length == 0:
        return 0
    if end <= start or length < 0:
        return -ENOMEM
    result = 0
    mmap_write_lock(m, cpu, mm)
    while start < end and result == 0:
        row = vma_lookup(m, mm, start)
        if row == 0:
            result = -ENOMEM
        else:
            until = min(m.vma.end[row], end)
            result = mprotect_fixup(m, cpu, mm, row, start, until, prot)
            start = until
    mmap_write_unlock(m, cpu, mm)
    return result
