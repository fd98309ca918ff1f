"""illumos: visitors of a table and its entries are counted apart; the last visitor of an empty one takes it out.

    fault                                           zap, reclaim, mremap: the last one out
    =====                                           ======================================
    lock of the pmd's hash                          clears the last entry under the ptl: 0 are left
      the pmd names T: visitors + 1
    drops it                                        lock of the pmd's hash
    ptl: sets its entry, entries + 1                  visitors is 2: leaves, - 1
    lock of the pmd's hash                          drops it
      entries is not 0: leaves, - 1
    drops it

    CPU 0: lock of the hash; one visitor, no entry  another CPU
      pmd: T -> none, by compare and exchange       hardware: may walk T still
      flushes one address of T, PSC too; waits      forgets it
    drops it                                        lock of the hash: the pmd is none
    T joins the cache of the process                allocates it from there: no entry, no zeroing

Two words say what one says in pte_ref v1: a table may go when the first is 1 and the second 0. No visitor ever fails or
waits for a freer, and no grace period is needed: to come is to hold the lock. It costs two locks of a hash for each
visit. Memory goes back only to the process until memory is short or the process ends.

Adapted. Entries change under Linux's ptl, so their count is plain; illumos has no such lock, but an atomic add and a
compare-and-exchange of the entry. The hash is of the pmd's place, which stands for (hat, address, level). illumos goes
on to the PMD table in the same step; here upper.py frees it, to the zone. Stealing takes free tables of other processes
alone: illumos unmaps live ones as well, Linux would have reclaim do that. The exit of an mm leaves tables to
free_pgtables, then gives up the cache (there: hat_free_end).

Source: htable_lookup, htable_release, htable_free and unlink_ptp, uts/i86pc/vm/htable.c.
"""

from emulator.atomic import atomic_add, cmpxchg, kernel, kernel_inline, knob, read_once, write_once
from emulator.bug import BUG, detecting
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import HTABLE_LOCK, spin_lock, spin_unlock
from emulator.mm_types import NR_HTABLE_LOCKS
from emulator.pages.page_alloc import account_reuse, free_table
from emulator.pages.table_cache import pop_cached, push_cached
from emulator.pgtable import pmd_pgtable
from emulator.pgtable_types import PAGE, PTRS_SHIFT, TABLE_ALLOCATED, TABLE_FREE
from emulator.policy.pins import check_use
from emulator.policy.plain_count import entries_of
from emulator.tables.unhook import check_empty, note_unhooked
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import mark_life
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
BUG_UNDERFLOW = int(Bug.COUNT_UNDERFLOW)
FOUND = point_number("htable.found")
KEPT = point_number("htable.kept")
UNLINKED = point_number("htable.unlinked")
LAST_VISITOR = path_number("the last visitor takes its table")


@kernel_inline
def hash_of(pmd):
    """Which lock guards the visitors of the table at `pmd`."""
    return (pmd + (pmd >> PTRS_SHIFT)) & (NR_HTABLE_LOCKS - 1)


@kernel
def htable_lookup_unlocked(m, cpu, pmd):
    """htable_lookup with the lock left out."""
    table = pmd_pgtable(read_once(m.entry, pmd))
    point(m, cpu, FOUND, table, pmd)
    if table != 0:
        atomic_add(m.ptdesc.pte_refcount, table, 1)
    return table


@kernel
def htable_lookup(m, cpu, pmd):
    """Visit the table at `pmd`: its number, or 0 if there is none.

    Locking: takes and releases the htable lock of the pmd.
    """
    if knob(m.config.lookup_unlocked):
        return htable_lookup_unlocked(m, cpu, pmd)
    lock = hash_of(pmd)
    spin_lock(m, cpu, m.htable.lock, lock, HTABLE_LOCK)
    table = pmd_pgtable(read_once(m.entry, pmd))
    point(m, cpu, FOUND, table, pmd)
    if table != 0:
        write_once(m.ptdesc.pte_refcount, table, m.ptdesc.pte_refcount[table] + 1)
    spin_unlock(m, cpu, m.htable.lock, lock, HTABLE_LOCK)
    return table


@kernel
def htable_free(m, cpu, mm, table):
    """A table that was unlinked and flushed joins the cache of its mm. Locking: takes and releases the list's lock."""
    mark_life(m, cpu, m.life.flushed, table)
    m.ptdesc.generation[table] += 1
    write_once(m.ptdesc.state, table, TABLE_FREE)  # a stale walk may be looking
    account_reuse(m, cpu, table)
    mark_life(m, cpu, m.life.freed, table)
    push_cached(m, cpu, mm, table)
    point(m, cpu, KEPT, table, mm)


@kernel
def unlink_ptp(m, cpu, mm, pmd, table, addr):
    """Take an empty table out of its pmd and flush one address of it. Locking: caller must hold the pmd's htable lock,
    and be the only visitor.
    """
    entry = read_once(m.entry, pmd)
    if pmd_pgtable(entry) != table or cmpxchg(m.entry, pmd, entry, 0) != entry:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, entry)
    if detecting(m):
        check_empty(m, cpu, table)
    note_unhooked(m, cpu, mm, pmd, table)
    took(m, cpu, LAST_VISITOR)
    point(m, cpu, UNLINKED, table, pmd)
    if not knob(m.config.no_flush) and not knob(m.config.cache_before_flush):
        flush_tlb_mm_range(m, cpu, mm, addr, addr + PAGE, 1)


@kernel
def htable_release(m, cpu, mm, pmd, addr):
    """Leave the table at `pmd`; the last visitor of an empty one frees it, unless the mm exits.

    Locking: takes and releases the pmd's htable lock; caller must be a visitor and hold no ptl.
    """
    lock = hash_of(pmd)
    spin_lock(m, cpu, m.htable.lock, lock, HTABLE_LOCK)
    entry = read_once(m.entry, pmd)
    table = pmd_pgtable(entry)
    if table == 0 or (detecting(m) and table != m.cpu.pin_table[cpu] and table != m.cpu.pin_outer[cpu]):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
    if detecting(m):
        check_use(m, cpu, table)
    visitors = m.ptdesc.pte_refcount[table] - 1
    mark_life(m, cpu, m.life.put, table)
    if visitors < 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, visitors + 1, visitors)
    exiting = m.cpu.gather_mm[cpu] == mm + 1 and m.cpu.gather_full[cpu] != 0
    empty = visitors == 0 and not exiting and entries_of(m, table) == 0
    write_once(m.ptdesc.pte_refcount, table, visitors)
    if empty:
        mark_life(m, cpu, m.life.zero, table)
        unlink_ptp(m, cpu, mm, pmd, table, addr)
    spin_unlock(m, cpu, m.htable.lock, lock, HTABLE_LOCK)
    if empty:
        htable_free(m, cpu, mm, table)
        if knob(m.config.cache_before_flush):
            flush_tlb_mm_range(m, cpu, mm, addr, addr + PAGE, 1)


@kernel
def htable_reap(m, cpu, mm):
    """Give the tables that an mm keeps back to the zone. Locking: takes and releases the lock of its list."""
    table = pop_cached(m, cpu, mm)
    while table != 0:
        m.ptdesc.state[table] = TABLE_ALLOCATED
        free_table(m, cpu, table)
        table = pop_cached(m, cpu, mm)


@kernel
def htable_reap_all(m, cpu):
    """Memory is short: no mm keeps a table."""
    for mm in range(m.config.n_mm[0]):
        htable_reap(m, cpu, mm)
