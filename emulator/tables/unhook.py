"""A PTE table is taken out of its pmd and freed, whatever the policy.

Order of a table's death, always: empty, unhooked from the pmd, flushed from TLBs and paging-structure caches. After a
grace period it is freed and poisoned, then used again.
"""

from emulator.atomic import (
    DEBUG,
    FREES_UPPER,
    MARKS_STRAY,
    data_race,
    kernel,
    kernel_inline,
    knob,
    now_ns,
    or_words,
    read_once,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, detecting
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import PTE_LOCK, pmd_lock, pmd_unlock, spin_lock, spin_unlock
from emulator.pgtable import mm_dec_nr_tables, pmd_pgtable, ptl_of, same_ptl, table_of
from emulator.pgtable_types import PMD_SIZE, PRESENT, PTRS_PER_PTE, TABLE_INSTALLED, TABLE_UNHOOKED
from emulator.tables.mmu_gather import tlb_remove_table_free
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import mark_life
from emulator.watch.points import point_number

BUG_DOUBLE_FREE = int(Bug.TABLE_DOUBLE_FREE)
BUG_NOT_EMPTY = int(Bug.FREED_TABLE_NOT_EMPTY)
BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
UNHOOKED = point_number("free_pte_table.unhooked")
UNHOOK_LOCKED = point_number("unhook.locked")
UNHOOK_CHECKED = point_number("free_pte_table.checked")


@kernel_inline
def any_zero_frees(m):
    """True on a machine where each CPU that sees the count at zero tries to free the table, not only the last user."""
    return DEBUG and m.config.any_zero_frees[0] != 0


@kernel
def clear_pmd(m, cpu, pmd, table):
    """Clear the pmd if it names `table` still; True if so. Locking: takes and releases pmd_lock."""
    if not knob(m.config.unhook_unlocked):
        pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    point(m, cpu, UNHOOK_CHECKED, table, entry)
    same = entry & PRESENT != 0 and (pmd_pgtable(entry) == table or knob(m.config.pmd_recheck_only))
    if same:
        write_once(m.entry, pmd, 0)
    if not knob(m.config.unhook_unlocked):
        pmd_unlock(m, cpu, pmd)
    if not same and not any_zero_frees(m):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, entry)
    return same


@kernel
def no_entry(m, table, n):
    """True if the first n entries of a table are none. Locking: none may be set meanwhile, or it is a hint."""
    for i in range(n):
        if data_race(m.entry, table * PTRS_PER_PTE + i) != 0:  # most tables have one: the look is short
            return False
    return True


@kernel
def note_pmd_cleared(m, mm, pmd):
    """Where upper tables go when they are empty: have the mm look, if the PMD table may be. Locking: none needed."""
    if FREES_UPPER and m.config.upper[0] != 0:
        if no_entry(m, table_of(pmd), PTRS_PER_PTE):
            write_once(m.mm.upper_due, mm, 1)


@kernel
def note_unhooked(m, cpu, mm, pmd, table):
    """Take a table whose pmd was just cleared out of VmPTE. Locking: none needed, nobody can find it any more."""
    if detecting(m) and read_once(m.ptdesc.state, table) != TABLE_INSTALLED:
        BUG(m, cpu, BUG_DOUBLE_FREE, table, m.ptdesc.generation[table], m.ptdesc.state[table])
    if DEBUG:
        m.ptnote.gp_seq[table] = read_once(m.rcu.gp_completed, 0)
    smp_store_release(m.ptdesc.state, table, TABLE_UNHOOKED)  # behind gp_seq; pairs with account_rcu_age
    m.ptnote.unhooked_ns[table] = now_ns(m, cpu)
    mark_life(m, cpu, m.life.unhooked, table)
    point(m, cpu, UNHOOKED, table, data_race(m.entry, pmd))
    mm_dec_nr_tables(m, mm)
    m.cpu.tables_freed[cpu] += 1
    note_pmd_cleared(m, mm, pmd)


@kernel
def check_empty(m, cpu, table):
    """A table that goes has no entry."""
    left = or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE)
    if left != 0:
        BUG(m, cpu, BUG_NOT_EMPTY, table, 0, left)


@kernel
def unhook_pte_table(m, cpu, mm, pmd, table):
    """Clear the pmd of `table`, whose count is zero, and take it out of VmPTE: nobody can find it any more.

    False if the pmd names something else: another freer was first. Locking: takes and releases pmd_lock.
    """
    if not clear_pmd(m, cpu, pmd, table):
        return False
    check_empty(m, cpu, table)
    note_unhooked(m, cpu, mm, pmd, table)
    return True


@kernel
def lock_named(m, cpu, pmd, table, ptl):
    """Take pmd_lock and, if the pmd names the table still and `ptl` says so, inside of it the table's ptl; True if the
    pmd does.

    Locking: unlock_named releases both. No entry can come, and no table at the pmd.
    """
    pmd_lock(m, cpu, pmd)
    named = pmd_pgtable(read_once(m.entry, pmd)) == table
    point(m, cpu, UNHOOK_LOCKED, table, pmd)
    if named and ptl and (not same_ptl(m, pmd, table) or knob(m.config.reclaim_same_lock)):
        spin_lock(m, cpu, m.ptdesc.ptl, ptl_of(m, table), PTE_LOCK)
    return named


@kernel
def unlock_named(m, cpu, pmd, table, ptl):
    """Release what lock_named took; `ptl` if that had the table's ptl to take."""
    if ptl and (not same_ptl(m, pmd, table) or knob(m.config.reclaim_same_lock)):
        spin_unlock(m, cpu, m.ptdesc.ptl, ptl_of(m, table), PTE_LOCK)
    pmd_unlock(m, cpu, pmd)


@kernel
def unhook_if_empty(m, cpu, mm, pmd, table):
    """Clear the pmd of `table` if it names that still and the table has no entry; True if so.

    Locking: takes and releases pmd_lock and, inside of it, the table's ptl: no entry can come while it looks.
    Source: try_to_free_pte, mm/memory.c.
    """
    named = lock_named(m, cpu, pmd, table, True)
    gone = named and or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE) == 0
    if gone:
        write_once(m.entry, pmd, 0)
        if MARKS_STRAY and m.config.stray[0] != 0:
            write_once(m.ptnote.policy_word, table, 1)
    unlock_named(m, cpu, pmd, table, named)
    if gone:
        note_unhooked(m, cpu, mm, pmd, table)
    return gone


@kernel
def flush_table(m, cpu, mm, addr):
    """Flush the 2 MiB of an unhooked table, paging-structure caches too."""
    start = addr & -PMD_SIZE
    if not knob(m.config.no_flush):
        flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 1)


@kernel
def flush_and_free_table(m, cpu, mm, table, addr):
    """Flush the 2 MiB of an unhooked table and free it, outside of any gather. Locking: caller must hold no ptl."""
    if knob(m.config.early_ptlock_free):
        m.ptnote.ptl_dead[table] = 1
    flush_table(m, cpu, mm, addr)
    tlb_remove_table_free(m, cpu, table)


@kernel
def free_pte_table(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero, outside of any gather.

    Locking: takes and releases pmd_lock; caller must hold no reference. Source: patches 5 and 6.
    """
    if unhook_pte_table(m, cpu, mm, pmd, table):
        flush_and_free_table(m, cpu, mm, table, addr)
