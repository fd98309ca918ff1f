"""The asynchronous scan of 2024: now and then a process looks for empty PTE tables of its own on its way to user mode.

    thread of the process                            another thread
    =====================                            ==============
    returns to user mode; 100 ms are over
    mm.next_scan: old -> now + 100 ms  (one wins)    sees the new one, goes on
    mmap_lock for reading by trylock
    per VMA, from scan_offset on; per 2 MiB in it:
      pmd_lock, ptl; the pmd names the table still,
      512 entries none?  clears the pmd
      flush; grace period, free                      pte_lock() finds the pmd none: begins again
    budget used up: scan_offset is where to go on

It finds what emptied a table in pieces, by reclaim or by MADV_FREE, and nothing of a process that stays asleep. A slot
of 2 MiB counts only if one VMA fills it. The budget is compared between VMAs, so a VMA is scanned whole. Adapted: the
flush is behind the two locks, and where memory is short the process scans at once.

Source: the RFC of 2024-06-13 (Qi Zheng, "asynchronously scan and free empty user PTE pages"), 3 of 3.
"""

from emulator.atomic import cmpxchg, kernel, now_ns, read_once, write_once
from emulator.locking.mmap_lock import mmap_read_trylock, mmap_read_unlock
from emulator.pages.vma import find_vma
from emulator.pgtable import pmd_lookup, pmd_pgtable
from emulator.pgtable_types import PMD_SIZE
from emulator.tables.rcu import cond_resched
from emulator.tables.unhook import flush_and_free_table, unhook_if_empty
from emulator.uapi import VM_HUGEPAGE, VM_HUGETLB, VM_UFFD
from emulator.watch.lockdep import might_sleep, mmap_assert_locked
from emulator.watch.paths import path_number, took

SCAN = path_number("scan for empty tables")
BUDGET = 256 << 20  # bytes of address space in one scan


@kernel
def scan_slot(m, cpu, mm, addr):
    """Free the PTE table of the 2 MiB at `addr` if it is empty. Locking: caller must hold mmap_lock for reading."""
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    table = 0 if pmd == 0 else pmd_pgtable(read_once(m.entry, pmd))
    if table != 0 and unhook_if_empty(m, cpu, mm, pmd, table):
        took(m, cpu, SCAN)
        flush_and_free_table(m, cpu, mm, table, addr)


@kernel
def scan_mm(m, cpu, mm):
    """Scan the VMAs from mm.scan_offset on until the budget is used up. Locking: caller must hold mmap_lock."""
    mmap_assert_locked(m, cpu, mm)
    row = find_vma(m, mm, read_once(m.mm.scan_offset, mm))
    scanned = 0
    while row != 0 and scanned < BUDGET:
        addr = (m.vma.start[row] + PMD_SIZE - 1) & -PMD_SIZE
        skipped = m.vma.flags[row] & (VM_HUGETLB | VM_HUGEPAGE | VM_UFFD) != 0
        while addr + PMD_SIZE <= m.vma.end[row] and not skipped:
            scan_slot(m, cpu, mm, addr)
            addr += PMD_SIZE
            scanned += PMD_SIZE
            cond_resched(m, cpu)
        row = m.vma.next[row]
    write_once(m.mm.scan_offset, mm, m.vma.start[row] if row != 0 else 0)


@kernel
def scan_now(m, cpu, mm):
    """Scan, unless mmap_lock is held for writing. Locking: caller must hold nothing."""
    might_sleep(m, cpu)
    if mmap_read_trylock(m, cpu, mm):
        scan_mm(m, cpu, mm)
        mmap_read_unlock(m, cpu, mm)


@kernel
def scan_tick(m, cpu, mm):
    """On the way to user mode: scan if the time of the mm has come. Locking: caller must hold nothing."""
    might_sleep(m, cpu)
    now = now_ns(m, cpu)
    due = read_once(m.mm.next_scan, mm)
    if now >= due and cmpxchg(m.mm.next_scan, mm, due, now + m.config.scan_period[0] * 1000) == due:
        if due != 0:  # the first look begins the first period
            scan_now(m, cpu, mm)
