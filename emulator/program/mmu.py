"""The hardware side of a CPU: a load or store goes through the TLB, then the hardware walk, then a page fault.

The walker holds no lock and no reference. It reads whatever the entries and its paging-structure cache say; only
flushes keep it away from freed tables.
"""

from emulator.atomic import DEBUG, cmpxchg, kernel, kernel_inline, read_once, write_once
from emulator.bug import detecting, stopped
from emulator.cpu.tlb import forget, psc_fill, psc_lookup, tlb_fill, tlb_lookup
from emulator.fault.memory import handle_mm_fault
from emulator.pgtable import huge_piece, pgtable_of, pmd_offset_lockless, pmd_trans_huge, pte_offset
from emulator.pgtable_types import ACCESSED, DIRTY, PAGE_SHIFT, PRESENT, PSE, RW
from emulator.program.check_translation import check_cached_table, check_translation, exact
from emulator.tables.rcu import cond_resched
from emulator.uapi import EINTR
from emulator.watch.pass_point import point_noirq
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import check_psc, check_tlb, shadow_load, shadow_store

WALK = path_number("hardware walker")

WALK_CACHED = point_number("walk.cached")
WALK_TABLES = point_number("walk.tables")
TRANSLATED = point_number("access.translated")


@kernel_inline
def walk_upper(m, cpu, mm, addr):
    """Walk from the top to the PTE table and cache it; its number, or 0. If the pmd is a leaf, minus its index."""
    pmd = pmd_offset_lockless(m, mm, addr)
    if pmd == 0:
        return 0
    entry = read_once(m.entry, pmd)
    if entry & PRESENT == 0:
        return 0
    if pmd_trans_huge(entry):
        return -pmd
    psc_fill(m, cpu, addr, pgtable_of(entry))
    return pgtable_of(entry)


@kernel
def walk_leaf(m, cpu, pmd, addr, write):
    """hardware_walk where the pmd is a leaf: the 4 KiB of it at `addr` are cached, as a processor may do."""
    while True:
        entry = read_once(m.entry, pmd)
        if entry & (PRESENT | PSE) != PRESENT | PSE or (write and entry & RW == 0):
            return 0
        wanted = entry | ACCESSED | (DIRTY if write else 0)
        if entry == wanted or cmpxchg(m.entry, pmd, entry, wanted) == entry:
            tlb_fill(m, cpu, addr, huge_piece(wanted, addr))
            return huge_piece(wanted, addr)


@kernel_inline
def hardware_walk(m, cpu, mm, addr, write):
    """Find the PTE for `addr`, set its accessed and dirty bits, cache it; the PTE, or 0 to fault."""
    took(m, cpu, WALK)
    m.cpu.tlb_misses[cpu] += 1
    table = psc_lookup(m, cpu, addr)
    cached = table != 0
    if cached and exact(m):
        check_cached_table(m, cpu, mm, addr, table)
    if not cached:
        table = walk_upper(m, cpu, mm, addr)
    if table <= 0:
        return walk_leaf(m, cpu, -table, addr, write) if table < 0 else 0
    if DEBUG:
        point_noirq(m, cpu, WALK_CACHED if cached else WALK_TABLES, table, addr)
    pte = pte_offset(table, addr)
    while True:
        entry = read_once(m.entry, pte)
        if detecting(m):
            check_psc(m, cpu, addr, table, cached)
        if entry & PRESENT == 0 or (write and entry & RW == 0):
            return 0
        wanted = entry | ACCESSED | (DIRTY if write else 0)
        if entry == wanted or cmpxchg(m.entry, pte, entry, wanted) == entry:
            tlb_fill(m, cpu, addr, wanted)
            return wanted


@kernel_inline
def page_fault(m, cpu, mm, addr, write):
    """An access to `addr` has met no entry that allows it: 0 if it may be tried again, or -errno.

    A fault forgets what is cached for its address, as on x86, and returns to user mode: interrupts are taken.
    """
    forget(m, cpu, addr)
    error = handle_mm_fault(m, cpu, mm, addr, write)
    if error != 0:
        return error
    cond_resched(m, cpu)
    return -EINTR if stopped(m) else 0


@kernel
def walk_or_fault(m, cpu, mm, addr, write):
    """translate behind a TLB that does not know: what that returns, or 0 to try again.

    No loop is here: what is the same in each round would be worked out before the first, and kept on the stack.
    """
    entry = hardware_walk(m, cpu, mm, addr, write)
    if entry == 0:
        entry = page_fault(m, cpu, mm, addr, write)
        if entry == 0:
            entry = hardware_walk(m, cpu, mm, addr, write)
    return entry


@kernel_inline
def translate(m, cpu, mm, addr, write):
    """The PTE that lets this CPU access `addr`, or -errno. Faults as often as it takes."""
    entry = tlb_lookup(m, cpu, addr)
    if entry != 0 and (not write or entry & (RW | DIRTY) == RW | DIRTY):
        return entry
    entry = 0
    while entry == 0:
        entry = walk_or_fault(m, cpu, mm, addr, write)
    return entry


@kernel_inline
def word_of(m, entry, addr):
    """Index in m.frame of the word at `addr` in the frame `entry` names. Small frames repeat within a page."""
    words = m.config.frame_words[0]
    return (entry >> PAGE_SHIFT) * words + (addr >> 3 & (words - 1))


@kernel_inline
def store(m, cpu, mm, addr, value):
    """Store a word; 0 or -errno."""
    entry = translate(m, cpu, mm, addr, 1)
    if entry < 0:
        return entry
    point_noirq(m, cpu, TRANSLATED, addr, entry)
    if detecting(m):
        if exact(m):
            check_translation(m, cpu, mm, addr, entry, 1)
        check_tlb(m, cpu, addr, entry)
        shadow_store(m, cpu, mm, addr, entry, value)
    write_once(m.frame, word_of(m, entry, addr), value)
    return 0


@kernel_inline
def load(m, cpu, mm, addr):
    """Load a word into cpu.loaded; 0 or -errno."""
    entry = translate(m, cpu, mm, addr, 0)
    if entry < 0:
        return entry
    point_noirq(m, cpu, TRANSLATED, addr, entry)
    m.cpu.loaded[cpu] = read_once(m.frame, word_of(m, entry, addr))
    if detecting(m):
        if exact(m):
            check_translation(m, cpu, mm, addr, entry, 0)
        check_tlb(m, cpu, addr, entry)
        shadow_load(m, cpu, mm, addr, entry, m.cpu.loaded[cpu])
    return 0
