"""PMD and PUD tables go when they are empty, on the way to user mode; the top-level table stays.

    thread of the process                         another thread, or an rmap walker
    =====================                         =================================
    frees a PTE table: its PMD table may be empty
    returns to user mode
    mmap_lock for writing                         no fault, no madvise is under way
      each PMD table in a GiB without a file:
        512 entries none? clears the pud          rmap: has a pmd in it, which is none: nothing there
        flushes the GiB, PSC too
        call_rcu(table)
    drops it                                      at its next quiescent state: the table is freed

FreeBSD and Zircon do this in the step that frees the PTE table: their walkers hold the lock from the top on. Linux's go
down to a pmd with mmap_lock, or the lock of an rmap walk, and nothing else, so this is the adaptation. A truncate of a
file stands in the tables with i_mmap_lock alone and sleeps there. A GiB that maps a file, or a device, keeps its PMD
table. An anonymous rmap walk neither sleeps nor reports a quiescent state in a table, so a grace period is enough.

Source: _pmap_unwire_ptp, sys/amd64/amd64/pmap.c; X86PageTableBase::RemoveMapping, Zircon.
"""

from emulator.atomic import (
    DEBUG,
    kernel,
    kernel_inline,
    knob,
    now_ns,
    read_once,
    smp_store_release,
    write_once,
)
from emulator.bug import detecting
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock, mmap_write_unlock
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.pages.vma import find_vma
from emulator.pgtable import entry_at, mm_dec_nr_tables, pgd_offset, pgtable_of
from emulator.pgtable_types import (
    PGDIR_SHIFT,
    PGDIR_SIZE,
    PTRS_PER_PTE,
    PUD_SIZE,
    TABLE_UNHOOKED,
    USER_PGTABLES_CEILING,
)
from emulator.tables.rcu import call_rcu
from emulator.tables.unhook import check_empty, no_entry
from emulator.uapi import VM_PFNMAP
from emulator.watch.lockdep import might_sleep, mmap_assert_locked
from emulator.watch.pass_point import mark_life
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

UNHOOKED = point_number("upper.unhooked")
UPPER = path_number("an empty upper table goes")


@kernel
def maps_file(m, mm, start, end):
    """True if a VMA of [start, end) maps a file or a device. Locking: caller must hold mmap_lock."""
    row = find_vma(m, mm, start)
    while row != 0 and m.vma.start[row] < end:
        if m.vma.file[row] != 0 or m.vma.flags[row] & VM_PFNMAP:
            return True
        row = m.vma.next[row]
    return False


@kernel
def looks_empty(m, table):
    """True if a table has no entry. Locking: caller must hold mmap_lock for writing: none comes."""
    return no_entry(m, table, 1 if knob(m.config.upper_first_entry) else PTRS_PER_PTE)


@kernel
def unhook_upper(m, cpu, mm, entry, start, size):
    """Free the table that `entry` names if it is empty and no file is mapped there; True if so.

    Locking: caller must hold mmap_lock for writing; takes and releases the entry's pmd_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    table = pgtable_of(read_once(m.entry, entry))
    if not looks_empty(m, table) or maps_file(m, mm, start, start + size):
        return False
    pmd_lock(m, cpu, entry)
    if detecting(m):
        check_empty(m, cpu, table)
    write_once(m.entry, entry, 0)  # the hardware of other CPUs may be walking here
    pmd_unlock(m, cpu, entry)
    m.ptnote.unhooked_ns[table] = now_ns(m, cpu)
    if DEBUG:
        m.ptnote.gp_seq[table] = read_once(m.rcu.gp_completed, 0)
    smp_store_release(m.ptdesc.state, table, TABLE_UNHOOKED)
    mark_life(m, cpu, m.life.unhooked, table)
    mm_dec_nr_tables(m, mm)
    took(m, cpu, UPPER)
    point(m, cpu, UNHOOKED, table, entry)
    flush_tlb_mm_range(m, cpu, mm, start, start + size, 1)
    mark_life(m, cpu, m.life.flushed, table)
    call_rcu(m, cpu, table)
    return True


@kernel
def free_empty_pmds(m, cpu, mm, pgd, start):
    """Free the empty PMD tables of the 512 GiB at `start`, and their PUD table if that is empty then.

    Locking: as unhook_upper.
    """
    table = pgtable_of(read_once(m.entry, pgd))
    for i in range(PTRS_PER_PTE):
        pud = entry_at(table, i)
        if read_once(m.entry, pud) != 0:
            unhook_upper(m, cpu, mm, pud, start + i * PUD_SIZE, PUD_SIZE)
    unhook_upper(m, cpu, mm, pgd, start, PGDIR_SIZE)


@kernel
def free_empty_upper(m, cpu, mm):
    """Free the empty upper tables of an mm. Locking: takes and releases mmap_lock for writing."""
    if knob(m.config.upper_read_locked):
        mmap_read_lock(m, cpu, mm)
    else:
        mmap_write_lock(m, cpu, mm)
    write_once(m.mm.upper_due, mm, 0)
    for i in range(USER_PGTABLES_CEILING >> PGDIR_SHIFT):
        pgd = pgd_offset(m, mm, i << PGDIR_SHIFT)
        if read_once(m.entry, pgd) != 0:
            free_empty_pmds(m, cpu, mm, pgd, i << PGDIR_SHIFT)
    if knob(m.config.upper_read_locked):
        mmap_read_unlock(m, cpu, mm)
    else:
        mmap_write_unlock(m, cpu, mm)


@kernel_inline
def upper_tick(m, cpu, mm):
    """On the way to user mode: look for empty upper tables if there may be one. Locking: caller must hold nothing."""
    might_sleep(m, cpu)
    if read_once(m.mm.upper_due, mm) != 0:
        free_empty_upper(m, cpu, mm)
