"""hugetlbfs: one file of huge pages, mapped shared, and the PMD tables that its mms have in common.

A VMA may cover a whole GiB of the file, at an address that is a multiple of a GiB. Such a VMA needs a PMD table that
another mm may have already. huge_pmd_share finds that mm by i_mmap and lets its own pud name the same table.
pt_share_count says how many other puds do. An mm that unmaps or protects the range gives the table up. It clears its
pud and has lost nothing, a fault brings a table again. The last one keeps it, and then it is a table like any other.
When a part of the range is unmapped, another VMA may come there.

    fast GUP of mm A, interrupts off        unmaps in mm A                    mm B
    ================================        ==============                    ====
    reads the pud: table T
                                            clears the pud
                                            waits for CPUs with interrupts
                                            off
                                            pt_share_count: T is B's alone
                                                                              unmaps a part, maps other memory there
    reads the pmd in T: whose page?

The flush of mm A does not wait for fast GUP where it reaches CPUs otherwise than by IPI. call_rcu does, but no CPU
frees T here.

All of it holds i_mmap_lock of the file, which stands for hugetlb_fault_mutex and the vma_lock as well. A table is given
up under mmap_lock for writing alone, or when its VMA is gone: a holder of mmap_lock may walk it.

Source: mm/hugetlb.c; 1013af4f585f (CVE-2025-38085), 59d9094df3d7 (pt_share_count).
"""

from emulator.atomic import (
    atomic_add,
    data_race,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_store_release,
    smp_wmb,
    write_once,
    xchg,
)
from emulator.cpu.flush import flush_tlb_mm_range, tlb_remove_table_sync_one
from emulator.cpu.interrupts import point
from emulator.locking.mutex import anon_vma_lock, anon_vma_unlock, i_mmap_lock, i_mmap_row, i_mmap_unlock
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.mm_types import HUGETLB_PAGES
from emulator.pages.huge_page import add_mapcounts, alloc_huge_page, clear_huge_page
from emulator.pages.vma import find_vma, i_mmap_remove, linear_page_index, vma_mm
from emulator.pgtable import (
    mm_dec_nr_tables,
    mm_inc_nr_tables,
    pgtable_of,
    pmd_offset,
    pmd_trans_huge,
    pud_addr_end,
    pud_lookup,
)
from emulator.pgtable_types import (
    ACCESSED,
    DIRTY,
    FILE,
    HPAGE_PMD_NR,
    HUGETLB,
    PAGE,
    PAGE_SHIFT,
    PMD_LEVEL,
    PMD_SIZE,
    PRESENT,
    PSE,
    PUD_SIZE,
    RW,
    SOFT_DIRTY,
    TABLE_FLAGS,
    USER,
)
from emulator.tables.mmu_gather import tlb_adjust_range, tlb_flush_mmu, tlb_flush_mmu_tlbonly, tlb_remove_huge_page
from emulator.tables.pgalloc import alloc_upper, pud_alloc
from emulator.uapi import EBUS, VM_ACCESS_FLAGS, VM_HUGETLB, VM_WRITE
from emulator.watch.lockdep import assert_gather_open, lockdep_assert_held, mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

HUGETLB_FAULT = path_number("hugetlb, fault")
SHARE = path_number("hugetlb, table shared")
UNSHARE = path_number("hugetlb, table given up")
HUGETLB_ZAP = path_number("hugetlb, zap")

UNSHARED = point_number("hugetlb.unshared")
HUGETLB_PTE = PSE | HUGETLB | FILE | USER | ACCESSED | DIRTY | SOFT_DIRTY | PRESENT


@kernel_inline
def hugetlb_file(m):
    """The number of the hugetlbfs file, behind that of the device's."""
    return m.config.n_file[0] + 1


@kernel
def vma_covers(m, row, start):
    """True if the VMA at `row` maps the file over the whole GiB from `start` on. Locking: its array must not change."""
    mapped = m.vma.flags[row] & VM_HUGETLB
    return mapped != 0 and m.vma.start[row] <= start and start + PUD_SIZE <= m.vma.end[row]


@kernel
def page_table_shareable(m, cpu, mm, start, flags):
    """True if a VMA of `mm` maps the file over the whole GiB from `start` on, with the access that `flags` allow.

    Locking: caller must hold i_mmap_lock; takes and releases the anon_vma lock of the family, which keeps VMAs.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    family = read_once(m.mm.family, mm)
    if family == 0:
        return False  # it exits
    anon_vma_lock(m, cpu, family - 1)
    row = find_vma(m, mm, start)
    same = read_once(m.mm.family, mm) == family and row != 0 and vma_covers(m, row, start)
    same = same and (m.vma.flags[row] ^ flags) & VM_ACCESS_FLAGS == 0
    anon_vma_unlock(m, cpu, family - 1)
    return same


@kernel
def find_shared_table(m, cpu, mm, start, index, flags):
    """The PMD table of an mm that maps the GiB of the file from page `index` on as [start, ...) of `mm` does, or 0.

    Locking: caller must hold i_mmap_lock, which keeps the upper tables of the VMAs linked there.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    file = hugetlb_file(m)
    row = m.file.i_mmap[file]
    while row != 0:
        other = vma_mm(m, row)
        saddr = m.vma.start[row] + (index - m.vma.pgoff[row]) * PAGE
        inside = m.vma.start[row] <= saddr and saddr + PUD_SIZE <= m.vma.end[row] and saddr & (PUD_SIZE - 1) == 0
        if inside and (other != mm or saddr != start):
            pud = pud_lookup(m, other, saddr)
            table = 0 if pud == 0 else pgtable_of(read_once(m.entry, pud))
            if table != 0 and page_table_shareable(m, cpu, other, saddr, flags):
                return table
        row = m.vma.i_mmap_next[row]
    return 0


@kernel
def huge_pmd_share(m, cpu, mm, row, pud, addr):
    """Let the empty `pud` name the PMD table of another mm that maps the same GiB of the file; True if there is one.

    Locking: caller must hold mmap_lock and i_mmap_lock; takes and releases the ptl of the table that holds `pud`.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    mmap_assert_locked(m, cpu, mm)
    start = addr & -PUD_SIZE
    if not vma_covers(m, row, start):
        return False
    table = find_shared_table(m, cpu, mm, start, linear_page_index(m, row, start), m.vma.flags[row])
    if table == 0:
        return False
    took(m, cpu, SHARE)
    m.ptnote.pt_share_count[table] += 1
    pmd_lock(m, cpu, pud)
    mm_inc_nr_tables(m, mm)
    smp_store_release(m.entry, pud, table << PAGE_SHIFT | TABLE_FLAGS)
    pmd_unlock(m, cpu, pud)
    return True


@kernel
def set_owner(m, table):
    """Let a PMD table point back at a pud that names it still. Locking: caller must hold i_mmap_lock."""
    file = hugetlb_file(m)
    row = m.file.i_mmap[file]
    while row != 0:
        addr = m.vma.start[row] & -PUD_SIZE
        while addr < m.vma.end[row]:
            pud = pud_lookup(m, vma_mm(m, row), addr)
            if pud != 0 and pgtable_of(read_once(m.entry, pud)) == table:
                m.ptdesc.pmd[table] = pud
                m.ptdesc.mm[table] = vma_mm(m, row) + 1
                return
            addr += PUD_SIZE
        row = m.vma.i_mmap_next[row]


@kernel
def huge_pmd_unshare(m, cpu, mm, pud):
    """Give the PMD table at `pud` up if others have it as well; True if so. The caller flushes its GiB.

    Locking: caller must hold i_mmap_lock and mmap_lock, for writing unless the VMA is gone: nobody may fault there.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    mmap_assert_locked(m, cpu, mm)
    table = pgtable_of(read_once(m.entry, pud))
    if m.ptnote.pt_share_count[table] == 0:
        return False
    took(m, cpu, UNSHARE)
    write_once(m.entry, pud, 0)
    if not knob(m.config.unshare_without_ipi):
        tlb_remove_table_sync_one(m, cpu)
    m.ptnote.pt_share_count[table] -= 1
    if m.ptdesc.pmd[table] == pud:
        set_owner(m, table)
    mm_dec_nr_tables(m, mm)
    return True


@kernel
def zap_hugetlb_pmds(m, cpu, pud, addr, end):
    """Clear the leaves of [addr, end) in one PMD table, and gather their pages.

    Locking: caller must hold i_mmap_lock and an open gather; takes and releases pmd_lock.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    assert_gather_open(m, cpu)
    took(m, cpu, HUGETLB_ZAP)
    while addr < end:
        pmd = pmd_offset(m, pud, addr)
        if pmd_trans_huge(read_once(m.entry, pmd)):
            pmd_lock(m, cpu, pmd)
            entry = xchg(m.entry, pmd, 0)
            pmd_unlock(m, cpu, pmd)
            tlb_adjust_range(m, cpu, addr, PMD_SIZE)
            add_mapcounts(m, entry >> PAGE_SHIFT, -1)
            if tlb_remove_huge_page(m, cpu, entry >> PAGE_SHIFT):
                tlb_flush_mmu(m, cpu)
        addr += PMD_SIZE


@kernel
def unmap_hugepage_range(m, cpu, mm, addr, end):
    """Unmap [addr, end) of the file, GiB by GiB: a table that is shared is given up as a whole. Locking: as above."""
    while addr < end:
        following = pud_addr_end(addr, end)
        pud = pud_lookup(m, mm, addr)
        if pud != 0 and read_once(m.entry, pud) != 0:
            if huge_pmd_unshare(m, cpu, mm, pud):
                tlb_adjust_range(m, cpu, addr & -PUD_SIZE, PUD_SIZE)
            else:
                zap_hugetlb_pmds(m, cpu, pud, addr, following)
        addr = following


@kernel
def unmap_hugetlb_vmas(m, cpu, mm, start, end):
    """Unmap what [start, end) maps of the file, whose VMAs are gone, and take it out of i_mmap.

    All is in one section of i_mmap_lock, for no mm may share a table in between that other VMAs will use. What was
    given up is flushed before that ends. Locking: caller must hold mmap_lock and an open gather.
    """
    mmap_assert_locked(m, cpu, mm)
    assert_gather_open(m, cpu)
    file = hugetlb_file(m)
    if data_race(m.file.i_mmap, file) == 0:  # an mm that has a VMA there has entered it
        return
    i_mmap_lock(m, cpu, file)
    row = m.file.i_mmap[file]
    while row != 0:
        if vma_mm(m, row) == mm and start <= m.vma.start[row] < end:
            unmap_hugepage_range(m, cpu, mm, m.vma.start[row], m.vma.end[row])
        row = m.vma.i_mmap_next[row]
    tlb_flush_mmu_tlbonly(m, cpu)
    row = m.file.i_mmap[file]
    while row != 0:
        following = m.vma.i_mmap_next[row]
        if vma_mm(m, row) == mm and start <= m.vma.start[row] < end:
            i_mmap_remove(m, cpu, row)
        row = following
    i_mmap_unlock(m, cpu, file)
    point(m, cpu, UNSHARED, mm, start)


@kernel
def hugetlb_unshare_pmds(m, cpu, mm, start, end):
    """mprotect is about to change the leaves of [start, end): those of this mm alone.

    Locking: caller must hold mmap_lock for writing; returns with i_mmap_lock held, so that nobody shares them now.
    """
    mmap_assert_write_locked(m, cpu, mm)
    i_mmap_lock(m, cpu, hugetlb_file(m))
    addr = start & -PUD_SIZE
    while addr < end:
        pud = pud_lookup(m, mm, addr)
        if pud != 0 and read_once(m.entry, pud) != 0 and huge_pmd_unshare(m, cpu, mm, pud):
            flush_tlb_mm_range(m, cpu, mm, addr, addr + PUD_SIZE, 0)
        addr += PUD_SIZE


@kernel
def find_hugetlb_page(m, cpu, index):
    """The first frame of a page of the file, with one more user and mapping; 0 if it needs a block and none is free.

    Locking: caller must hold i_mmap_lock.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    head = m.hugetlb_page[index]
    if head == 0:
        head = alloc_huge_page(m, cpu)
        if head == 0:
            return 0
        clear_huge_page(m, head)
        m.hugetlb_page[index] = head
    for frame in range(head, head + HPAGE_PMD_NR):
        atomic_add(m.page.refcount, frame, 1)
    add_mapcounts(m, head, 1)
    return head


@kernel
def hugetlb_no_page(m, cpu, row, pmd, index):
    """Map a page of the file at `pmd`, unless another mm that shares the table has: 0, or -EBUS if no block is free.

    Locking: caller must hold i_mmap_lock; takes and releases pmd_lock.
    """
    lockdep_assert_held(m, cpu, i_mmap_row(m, hugetlb_file(m)))
    if read_once(m.entry, pmd) != 0:
        return 0
    head = find_hugetlb_page(m, cpu, index)
    if head == 0:
        return -EBUS
    took(m, cpu, HUGETLB_FAULT)
    smp_wmb()  # the contents before the entry that leads to them
    entry = head << PAGE_SHIFT | HUGETLB_PTE | (RW if m.vma.flags[row] & VM_WRITE else 0)
    pmd_lock(m, cpu, pmd)
    write_once(m.entry, pmd, entry)
    pmd_unlock(m, cpu, pmd)
    return 0


@kernel
def hugetlb_fault(m, cpu, mm, row, addr):
    """Page fault in a VMA of the file: 0, -ENOMEM, or -EBUS past its end and where no block is free.

    Locking: caller must hold mmap_lock for reading; takes and releases i_mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    index = linear_page_index(m, row, addr & -PMD_SIZE) // HPAGE_PMD_NR
    if index >= HUGETLB_PAGES:
        return -EBUS
    pud = pud_alloc(m, cpu, mm, addr)
    if pud < 0:
        return pud
    i_mmap_lock(m, cpu, hugetlb_file(m))
    result = 0
    if read_once(m.entry, pud) == 0 and not huge_pmd_share(m, cpu, mm, row, pud, addr):
        result = alloc_upper(m, cpu, mm, pud, PMD_LEVEL)
    if result == 0:
        result = hugetlb_no_page(m, cpu, row, pmd_offset(m, pud, addr), index)
    i_mmap_unlock(m, cpu, hugetlb_file(m))
    return result
