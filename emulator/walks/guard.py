"""Guard markers: entries without a frame that make an access fail, kept in the PTE table and counted like any other.

A guard needs a table even where nothing was touched, and outlives MADV_DONTNEED; it goes with MADV_GUARD_REMOVE or
with its VMA. Installing takes turns: fill the empty entries, and if others were found zap them and begin again.

Source: madvise_guard_install and madvise_guard_remove, mm/madvise.c, since 6.13.
"""

from emulator.atomic import kernel, read_once, write_once
from emulator.bug import stopped
from emulator.cpu.interrupts import point
from emulator.fault.zap import zap_page_range
from emulator.huge.huge_memory import pte_alloc_split
from emulator.pages.vma import anon_vma_prepare
from emulator.pgtable import pmd_addr_end, pte_offset
from emulator.pgtable_types import PAGE, PTE_MARKER_GUARD
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_put, pte_put_entries_tlb, pte_unlock
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import EINTR
from emulator.watch.lockdep import assert_gather_open, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

INSTALL = path_number("guard, install")
REMOVE = path_number("guard, remove")

GUARDED = point_number("guard.installed")


@kernel
def guard_install_pte_range(m, cpu, pmd, table, addr, end):
    """Put a guard into each empty entry of [addr, end) in one PTE table: how many entries hold something else. 1 if the
    table has gone: another turn.

    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    took(m, cpu, INSTALL)
    installed = others = 0
    if not pte_lock(m, cpu, pmd, table):
        return 1
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if entry == 0:
            write_once(m.entry, pte, PTE_MARKER_GUARD)
            installed += 1
        elif entry != PTE_MARKER_GUARD:
            others += 1
        addr += PAGE
    entry_changed(m, cpu, pmd, table, 0, PTE_MARKER_GUARD, installed)
    point(m, cpu, GUARDED, table, installed)
    pte_unlock(m, cpu, table)
    return others


@kernel
def guard_install_range(m, cpu, mm, addr, end):
    """Put a guard into each empty entry of [addr, end); how many entries hold something else, or -ENOMEM.

    Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    others = 0
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_alloc(m, cpu, mm, addr)
        table = pmd if pmd < 0 else pte_alloc_split(m, cpu, mm, pmd, addr)
        if table < 0:
            return table
        others += guard_install_pte_range(m, cpu, pmd, table, addr, following)
        pte_put(m, cpu, mm, pmd, addr)
        addr = following
        cond_resched(m, cpu)
    return others


@kernel
def guard_install(m, cpu, mm, row, start, end):
    """MADV_GUARD_INSTALL for [start, end), which lies in the VMA at `row`: 0 or -ENOMEM.

    Linux restarts the system call after three turns; here the turns go on.
    Locking: caller must hold mmap_lock for reading: pages may come back between the turns.
    """
    mmap_assert_locked(m, cpu, mm)
    anon_vma_prepare(m, mm, row)  # fork must not leave the table behind
    while True:
        others = guard_install_range(m, cpu, mm, start, end)
        if others <= 0:
            return others
        zap_page_range(m, cpu, mm, start, end, 0)
        if stopped(m):
            return -EINTR


@kernel
def guard_remove_pte_range(m, cpu, mm, pmd, table, addr, end):
    """Take the guards out of [addr, end) in one PTE table, and out of its count.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    assert_gather_open(m, cpu)
    took(m, cpu, REMOVE)
    start = addr
    removed = 0
    if not pte_lock(m, cpu, pmd, table):
        return
    while addr < end:
        pte = pte_offset(table, addr)
        if read_once(m.entry, pte) == PTE_MARKER_GUARD:
            write_once(m.entry, pte, 0)
            removed += 1
        addr += PAGE
    entry_changed(m, cpu, pmd, table, PTE_MARKER_GUARD, 0, removed)
    pte_unlock(m, cpu, table)
    if removed != 0:
        pte_put_entries_tlb(m, cpu, mm, pmd, start, removed)
