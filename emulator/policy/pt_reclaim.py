"""CONFIG_PT_RECLAIM: a zap that leaves a PTE table empty frees it, without a count: Linux's rule, and two of ours.

    zap of a table's 2 MiB (MADV_DONTNEED)          another CPU
    ======================================          ===========
    ptl of T
    clears all entries, keeps none
    fast: the ptl was never dropped, so T is empty
      pmd_lock by trylock; clears the pmd           fault: pte_lock() finds the pmd none: begins again
    drops both
    slow: the ptl was dropped (the gather was full,
      need_resched), or pmd_lock was held           fault: sets an entry meanwhile
      pmd_lock, ptl; the pmd names T still?
      512 entries none?  then clears the pmd
    T joins the gather: flush, grace period, free   walker in a read section: may look at T still

The trylock is for the lock order, which is pmd_lock, then ptl. An entry that had to stay (a guard) makes the zap give
up. What the rule cannot see: a table that is emptied in pieces, by reclaim, by MADV_FREE, by munmap beside a neighbour.
So edges scans the first and last table of a zap as well, and any scans every table that a zap touched.

Source: zap_pte_range, try_get_and_clear_pmd and try_to_free_pte, mm/memory.c; 6375e95f381e, 2686d514c345.
"""

from emulator.atomic import data_race, kernel, kernel_inline, knob, read_once, write_once
from emulator.bug import BUG, detecting
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import pmd_trylock, pmd_unlock
from emulator.pgtable import pmd_pgtable, same_ptl
from emulator.pgtable_types import PMD_SIZE
from emulator.policy.policies import RECLAIM_ANY, RECLAIM_EDGES
from emulator.tables.mmu_gather import ZAP_RECLAIM, pte_free_tlb
from emulator.tables.unhook import check_empty, note_unhooked, unhook_if_empty
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
FAST = path_number("zap frees the table, ptl held")
SLOW = path_number("zap frees the table, by a scan")
CLEARED_PMD = point_number("zap.pmd-cleared")


@kernel_inline
def scans(m, cpu):
    """True if a zap looks into tables that it covers in part. The exit of an mm frees all of them anyway."""
    return m.config.reclaim[0] >= RECLAIM_EDGES and m.cpu.gather_full[cpu] == 0


@kernel_inline
def covers(m, cpu, details, length):
    """True if a zap of `length` bytes of one table may end by the fast path (reclaim_pt_is_enabled)."""
    rule = m.config.reclaim[0]
    if length != PMD_SIZE or rule == RECLAIM_ANY or m.cpu.gather_full[cpu] != 0:
        return False
    return rule == RECLAIM_EDGES or details & ZAP_RECLAIM != 0


@kernel
def try_get_and_clear_pmd(m, cpu, pmd, table):
    """Fast path: clear the pmd of a table that this CPU has emptied; False if somebody has the pmd_lock.

    Locking: caller must hold the ptl since it began to empty the table.
    """
    assert_ptl_held(m, cpu, table)
    nested = not same_ptl(m, pmd, table) or knob(m.config.reclaim_same_lock)
    if nested and not pmd_trylock(m, cpu, pmd):
        return False
    named = pmd_pgtable(read_once(m.entry, pmd))
    if named != table:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, named)
    if detecting(m):
        check_empty(m, cpu, table)
    write_once(m.entry, pmd, 0)
    if nested:
        pmd_unlock(m, cpu, pmd)
    took(m, cpu, FAST)
    point(m, cpu, CLEARED_PMD, table, data_race(m.entry, pmd))
    return True


@kernel
def reclaim_locked(m, cpu, pmd, table, details, length, skipped, dropped):
    """The end of a zap of `length` bytes of a table, under the ptl still: True if it has cleared the pmd.

    `skipped`: an entry had to stay. `dropped`: the ptl was let go in between. Locking: caller must hold the ptl.
    """
    assert_ptl_held(m, cpu, table)
    if not covers(m, cpu, details, length) or skipped or (dropped and not knob(m.config.reclaim_trusts_first_pass)):
        return False
    return try_get_and_clear_pmd(m, cpu, pmd, table)


@kernel
def reclaim_unlocked(m, cpu, mm, pmd, table, details, start, end, skipped, cleared_pmd):
    """The end of a zap of [start, end) of a table, behind the ptl: the table goes into the gather if it is unhooked.

    The flush is of an address that the table mapped: `end` is the next table's (478a1c3abebf).
    Locking: caller must hold no ptl, and an open gather.
    """
    assert_gather_open(m, cpu)
    may_go = not skipped and (scans(m, cpu) or covers(m, cpu, details, end - start))
    if cleared_pmd:
        note_unhooked(m, cpu, mm, pmd, table)
    elif not may_go or not unhook_if_empty(m, cpu, mm, pmd, table):
        return
    else:
        took(m, cpu, SLOW)
    pte_free_tlb(m, cpu, table, end if knob(m.config.advanced_address) else start)
