"""The policies of the series of July 2021: each PTE table counts its users, and the last put frees it.

A table's pte_refcount counts its entries that are not none, one each, and its visitors, the CPUs that walk it right
now. The pmd that names it holds none. The CPU that takes the last reference away unhooks the table and frees it.

Zero is absorbing. A visitor may come only by inc-not-zero, so a successful pte_try_get proves that the count was
positive. Hence the pmd has not been cleared, and will not be until the matching pte_put: a pinned table's pmd is
stable. A visitor that meets zero finds a dying table; its freer will clear the pmd, so it looks again.

    fault                                    zap (MADV_DONTNEED)
    =====                                    ===================
    pte_try_get(): pins, count n + 2         (the zap has pinned it, too)
                                             clears the entries, pte_put_entries_tlb(n)
                                             pte_put_many_tlb(1): not the last, leaves
    sets its entry, pte_get()
    pte_put(): the entry keeps it

    pte_try_get(): count is 0, fails         pte_put_many_tlb(1) -> 0: free_pte_table_tlb
      reads the pmd again                      pmd_lock, clear the pmd, pmd_unlock
      none: installs a new table               tlb_remove_table: flush, grace period, free

Source: pte_ref v1, 2021-07-18, patches 2, 5, 6 and 7; pte_ref_init before pmd_populate as in v3.
"""

from emulator.atomic import atomic_add_return, atomic_inc_not_zero, kernel, kernel_inline, knob, read_once, write_once
from emulator.bug import BUG, detecting
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.pgtable import pgtable_of, pmd_pgtable
from emulator.policy.pins import check_raised, check_use
from emulator.tables.mmu_gather import pte_free_tlb
from emulator.tables.rcu import account_rcu_age, rcu_read_lock, rcu_read_unlock
from emulator.tables.unhook import any_zero_frees, free_pte_table, unhook_pte_table
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import mark_life
from emulator.watch.points import point_number

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
BUG_UNDERFLOW = int(Bug.COUNT_UNDERFLOW)
CHECKED = point_number("pte_try_get.checked")
PUT_DROPPED = point_number("pte_put.dropped")
READ_PMD = point_number("pte_try_get.read-pmd")
REF_READ = point_number("pte_ref.read")
TRY_GET_LOCKED = point_number("pte_try_get.locked")
ZERO = point_number("free_pte_table.zero")


@kernel_inline
def pte_ref_init(m, table, count):
    """Start the count of a table: 1, the visitor that installs it. Locking: the table must be private still."""
    write_once(m.ptdesc.pte_refcount, table, count)


@kernel_inline
def pte_ref_add(m, cpu, table, n):
    """Change the count by n; the value after."""
    if knob(m.config.plain_count):
        count = read_once(m.ptdesc.pte_refcount, table)
        point(m, cpu, REF_READ, table, count)
        write_once(m.ptdesc.pte_refcount, table, count + n)
        return count + n
    return atomic_add_return(m.ptdesc.pte_refcount, table, n)


@kernel_inline
def pte_get_many(m, cpu, pmd, n):
    """Count n more entries. Locking: caller must hold a reference."""
    entry = read_once(m.entry, pmd)
    table = pgtable_of(entry)
    if detecting(m) and pmd_pgtable(entry) == 0:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
    count = pte_ref_add(m, cpu, table, n)
    mark_life(m, cpu, m.life.get, table)
    if detecting(m):
        check_raised(m, cpu, table, n, count)


@kernel_inline
def pte_get_unless_zero(m, cpu, table):
    """Take a reference unless the table is dying. Locking: caller must hold pmd_lock or rcu_read_lock."""
    if knob(m.config.check_then_increment):
        count = read_once(m.ptdesc.pte_refcount, table)
        point(m, cpu, CHECKED, table, count)
        if count == 0:
            return False
        count = atomic_add_return(m.ptdesc.pte_refcount, table, 1)
        if detecting(m):
            check_raised(m, cpu, table, 1, count)
        return True
    return atomic_inc_not_zero(m.ptdesc.pte_refcount, table)


@kernel
def pte_try_get_locked(m, cpu, pmd):
    """pte_try_get of patch 5. Locking: takes and releases pmd_lock."""
    table = 0
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    found = pmd_pgtable(entry)
    point(m, cpu, TRY_GET_LOCKED, found, entry)
    if found != 0 and pte_get_unless_zero(m, cpu, found):
        table = found
    pmd_unlock(m, cpu, pmd)
    return table


@kernel_inline
def pte_try_get_rcu(m, cpu, pmd):
    """pte_try_get of patch 6: one look at the pmd, no lock."""
    table = 0
    rcu_read_lock(m, cpu)
    entry = read_once(m.entry, pmd)
    found = pmd_pgtable(entry)
    generation = m.ptdesc.generation[found] if detecting(m) else 0
    point(m, cpu, READ_PMD, found, entry)
    if found != 0 and pte_get_unless_zero(m, cpu, found):
        table = found
    if detecting(m) and found != 0:
        account_rcu_age(m, cpu, found, generation)
    rcu_read_unlock(m, cpu)
    return table


@kernel_inline
def pte_put_last(m, cpu, pmd, n):
    """Drop n references: the table if they were the last, else 0."""
    entry = read_once(m.entry, pmd)
    table = pmd_pgtable(entry)
    if table == 0 or (detecting(m) and table != m.cpu.pin_table[cpu] and table != m.cpu.pin_outer[cpu]):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
    if detecting(m):
        check_use(m, cpu, table)
    count = pte_ref_add(m, cpu, table, -n)
    mark_life(m, cpu, m.life.put, table)
    if count < 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, count + n, count)
    point(m, cpu, PUT_DROPPED, table, count)
    if any_zero_frees(m):
        count = read_once(m.ptdesc.pte_refcount, table)
    if count != 0:
        return 0
    mark_life(m, cpu, m.life.zero, table)
    point(m, cpu, ZERO, table, count)
    return table


@kernel
def free_counted_tlb(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero through this CPU's open gather: one flush for all of them. Source: patch 7."""
    if not m.config.table_free_gather[0]:
        free_pte_table(m, cpu, mm, pmd, table, addr)
    elif unhook_pte_table(m, cpu, mm, pmd, table):
        pte_free_tlb(m, cpu, table, addr)
