"""A PTE table is found or made, and installed at its pmd, whatever the policy."""

from emulator.atomic import cpu_relax, data_race, kernel, kernel_inline, knob, read_once, sched_yield
from emulator.bug import BUG, detecting, waits_for
from emulator.cpu.interrupts import point, take_interrupts
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.pages.page_alloc import free_table
from emulator.pages.vmscan import pte_alloc_one
from emulator.pgtable import mm_inc_nr_tables, pgtable_of, pmd_trans_huge, populate, table_of
from emulator.pgtable_types import TABLE_ALLOCATED, TABLE_INSTALLED
from emulator.policy.pins import note_pin
from emulator.policy.pte_ref import pte_table_init, pte_try_get
from emulator.uapi import ENOMEM
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import might_sleep, mmap_assert_locked
from emulator.watch.pass_point import mark_life
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

BUG_RETRY = int(Bug.RETRY_BOUND)
BUG_USE_AFTER_FREE = int(Bug.TABLE_USE_AFTER_FREE)
DYING_TABLE = int(Wait.DYING_TABLE)
INSTALL_LOCKED = point_number("pmd_install.locked")
NOTHING = int(Wait.NOTHING)
NO_MEMORY = path_number("fault, no memory")
PMD_NONE = path_number("fault, pmd none")
PUBLISHED = point_number("pmd_install.published")
TABLE_DYING = path_number("fault, table dying")
_RETRIES_YIELD, _RETRIES_BUG = 100, 10_000_000


@kernel
def pmd_install(m, cpu, mm, pmd, table):
    """Install `table` at `pmd` unless one is there; True if installed, and then with one reference.

    Locking: takes and releases pmd_lock. Source: patch 2 (pte_install there, pmd_install from v2).
    """
    installed = False
    if detecting(m) and read_once(m.ptdesc.state, table) != TABLE_ALLOCATED:
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, m.ptdesc.generation[table], m.ptdesc.state[table])
    pmd_lock(m, cpu, pmd)
    point(m, cpu, INSTALL_LOCKED, table, pmd)
    if detecting(m) and read_once(m.ptdesc.state, table_of(pmd)) != TABLE_INSTALLED:
        BUG(
            m, cpu, BUG_USE_AFTER_FREE, table_of(pmd), m.ptdesc.generation[table_of(pmd)], m.ptdesc.state[table_of(pmd)]
        )
    if read_once(m.entry, pmd) == 0:
        mm_inc_nr_tables(m, mm)
        if knob(m.config.publish_before_init):
            populate(m, mm, pmd, table)
            point(m, cpu, PUBLISHED, table, data_race(m.ptdesc.pte_refcount, table))
            pte_table_init(m, table, 1, 0, 0)
        else:
            pte_table_init(m, table, 1, 0, 0)
            populate(m, mm, pmd, table)
        mark_life(m, cpu, m.life.installed, table)
        m.cpu.tables_installed[cpu] += 1
        took(m, cpu, PMD_NONE)
        installed = True
    pmd_unlock(m, cpu, pmd)
    if installed:
        note_pin(m, cpu, pmd, table)
    return installed


@kernel
def pte_alloc_new(m, cpu, mm, pmd):
    """Allocate a table for an empty pmd and install it: the table, 0 if somebody else was first, or -ENOMEM."""
    table = pte_alloc_one(m, cpu)
    if table == 0:
        took(m, cpu, NO_MEMORY)
        return -ENOMEM
    if pmd_install(m, cpu, mm, pmd, table):
        return table
    m.cpu.install_lost[cpu] += 1
    free_table(m, cpu, table)
    return 0


@kernel_inline
def pte_alloc_try_get(m, cpu, mm, pmd):
    """Pin the table at `pmd`, allocating one if there is none: the table, -ENOMEM, or 0 if the pmd is a leaf.

    A dying table is waited for: its freer will clear the pmd.
    Locking: returns with one reference; caller must hold mmap_lock and no spinlock.
    """
    might_sleep(m, cpu)
    mmap_assert_locked(m, cpu, mm)
    table = pte_try_get(m, cpu, pmd)
    if table != 0:
        return table
    return pte_alloc_try_get_slow(m, cpu, mm, pmd)


@kernel
def pte_alloc_try_get_slow(m, cpu, mm, pmd):
    """The rest of pte_alloc_try_get: there was no table, or it was dying."""
    while True:
        table = pte_try_get_retry(m, cpu, pmd)
        if table == 0:
            table = pte_alloc_new(m, cpu, mm, pmd)
        if table != 0 or pmd_trans_huge(read_once(m.entry, pmd)):
            return table


@kernel
def pte_try_get_retry(m, cpu, pmd):
    """Pin the table at `pmd`: its number, or 0 if there is none, or a leaf. A dying one is waited for until it is none.

    Locking: as pte_alloc_try_get. Source: the `goto retry` of mprotect, mremap and fork in patch 5.
    """
    retries = 0
    table = 0
    while table == 0:
        entry = read_once(m.entry, pmd)
        if entry == 0 or pmd_trans_huge(entry):
            break
        table = pte_try_get(m, cpu, pmd)
        if table == 0:
            retries += 1
            wait_for_freer(m, cpu, pgtable_of(entry), retries)
    if retries != 0:
        waits_for(m, cpu, NOTHING, 0)
    return table


@kernel
def wait_for_freer(m, cpu, table, retries):
    """One turn of waiting until the freer of a dying table has cleared its pmd."""
    took(m, cpu, TABLE_DYING)
    waits_for(m, cpu, DYING_TABLE, table)
    m.cpu.try_get_failed[cpu] += 1
    take_interrupts(m, cpu)
    if retries < _RETRIES_YIELD:
        cpu_relax()
    else:
        sched_yield()
    if retries == _RETRIES_BUG:
        BUG(m, cpu, BUG_RETRY, table, 0, retries)
