"""XNU on arm64: two counts of a table, entries and visitors, and a wait until every CPU was seen outside of a page-out.

    fault                             zap, as it leaves                        page-out: an rmap walk
    =====                             =================                        ======================
    lock of the mm, shared
      the pmd names T: wired 0 -> 1
    drops it, allocates
    ptl of T: sets its entry,
      entries 0 -> 1                  ptl of T: clears it, entries 1 -> 0      "in a walk" is odd
    wired 1 -> 0                      lock of the mm, alone                    reads the pmd: T; takes no lock of the mm
                                        T there, wired 0, entries 0?             and does not wire T
                                        clears the pmd, flushes the 2 MiB
                                      drops it                                 ptl of T: the pmd is none: leaves it
                                      waits until each CPU was seen outside    "in a walk" is even
                                      frees T, at once

A wired table stays, so a visitor may let go of all locks between its look at the pmd and its entry. A page-out comes by
the page and holds only the page's lock, so nobody can wire T for it. The wait is a grace period made by hand. It never
frees a table: one that it has emptied waits for the next zap that touches it, and one that has swap entries stays.

Adapted. XNU has no ptl: it changes entries by cmpxchg, and its counts apart from them, by atomics. Here entries are
counted under the ptl with the change (plain_count.py). So the two orders of H31, count before flush and flush before
count, are not told apart. The zap's own flush covers all of T, and its wait any walk that is in T. What is left of H31
is the wait. XNU holds its lock for the whole of a range removal and of a fault. Here a look at a pmd takes it, and so
does a CPU that frees a table. Its reclaim steals tables that are not wired; Linux could not get the entries back. The
exit of an mm leaves tables to free_pgtables. Upper tables go there as well.

Source: pmap_enter_options, pmap_remove_options and pmap_disconnect_options, osfmk/arm/pmap/pmap.c of xnu-11417.
"""

from emulator.atomic import (
    atomic_add_return,
    cpu_relax,
    kernel,
    kernel_inline,
    knob,
    read_once,
    sched_yield,
    smp_load_acquire,
    smp_mb,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, detecting, waits_for
from emulator.cpu.interrupts import point, take_interrupts
from emulator.locking.rwlock import read_lock, read_unlock, write_lock, write_unlock
from emulator.locking.spinlock import PTE_LOCK, pmd_lock, pmd_unlock, spin_lock, spin_unlock
from emulator.pgtable import address_of, pmd_pgtable, ptl_of, same_ptl, table_of
from emulator.tables.mmu_gather import tlb_remove_table_free
from emulator.tables.unhook import check_empty, flush_table, note_unhooked
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import might_sleep
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

BUG_UNDERFLOW = int(Bug.COUNT_UNDERFLOW)
PMAP_LOCK = int(Wait.PMAP_LOCK)
RMAP_WALK = int(Wait.RMAP_WALK)
NOTHING = int(Wait.NOTHING)
UNHOOKED = point_number("xnu.unhooked")
WAITING = point_number("xnu.waiting")
GOES = path_number("an unwired table goes")
IN_WALK = 0  # of a CPU's words: odd while it is in an rmap walk


@kernel_inline
def walk_word(m, cpu):
    """Where a CPU says whether it is in an rmap walk."""
    return cpu * m.config.cpu_words[0] + IN_WALK


@kernel_inline
def in_walk(m, cpu):
    """True if this CPU is in an rmap walk."""
    return m.cpu_word[walk_word(m, cpu)] & 1 != 0


@kernel
def enter_walk(m, cpu):
    """An rmap walk begins: no table that this CPU comes to is freed before it ends. Locking: as rmap_walk_begins."""
    write_once(m.cpu_word, walk_word(m, cpu), m.cpu_word[walk_word(m, cpu)] + 1)
    smp_mb()  # before it looks at a pmd; pairs with the barrier in wait_for_walks


@kernel
def leave_walk(m, cpu):
    """An rmap walk ends."""
    smp_store_release(m.cpu_word, walk_word(m, cpu), m.cpu_word[walk_word(m, cpu)] + 1)


@kernel
def wait_for_walks(m, cpu):
    """Wait until every CPU was seen outside of an rmap walk: none can have what was unhooked before.

    Locking: caller must hold no spinlock, and no lock that an rmap walk takes on its way.
    """
    might_sleep(m, cpu)
    smp_mb()  # what it has unhooked comes first; pairs with the barrier in enter_walk
    for other in range(m.config.n_cpu[0]):
        seen = smp_load_acquire(m.cpu_word, walk_word(m, other))
        if other == cpu or seen & 1 == 0:
            continue
        waits_for(m, cpu, RMAP_WALK, other)
        while smp_load_acquire(m.cpu_word, walk_word(m, other)) == seen:
            take_interrupts(m, cpu)
            cpu_relax()
            sched_yield()
    waits_for(m, cpu, NOTHING, 0)


@kernel
def pte_try_get_wired(m, cpu, pmd):
    """pte_try_get by the lock of the mm, shared: the table is wired. In an rmap walk neither is needed."""
    if in_walk(m, cpu):
        if detecting(m):
            m.cpu.pin_table[cpu] = 0  # what it had pinned last it has left
        return pmd_pgtable(read_once(m.entry, pmd))
    mm = m.ptdesc.mm[table_of(pmd)] - 1
    read_lock(m, cpu, m.mm.pmap_lock, mm, PMAP_LOCK)
    table = pmd_pgtable(read_once(m.entry, pmd))
    if table != 0:
        atomic_add_return(m.ptnote.policy_word, table, 1)
    read_unlock(m, cpu, m.mm.pmap_lock, mm, PMAP_LOCK)
    return table


@kernel
def unwire(m, cpu, pmd):
    """Leave the table at `pmd`, which is wired, so it is that still; in an rmap walk there is nothing to do."""
    if not in_walk(m, cpu):
        table = pmd_pgtable(read_once(m.entry, pmd))
        wired = atomic_add_return(m.ptnote.policy_word, table, -1)
        if detecting(m) and wired < 0:
            BUG(m, cpu, BUG_UNDERFLOW, table, wired + 1, wired)


@kernel
def unhook_unwired(m, cpu, mm, pmd, table):
    """Clear the pmd if it names `table` still and that has neither entries nor visitors, and flush; True if so.

    Locking: caller must hold the lock of the mm, alone; takes and releases pmd_lock and, inside of it, the ptl.
    """
    if pmd_pgtable(read_once(m.entry, pmd)) != table:
        return False
    if smp_load_acquire(m.ptnote.policy_word, table) != 0 and not knob(m.config.wired_ignored):
        return False
    if read_once(m.ptnote.nr_entries, table) != 0:  # the last visitor may have left an entry: look in this order
        return False
    pmd_lock(m, cpu, pmd)
    nested = not same_ptl(m, pmd, table)
    if nested:
        spin_lock(m, cpu, m.ptdesc.ptl, ptl_of(m, table), PTE_LOCK)
    write_once(m.entry, pmd, 0)
    if detecting(m):
        check_empty(m, cpu, table)
    if nested:
        spin_unlock(m, cpu, m.ptdesc.ptl, ptl_of(m, table), PTE_LOCK)
    pmd_unlock(m, cpu, pmd)
    took(m, cpu, GOES)
    note_unhooked(m, cpu, mm, pmd, table)
    point(m, cpu, UNHOOKED, table, pmd)
    flush_table(m, cpu, mm, address_of(m, pmd))
    return True


@kernel
def leave_and_free(m, cpu, mm, pmd):
    """The end of a zap of the table at `pmd`: leave it, and free it if it has neither entries nor visitors.

    Locking: caller must hold no ptl, and be a visitor.
    """
    table = pmd_pgtable(read_once(m.entry, pmd))
    looks = read_once(m.ptnote.nr_entries, table) == 0 and m.cpu.gather_full[cpu] == 0
    unwire(m, cpu, pmd)
    if not looks:
        return
    write_lock(m, cpu, m.mm.pmap_lock, mm, PMAP_LOCK)
    gone = unhook_unwired(m, cpu, mm, pmd, table)
    write_unlock(m, cpu, m.mm.pmap_lock, mm, PMAP_LOCK)
    if gone:
        point(m, cpu, WAITING, table, pmd)
        if not knob(m.config.free_without_wait):
            wait_for_walks(m, cpu)
        tlb_remove_table_free(m, cpu, table)
