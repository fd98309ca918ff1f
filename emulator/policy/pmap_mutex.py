"""FreeBSD's pmap on amd64: entries counted plainly under the mutex of the address space; the last one takes the table.

    zap, reclaim, mremap                            another CPU
    ====================                            ===========
    lock of the mm
      clears entries, counts each: 0 are left
      clears the pmd                                hardware: may walk the table still
      flushes the 2 MiB, PSC too, and waits         forgets it
    drops the lock
    frees the table, at once                        pte_lock(): the pmd names another one, or none

No grace period: nobody walks without the lock but the hardware, and fast GUP with interrupts off, which the flush waits
for. It costs one lock an mm, and a flush with that lock held for each table.

Adapted. FreeBSD goes on to the PMD table in the same step, whose entries it counts. Linux walks down to a pmd under
mmap_lock, so an empty PMD table goes on the way to user mode (upper.py). FreeBSD flushes the whole TLB, here it is the
2 MiB of the table. It has no swap entries and no markers; here both count, as Linux would have it. A fault that finds
no memory leaves its new table until an entry has come and gone (there: pmap_abort_ptp). The exit of an mm leaves tables
to free_pgtables. The count begins at 512 where a huge page is split (there: pmap_demote_pde).

Source: pmap_unwire_ptp, _pmap_unwire_ptp and pmap_remove, sys/amd64/amd64/pmap.c.
"""

from emulator.atomic import kernel, kernel_inline, read_once, write_once
from emulator.bug import BUG, detecting
from emulator.cpu.interrupts import point
from emulator.pgtable import address_of, pmd_pgtable
from emulator.policy.plain_count import entries_of
from emulator.tables.mmu_gather import tlb_remove_table_free
from emulator.tables.unhook import check_empty, flush_table, note_unhooked
from emulator.watch.bugs import Bug
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
EMPTIED = point_number("pmap.emptied")
UNHOOKED = point_number("pmap.unhooked")
LAST_ENTRY = path_number("the last entry takes its table")


@kernel
def unhook_emptied(m, cpu, table):
    """Take a table without an entry out, and flush it. Locking: caller must hold the lock of the mm."""
    pmd, mm = m.ptdesc.pmd[table], m.ptdesc.mm[table] - 1
    named = pmd_pgtable(read_once(m.entry, pmd))
    point(m, cpu, EMPTIED, table, named)
    if named != table:
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, named)
    if detecting(m):
        check_empty(m, cpu, table)
    write_once(m.entry, pmd, 0)
    note_unhooked(m, cpu, mm, pmd, table)
    took(m, cpu, LAST_ENTRY)
    point(m, cpu, UNHOOKED, table, pmd)
    flush_table(m, cpu, mm, address_of(m, pmd))


@kernel
def take_emptied(m, cpu, table):
    """take_if_emptied where some table was."""
    m.cpu.emptied[cpu] = 0
    exiting = m.cpu.gather_mm[cpu] == m.ptdesc.mm[table] and m.cpu.gather_full[cpu] != 0
    if exiting or entries_of(m, table) != 0:
        return 0
    unhook_emptied(m, cpu, table)
    return table


@kernel_inline
def take_if_emptied(m, cpu):
    """Unhook and flush the table that this CPU has emptied under the lock it holds; its number, for free_spare, or 0.

    Locking: caller must hold the lock of the mm.
    """
    table = m.cpu.emptied[cpu]
    return take_emptied(m, cpu, table) if table != 0 else 0


@kernel_inline
def free_spare(m, cpu, table):
    """Free what take_if_emptied has taken. Locking: caller must hold no lock of the mm."""
    if table != 0:
        tlb_remove_table_free(m, cpu, table)
