"""Readers of policies that free tables without counting their users: RCU, the ptl, and a second look at the pmd.

    walker                                freer (pt_reclaim.py, retract.py)
    ======                                =================================
    pte_try_get(): reads the pmd, T
                                          ptl of T; T is empty
                                          pmd_lock, clears the pmd
    pte_lock(): rcu_read_lock()           drops both, flushes, call_rcu(T)
      the pmd names T still?  else: gone
      ptl of T
      the pmd names T still?  else: gone
    rcu_read_unlock()

Nothing is held between the two: a fault allocates there. The first look under rcu_read_lock makes T's memory last until
the section ends, so its ptl may be taken. The second makes T the table of the range, and its freer needs that ptl. What
a walker then does where T has gone is what it does where an entry has changed: it looks again, or skips.

Where a table that goes is marked under its ptl (corten.py) the second look is at the mark.

Source: pte_offset_map_lock, mm/pgtable-generic.c, since 6.5.
"""

from emulator.atomic import MARKS_STRAY, data_race, kernel, kernel_inline, knob, read_once
from emulator.bug import detecting
from emulator.cpu.interrupts import point
from emulator.pgtable import pmd_pgtable
from emulator.policy.ptlock import lock_table, lock_tables, unlock_table, unlock_tables
from emulator.tables.rcu import account_rcu_age, rcu_read_lock, rcu_read_unlock
from emulator.watch.points import point_number

LOCKING = point_number("pte_lock.read-pmd")


@kernel
def still_at(m, pmd, table):
    """True if the pmd names the table still. Locking: caller must be in a read section."""
    return pmd_pgtable(read_once(m.entry, pmd)) == table


@kernel_inline
def gone_since(m, pmd, table):
    """True if a table that was there when its ptl was asked for has gone: its mark says so, or the pmd.

    Locking: caller must hold the ptl, and be in a read section.
    """
    if MARKS_STRAY and m.config.stray[0] != 0:
        return m.ptnote.policy_word[table] != 0
    return not still_at(m, pmd, table) and not knob(m.config.lock_no_pmd_recheck)


@kernel
def pte_lock_rcu(m, cpu, pmd, table):
    """pte_lock where nothing pins the table."""
    rcu_read_lock(m, cpu)
    held = still_at(m, pmd, table)
    if held:
        point(m, cpu, LOCKING, table, pmd)
        lock_table(m, cpu, table)
        if gone_since(m, pmd, table):
            unlock_table(m, cpu, table)
            held = False
    rcu_read_unlock(m, cpu)
    return held


@kernel
def pte_lock_pair_rcu(m, cpu, pmd, table, other_pmd, other):
    """pte_lock_pair where nothing pins the tables."""
    rcu_read_lock(m, cpu)
    held = still_at(m, pmd, table) and still_at(m, other_pmd, other)
    if held:
        lock_tables(m, cpu, table, other)
        if gone_since(m, pmd, table) or gone_since(m, other_pmd, other):
            unlock_tables(m, cpu, table, other)
            held = False
    rcu_read_unlock(m, cpu)
    return held


@kernel
def pte_peek_rcu(m, cpu, pmd, table, pte):
    """pte_peek where nothing pins the table."""
    entry = 0
    rcu_read_lock(m, cpu)
    generation = data_race(m.ptdesc.generation, table) if detecting(m) else 0
    if still_at(m, pmd, table):
        entry = read_once(m.entry, pte)
        if detecting(m):
            account_rcu_age(m, cpu, table, generation)
    rcu_read_unlock(m, cpu)
    return entry
