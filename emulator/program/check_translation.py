"""Stale translations: what a CPU has cached is compared with the page tables at each access (Instruments.exact).

    CPU that takes a page, or a right, away      CPU that has it cached
    =======================================      ======================
    a lock, or a gather
      clears the entry
                                                 accesses, and looks: the tables have something else
      flush: waits for an ack                    takes no interrupt before it has found that CPU's flush:
    lets go                                        one must be on its way, for it waits for this CPU

So one look at the tables, and then one at the locks, tell a translation that is stale from one that is about to go.
"""

from emulator.atomic import DEBUG, EXPLORES, kernel, kernel_inline, or_words, read_once
from emulator.bug import BUG
from emulator.pgtable import huge_piece, pmd_offset_lockless, pmd_pgtable, pmd_trans_huge, pte_offset, ptl_of, table_of
from emulator.pgtable_types import (
    DIRTY,
    PAGE_SHIFT,
    PRESENT,
    PTRS_PER_PTE,
    RW,
    TABLE_INSTALLED,
    TABLE_UNHOOKED,
)
from emulator.watch.bugs import Bug

BUG_STALE = int(Bug.STALE_TRANSLATION)
BUG_STALE_TABLE = int(Bug.STALE_TABLE)


@kernel_inline
def exact(m):
    """True if each translation is compared with the tables."""
    return DEBUG and not EXPLORES and m.config.exact[0] != 0


@kernel
def flush_to_come(m, mm, pmd, table):
    """True if somebody has what leads through `pmd` to `table` in hand: its flush may be still to come."""
    if read_once(m.mm.tlb_flush_pending, mm) != 0 or read_once(m.mm.mmap_writer, mm) != 0:
        return True
    if pmd != 0 and read_once(m.ptdesc.ptl, ptl_of(m, table_of(pmd))) != 0:
        return True
    return table != 0 and read_once(m.ptdesc.ptl, ptl_of(m, table)) != 0


@kernel
def check_translation(m, cpu, mm, addr, entry, write):
    """Detector: the tables allow an access through `entry`, which this CPU has cached, still.

    Locking: caller must not have taken interrupts since it found the entry.
    """
    pmd = pmd_offset_lockless(m, mm, addr)
    named = read_once(m.entry, pmd) if pmd != 0 else 0
    table = pmd_pgtable(named)
    now = 0
    if pmd_trans_huge(named):
        now = huge_piece(named, addr)
    elif table != 0:
        now = read_once(m.entry, pte_offset(table, addr))
    wanted = PRESENT | RW | DIRTY if write else PRESENT
    same = now & wanted == wanted and now >> PAGE_SHIFT == entry >> PAGE_SHIFT
    if not same and not flush_to_come(m, mm, pmd, table):
        BUG(m, cpu, BUG_STALE, addr, entry, now)


@kernel
def check_cached_table(m, cpu, mm, addr, table):
    """Detector: the tables lead to `table`, which this CPU has cached, still. Locking: as check_translation.

    A table without an entry may be on its way out, its pmd cleared and nothing locked.
    """
    pmd = pmd_offset_lockless(m, mm, addr)
    now = pmd_pgtable(read_once(m.entry, pmd)) if pmd != 0 else 0
    if now == table or flush_to_come(m, mm, pmd, table):
        return
    state = read_once(m.ptdesc.state, table)
    leaving = state == TABLE_INSTALLED and or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE) == 0
    if state != TABLE_UNHOOKED and not leaving:
        BUG(m, cpu, BUG_STALE_TABLE, addr, table, now)
