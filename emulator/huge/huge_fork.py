"""fork of a huge page. The child gets a leaf of its own, over a table of its own, and both lose the right to store.

A write fault takes the leaf back if nobody else uses a page of it, or splits it and copies one (huge_memory.py).

Source: copy_huge_pmd, mm/huge_memory.c.
"""

from emulator.atomic import atomic_add, kernel, read_once, smp_store_release
from emulator.huge.huge_memory import (
    FALLBACK,
    HUGE_ZERO_PAGE,
    pgtable_trans_huge_deposit,
    split_huge_pmd_locked,
)
from emulator.locking.spinlock import pmd_lock_pair, pmd_unlock_pair
from emulator.pages.huge_page import add_mapcounts, sole_user
from emulator.pages.page_alloc import free_table
from emulator.pages.vmscan import pte_alloc_one
from emulator.pgtable import clear_bits, mm_inc_nr_tables, pmd_trans_huge, set_bits, table_of
from emulator.pgtable_types import ACCESSED, ANON_EXCLUSIVE, HPAGE_PMD_NR, PAGE_SHIFT, RW, UFFD_WP
from emulator.uapi import ENOMEM
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_write_locked
from emulator.watch.paths import path_number, took

FORK_HUGE = path_number("huge page, fork")


@kernel
def share_leaf(m, cpu, child, child_pmd, pmd, table):
    """Write-protect the leaf at `pmd` and give it to the child; False if a page of it is pinned: it is as it was then.

    The look at the users comes after the write protection, as in copy_present_pte. Locking: caller must hold both
    pmd_locks.
    """
    assert_ptl_held(m, cpu, table_of(pmd))
    assert_ptl_held(m, cpu, table_of(child_pmd))
    entry = clear_bits(m, pmd, RW | ANON_EXCLUSIVE)
    head = entry >> PAGE_SHIFT
    if head != HUGE_ZERO_PAGE:
        if entry & ANON_EXCLUSIVE and not sole_user(m, head):
            set_bits(m, pmd, entry & (RW | ANON_EXCLUSIVE))
            return False
        for frame in range(head, head + HPAGE_PMD_NR):
            atomic_add(m.page.refcount, frame, 1)
        add_mapcounts(m, head, 1)
        atomic_add(m.mm.rss_anon, child, HPAGE_PMD_NR)
    took(m, cpu, FORK_HUGE)
    mm_inc_nr_tables(m, child)
    pgtable_trans_huge_deposit(m, cpu, child, child_pmd, table)
    smp_store_release(m.entry, child_pmd, entry & ~(RW | ANON_EXCLUSIVE | ACCESSED | UFFD_WP))
    m.cpu.tables_installed[cpu] += 1
    return True


@kernel
def copy_huge_pmd(m, cpu, child, mm, child_pmd, pmd, addr):
    """Copy a leaf to the child: 0, -ENOMEM, or FALLBACK if it had to be split, or was: its entries are to be copied.

    Locking: caller must hold the parent's mmap_lock for writing; takes and releases both pmd_locks.
    """
    mmap_assert_write_locked(m, cpu, mm)
    table = pte_alloc_one(m, cpu)
    if table == 0:
        return -ENOMEM
    pmd_lock_pair(m, cpu, pmd, child_pmd)
    leaf = pmd_trans_huge(read_once(m.entry, pmd))
    done = leaf and share_leaf(m, cpu, child, child_pmd, pmd, table)
    if leaf and not done:
        split_huge_pmd_locked(m, cpu, mm, pmd, addr)
    pmd_unlock_pair(m, cpu, pmd, child_pmd)
    if done:
        return 0
    free_table(m, cpu, table)
    return FALLBACK
