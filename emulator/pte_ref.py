"""Who uses a PTE table, and who frees it: the reference count of the series, and the seam of all policies.

A table's pte_refcount counts its entries that are not none, one each, and its visitors: whoever walks it right now.
The pmd that names it holds none. Whoever takes the last reference away unhooks the table and frees it.

Zero is absorbing. A visitor may come only by inc-not-zero, so a successful pte_try_get proves that the count was
positive, hence that nobody has cleared the pmd, and nobody will until the matching pte_put: a pinned table's pmd is
stable. A visitor that meets zero finds a dying table; its freer will clear the pmd, so it looks again.

    fault                                    zap (MADV_DONTNEED)
    =====                                    ===================
    pte_try_get(): pins, count n + 2         (the zap has pinned it, too)
                                             clears the entries, pte_put_many_tlb(n)
                                             pte_put_many_tlb(1): not the last, leaves
    sets its entry, pte_get()
    pte_put(): the entry keeps it

    pte_try_get(): count is 0, fails         pte_put_many_tlb(1) -> 0: free_pte_table_tlb
      reads the pmd again                      pmd_lock, clear the pmd, pmd_unlock
      none: installs a new table               tlb_remove_table: flush, grace period, free

Under policy `none` the same functions pin nothing and count nothing; every walker calls them, so a policy is decided
here and in mmu_gather.py. Only teardown (mmap.py:free_pte_range) and the checks ask as well whether tables are counted.

Source: pte_ref v1, 2021-07-18, patches 2, 5, 6 and 7; pte_ref_init before pmd_populate as in v3.
"""

from emulator.atomic import (
    atomic_add_return,
    atomic_inc_not_zero,
    cpu_relax,
    kernel,
    kernel_inline,
    read_once,
    sched_yield,
    write_once,
)
from emulator.kernel import BUG, ENOMEM, Bug
from emulator.mmu_gather import pte_free_tlb, tlb_remove_table_free
from emulator.page_alloc import alloc_table, free_table
from emulator.pgtable import (
    PMD_SIZE,
    PRESENT,
    PTE_LEVEL,
    TABLE_UNHOOKED,
    mm_dec_nr_tables,
    mm_inc_nr_tables,
    pgtable_of,
    populate,
)
from emulator.rcu import rcu_read_lock, rcu_read_unlock
from emulator.spinlock import spin_lock, spin_unlock
from emulator.tlb import flush_tlb_mm_range, take_interrupts

BUG_UNDERFLOW, BUG_NOT_EMPTY = int(Bug.COUNT_UNDERFLOW), int(Bug.FREED_TABLE_NOT_EMPTY)
BUG_PMD_CHANGED, BUG_NO_PROGRESS = int(Bug.PMD_CHANGED_UNDER_PIN), int(Bug.NO_PROGRESS)
_RETRIES_YIELD, _RETRIES_BUG = 100, 10_000_000


@kernel_inline
def pte_ref_init(m, table, count):
    """Start the count of a table: 1, the visitor that installs it. Locking: the table must be private still."""
    write_once(m.ptdesc.pte_refcount, table, count)


@kernel_inline
def pte_ref_add(m, table, n):
    """Change the count by n; the value after."""
    if m.config.plain_count[0]:
        count = read_once(m.ptdesc.pte_refcount, table) + n
        write_once(m.ptdesc.pte_refcount, table, count)
        return count
    return atomic_add_return(m.ptdesc.pte_refcount, table, n)


@kernel_inline
def pte_get(m, cpu, pmd):
    """Count one more entry. Locking: caller must hold a reference."""
    if m.config.pte_counted[0]:
        pte_ref_add(m, pgtable_of(read_once(m.entry, pmd)), 1)


@kernel_inline
def pte_get_unless_zero(m, table):
    """Take a reference unless the table is dying. Locking: caller must hold pmd_lock or rcu_read_lock."""
    return atomic_inc_not_zero(m.ptdesc.pte_refcount, table)


@kernel
def pte_try_get_locked(m, cpu, pmd):
    """pte_try_get of patch 5. Locking: takes and releases pmd_lock."""
    pmd_lock = pmd >> 9
    table = 0
    spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock)
    entry = read_once(m.entry, pmd)
    if entry & PRESENT and pte_get_unless_zero(m, pgtable_of(entry)):
        table = pgtable_of(entry)
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock)
    return table


@kernel_inline
def pte_try_get(m, cpu, pmd):
    """Pin the table at `pmd`: its number, or 0 if there is none or it is dying.

    Locking: returns with one reference. Source: patch 6; patch 5 did it under pmd_lock.
    """
    if not m.config.pte_counted[0]:
        entry = read_once(m.entry, pmd)
        return pgtable_of(entry) if entry & PRESENT else 0
    if not m.config.try_get_rcu[0]:
        return pte_try_get_locked(m, cpu, pmd)
    table = 0
    rcu_read_lock(m, cpu)
    entry = read_once(m.entry, pmd)
    if entry & PRESENT and pte_get_unless_zero(m, pgtable_of(entry)):
        table = pgtable_of(entry)
    rcu_read_unlock(m, cpu)
    return table


@kernel
def unhook_pte_table(m, cpu, mm, pmd, table):
    """Clear the pmd of `table`, whose count is zero, and take it out of VmPTE: nobody can find it any more.

    False, after a BUG, if the pmd names something else. Locking: takes and releases pmd_lock.
    """
    pmd_lock = pmd >> 9
    spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock)
    entry = read_once(m.entry, pmd)
    unchanged = entry & PRESENT != 0 and pgtable_of(entry) == table
    if unchanged:
        write_once(m.entry, pmd, 0)
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock)
    if not unchanged:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, entry)
        return False
    left = 0
    for entry in range(table << 9, (table + 1) << 9):
        left |= m.entry[entry]
    if left != 0:
        BUG(m, cpu, BUG_NOT_EMPTY, table, left)
    m.ptdesc.state[table] = TABLE_UNHOOKED
    mm_dec_nr_tables(m, mm)
    m.cpu.tables_freed[cpu] += 1
    return True


@kernel
def free_pte_table(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero, outside of any gather.

    Locking: takes and releases pmd_lock; caller must hold no reference. Source: patches 5 and 6.
    """
    if not unhook_pte_table(m, cpu, mm, pmd, table):
        return
    start = addr & -PMD_SIZE
    if not m.config.no_flush[0]:
        flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 1)
    tlb_remove_table_free(m, cpu, table)


@kernel
def free_pte_table_tlb(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero through this CPU's open gather: one flush for all of them. Source: patch 7."""
    if not m.config.table_free_gather[0]:
        free_pte_table(m, cpu, mm, pmd, table, addr)
    elif unhook_pte_table(m, cpu, mm, pmd, table):
        pte_free_tlb(m, cpu, table, addr)


@kernel_inline
def pte_put_last(m, cpu, pmd, n):
    """Drop n references: the table if they were the last, else 0."""
    entry = read_once(m.entry, pmd)
    table = pgtable_of(entry)
    if entry & PRESENT == 0:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, entry)
        return 0
    count = pte_ref_add(m, table, -n)
    if count < 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, count)
    return table if count == 0 else 0


@kernel_inline
def pte_put(m, cpu, mm, pmd, addr):
    """Drop a reference; the last one frees the table. Locking: caller must hold the reference and no ptl."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, 1)
        if table != 0:
            free_pte_table(m, cpu, mm, pmd, table, addr)


@kernel_inline
def pte_put_many_tlb(m, cpu, mm, pmd, addr, n):
    """Drop n references; the last one frees the table through this CPU's gather. Locking: as pte_put."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table_tlb(m, cpu, mm, pmd, table, addr)


@kernel
def pmd_install(m, cpu, mm, pmd, table):
    """Install `table` at `pmd` unless one is there; True if installed, and then with one reference.

    Locking: takes and releases pmd_lock. Source: patch 2 (pte_install there, pmd_install from v2).
    """
    pmd_lock = pmd >> 9
    installed = False
    spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock)
    if read_once(m.entry, pmd) == 0:
        mm_inc_nr_tables(m, mm)
        if m.config.publish_before_init[0]:
            populate(m, mm, pmd, table)
            pte_ref_init(m, table, 1)
        else:
            pte_ref_init(m, table, 1)
            populate(m, mm, pmd, table)
        m.cpu.tables_installed[cpu] += 1
        installed = True
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock)
    return installed


@kernel
def pte_alloc_new(m, cpu, mm, pmd):
    """Allocate a table for an empty pmd and install it: the table, 0 if somebody else was first, or -ENOMEM."""
    table = alloc_table(m, cpu, PTE_LEVEL)
    if table == 0:
        return -ENOMEM
    if pmd_install(m, cpu, mm, pmd, table):
        return table
    m.cpu.install_lost[cpu] += 1
    free_table(m, cpu, table)
    return 0


@kernel_inline
def pte_alloc_try_get(m, cpu, mm, pmd):
    """Pin the table at `pmd`, allocating one if there is none: the table, or -ENOMEM.

    A dying table is waited for: its freer will clear the pmd.
    Locking: returns with one reference; caller must hold mmap_lock and no spinlock.
    """
    table = pte_try_get(m, cpu, pmd)
    if table != 0:
        return table
    return pte_alloc_try_get_slow(m, cpu, mm, pmd)


@kernel
def pte_alloc_try_get_slow(m, cpu, mm, pmd):
    """The rest of pte_alloc_try_get: there was no table, or it was dying."""
    retries = 0
    while True:
        entry = read_once(m.entry, pmd)
        if entry == 0:
            table = pte_alloc_new(m, cpu, mm, pmd)
        else:
            table = pte_try_get(m, cpu, pmd)
        if table != 0:
            return table
        if entry == 0:
            continue
        m.cpu.try_get_failed[cpu] += 1
        take_interrupts(m, cpu)
        retries += 1
        if retries < _RETRIES_YIELD:
            cpu_relax()
        else:
            sched_yield()
        if retries == _RETRIES_BUG:
            BUG(m, cpu, BUG_NO_PROGRESS, pgtable_of(entry), retries)
            return -ENOMEM
