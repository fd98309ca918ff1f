"""CortenMM: a table that a call covers is unhooked first and emptied later; a bit in it tells the waiters for its lock.

    MADV_DONTNEED of a table's 2 MiB                another CPU
    ================================                ===========
    pmd_lock; the pmd names T: clears it
      ptl of T: T is stray; drops the ptl           pte_lock(): waits for the ptl of T
    drops pmd_lock                                    stray: drops it, begins again: a new table
    clears the entries of T into the gather,
      lets go of the ptl as often as it likes       fault: fills the new table
    T joins the gather: flush, grace period, free

Nobody can come to T once it is stray, so what the zap has cleared stays clear. No scan is needed, and to let go of the
ptl on the way is harmless (against PT_RECLAIM: H16). A table that only became empty stays. corten-eager frees that as
well, at the entry that goes last: T's entries are counted under its ptl in both.

Adapted. The node lock is the ptl; upper levels are Linux's, with its free_pgtables. Paths that take a table out with
mmap_lock held for writing (collapse, mremap) need no mark. No CPU is between its look at the pmd and the ptl then. The
reverse map, which CortenMM has not, may miss an entry of a stray table. It takes the page for mapped still, and lets it
be. That will not do for truncate, nor may a guard get lost. So a table with pages of a file or markers goes entry by
entry.

Source: CortenMM, SOSP 2025; ostd/src/mm/page_table of Asterinas: the locking protocol "adv".
"""

from emulator.atomic import data_race, kernel, kernel_inline, knob, or_words, write_once
from emulator.bug import detecting
from emulator.cpu.interrupts import point
from emulator.pgtable import address_of, entry_at
from emulator.pgtable_types import FILE, PMD_SIZE, PTRS_PER_PTE, SPECIAL
from emulator.policy.plain_count import entries_of
from emulator.policy.ptlock import unlock_table, unlock_tables
from emulator.tables.mmu_gather import ZAP_RECLAIM, pte_free_tlb
from emulator.tables.rcu import rcu_read_lock, rcu_read_unlock
from emulator.tables.unhook import check_empty, flush_and_free_table, lock_named, note_unhooked, unlock_named
from emulator.watch.lockdep import assert_gather_open
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

STRAYED = point_number("corten.stray")
FIRST = path_number("zap unhooks the table first")
EMPTIED = path_number("an emptied table goes, stray")


@kernel
def make_stray(m, cpu, pmd, table, eager):
    """Take a table out of its pmd and mark it, if it is there still, and if `eager` empty; True if done.

    A table with pages of a file or markers stays, unless it is empty.
    Locking: takes and releases pmd_lock and, inside of it, the ptl.
    """
    named = lock_named(m, cpu, pmd, table, True)
    if eager:
        gone = named and entries_of(m, table) == 0
    else:
        gone = named and or_words(m.entry, entry_at(table, 0), PTRS_PER_PTE) & (FILE | SPECIAL) == 0
    if gone:
        write_once(m.entry, pmd, 0)
        if not knob(m.config.stray_forgotten):
            write_once(m.ptnote.policy_word, table, 1)
    unlock_named(m, cpu, pmd, table, named)
    if gone:
        point(m, cpu, STRAYED, table, data_race(m.entry, pmd))
    return gone


@kernel
def unhook_covered(m, cpu, pmd, table, details, length):
    """A zap of `length` bytes of a table begins: True if the table is out of its pmd. Locking: a gather is open."""
    assert_gather_open(m, cpu)
    if length != PMD_SIZE or details & ZAP_RECLAIM == 0 or not make_stray(m, cpu, pmd, table, False):
        return False
    took(m, cpu, FIRST)
    return True


@kernel
def free_covered(m, cpu, mm, pmd, table, addr):
    """The zap of a stray table has ended: the table goes into the gather. Locking: caller must hold no ptl."""
    assert_gather_open(m, cpu)
    m.cpu.emptied[cpu] = 0
    if detecting(m):
        check_empty(m, cpu, table)
    note_unhooked(m, cpu, mm, pmd, table)
    pte_free_tlb(m, cpu, table, addr)


@kernel
def free_emptied(m, cpu, table, pmd, mm):
    """Free a table that this CPU has emptied, unless somebody has filled it, or freed it.

    Locking: caller must hold no ptl, and be in a read section since it did.
    """
    gone = make_stray(m, cpu, pmd, table, True)
    rcu_read_unlock(m, cpu)
    if gone:
        took(m, cpu, EMPTIED)
        addr = address_of(m, pmd)
        note_unhooked(m, cpu, mm, pmd, table)
        flush_and_free_table(m, cpu, mm, table, addr)


@kernel_inline
def unlock_eager(m, cpu, table):
    """Drop the ptl; a table whose last entry went under it goes. Locking: caller must hold it."""
    if m.cpu.emptied[cpu] != table:
        unlock_table(m, cpu, table)
        return
    m.cpu.emptied[cpu] = 0
    pmd, mm = m.ptdesc.pmd[table], m.ptdesc.mm[table] - 1
    if m.ptnote.policy_word[table] != 0 or (m.cpu.gather_mm[cpu] == mm + 1 and m.cpu.gather_full[cpu] != 0):
        unlock_table(m, cpu, table)
        return
    rcu_read_lock(m, cpu)
    unlock_table(m, cpu, table)
    free_emptied(m, cpu, table, pmd, mm)


@kernel
def unlock_pair_eager(m, cpu, table, other):
    """Drop two ptls; of two tables one at most lost its last entry, and goes. Locking: caller must hold them."""
    emptied = m.cpu.emptied[cpu]
    m.cpu.emptied[cpu] = 0
    if emptied == 0 or m.ptnote.policy_word[emptied] != 0:
        unlock_tables(m, cpu, table, other)
        return
    pmd, mm = m.ptdesc.pmd[emptied], m.ptdesc.mm[emptied] - 1
    rcu_read_lock(m, cpu)
    unlock_tables(m, cpu, table, other)
    free_emptied(m, cpu, emptied, pmd, mm)
