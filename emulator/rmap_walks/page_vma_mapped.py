"""The reverse map: from a page to every PTE that maps it, with no mmap_lock held.

    page_vma_mapped_walk                     munmap, mremap, fork
    ====================                     ====================
    anon_vma lock of the family, or
      i_mmap_lock of the file
    each VMA that covers the page index:     change VMAs under the same lock, and only then tables
      pte_try_get: pin the table, or skip
      ptl: is it this page?
        the caller changes the PTE
      ptl off; put, and once more for each
        entry that has become none
    unlock

The lock keeps the upper tables, the pin the PTE table: it may lose its last entry here, and is freed by the walker
then. A dying table is empty: v1 retries, here it is skipped. What the walk has in hand is in this CPU's row of
`m.pvmw`, as in struct page_vma_mapped_walk. The reference is kept from one call to the next (walk_done drops it).

A walk may be for a run of pages, as a split of a huge page leaves: adjacent frames at adjacent page indices. Where it
has been moved to an odd address the run lies in two tables, and each is put for its own entries.

Source: page_vma_mapped_walk, mm/page_vma_mapped.c; rmap_walk_anon and rmap_walk_file, mm/rmap.c; patch 5.
"""

from emulator.atomic import atomic_add, kernel, knob, read_once, write_once, xchg
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.huge.huge_memory import split_huge_pmd
from emulator.locking.mutex import anon_vma_lock, anon_vma_unlock, i_mmap_lock, i_mmap_unlock
from emulator.mm_types import FAMILY, MAPPING_SHIFT
from emulator.pages.vma import vma_mm
from emulator.pgtable import (
    huge_piece,
    is_migration_entry,
    pmd_lookup,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    table_of,
)
from emulator.pgtable_types import ANON_EXCLUSIVE, PAGE, PAGE_SHIFT, PMD_SIZE, SPECIAL
from emulator.policy.pte_ref import (
    entry_changed,
    pte_lock,
    pte_put,
    pte_put_many,
    pte_try_get,
    pte_unlock,
    rmap_walk_begins,
    rmap_walk_ends,
)
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_locked

PVMW_MIGRATION = 1  # look for the migration entries of the page, not for the PTEs that map it


@kernel
def rmap_walk_begin(m, cpu, frame, pages, flags):
    """Begin a walk to the PTEs of a run of `pages` from `frame` on: of anonymous memory, or one of a file, locked.

    Locking: returns with the i_mmap_lock or the anon_vma lock held.
    """
    m.pvmw.first[cpu] = m.pvmw.frame[cpu] = frame
    m.pvmw.pages[cpu] = pages
    m.pvmw.flags[cpu] = flags
    m.pvmw.end[cpu] = m.pvmw.seen[cpu] = m.pvmw.row[cpu] = m.pvmw.table[cpu] = m.pvmw.cleared[cpu] = 0
    mapping = read_once(m.page.mapping, frame)
    m.pvmw.family[cpu] = (mapping & FAMILY) - 1
    m.pvmw.index[cpu] = mapping >> MAPPING_SHIFT
    if mapping != 0:
        anon_vma_lock(m, cpu, m.pvmw.family[cpu])
    else:
        slot = m.page_slot[frame] - 1
        m.pvmw.file[cpu] = slot // m.config.file_pages[0]
        m.pvmw.index[cpu] = slot - m.pvmw.file[cpu] * m.config.file_pages[0]
        i_mmap_lock(m, cpu, m.pvmw.file[cpu])
    rmap_walk_begins(m, cpu)


@kernel
def rmap_walk_end(m, cpu):
    """End a walk: whatever it has in hand is dropped, and its lock."""
    page_vma_mapped_walk_done(m, cpu)
    rmap_walk_ends(m, cpu)
    if m.pvmw.family[cpu] >= 0:
        anon_vma_unlock(m, cpu, m.pvmw.family[cpu])
    else:
        i_mmap_unlock(m, cpu, m.pvmw.file[cpu])


@kernel
def next_anon_vma(m, cpu):
    """Go on to the next VMA of the family that covers a page of the run; False at the end. The root comes first."""
    mms, family, index = m.config.n_mm[0], m.pvmw.family[cpu], m.pvmw.index[cpu]
    length = m.pvmw.pages[cpu] * PAGE
    while m.pvmw.seen[cpu] < mms:
        mm = (family + m.pvmw.seen[cpu]) % mms
        vma = 0
        if read_once(m.mm.family, mm) == family + 1:
            vma = m.mm.first_vma[mm] if m.pvmw.row[cpu] == 0 else m.vma.next[m.pvmw.row[cpu]]
        while vma != 0:
            addr = m.vma.start[vma] + (index - m.vma.pgoff[vma]) * PAGE
            begin, end = max(addr, m.vma.start[vma]), min(addr + length, m.vma.end[vma])
            if read_once(m.vma.anon_vma, vma) != 0 and begin < end:
                m.pvmw.mm[cpu] = mm
                m.pvmw.vma[cpu] = m.pvmw.row[cpu] = vma
                m.pvmw.frame[cpu] = m.pvmw.first[cpu] + (begin - addr >> PAGE_SHIFT)
                m.pvmw.addr[cpu] = begin
                m.pvmw.end[cpu] = end
                return True
            vma = m.vma.next[vma]
        m.pvmw.seen[cpu] += 1
        m.pvmw.row[cpu] = 0
    return False


@kernel
def next_file_vma(m, cpu):
    """Go on to the next VMA that maps the page of the file; False at the end."""
    file, index, last = m.pvmw.file[cpu], m.pvmw.index[cpu], m.pvmw.row[cpu]
    vma = m.file.i_mmap[file] if last == 0 else m.vma.i_mmap_next[last]
    while vma != 0:
        m.pvmw.row[cpu] = vma
        addr = m.vma.start[vma] + (index - m.vma.pgoff[vma]) * PAGE
        if m.vma.start[vma] <= addr < m.vma.end[vma]:
            m.pvmw.mm[cpu] = vma_mm(m, vma)
            m.pvmw.addr[cpu] = addr
            m.pvmw.end[cpu] = addr + PAGE
            return True
        vma = m.vma.i_mmap_next[vma]
    return False


@kernel
def check_pte(m, cpu, entry):
    """True if the entry is one that the walk looks for."""
    if entry >> PAGE_SHIFT != m.pvmw.frame[cpu]:
        return False
    if m.pvmw.flags[cpu] & PVMW_MIGRATION:
        return is_migration_entry(entry)
    return pte_present(entry) and entry & SPECIAL == 0


@kernel
def page_vma_mapped_walk_done(m, cpu):
    """Drop the ptl and the reference of the walk, and one more for each entry that became none."""
    table = m.pvmw.table[cpu]
    if table != 0:
        m.pvmw.table[cpu] = 0
        pte_unlock(m, cpu, table)
        pte_put_many(m, cpu, m.pvmw.mm[cpu], m.pvmw.pmd[cpu], m.pvmw.addr[cpu], 1 + m.pvmw.cleared[cpu])
        m.pvmw.cleared[cpu] = 0


@kernel
def next_page(m, cpu):
    """Go on to the next page of the run in the present VMA; False at the end. In another table the one at hand is put
    first, for what was cleared in it. Source: D9, where v1 puts for all of them at the end.
    """
    addr = m.pvmw.addr[cpu] + PAGE
    if addr >= m.pvmw.end[cpu]:
        return False
    if addr & (PMD_SIZE - 1) == 0:
        cleared = m.pvmw.cleared[cpu] if knob(m.config.put_to_last_table) else 0
        m.pvmw.cleared[cpu] -= cleared
        page_vma_mapped_walk_done(m, cpu)
        m.pvmw.cleared[cpu] = cleared
    m.pvmw.addr[cpu] = addr
    m.pvmw.frame[cpu] += 1
    return True


@kernel
def pin_mapped_table(m, cpu):
    """Pin and lock the table for the address of the walk: the table, or 0.

    A huge page that the page is part of is split first. Source: TTU_SPLIT_HUGE_PMD.
    """
    addr = m.pvmw.addr[cpu]
    pmd = pmd_lookup(m, m.pvmw.mm[cpu], addr)
    named = 0 if pmd == 0 else read_once(m.entry, pmd)
    if pmd_trans_huge(named) and huge_piece(named, addr) >> PAGE_SHIFT == m.pvmw.frame[cpu]:
        split_huge_pmd(m, cpu, m.pvmw.mm[cpu], pmd, addr)
    table = 0 if pmd == 0 else pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return 0
    m.pvmw.pmd[cpu] = pmd
    m.pvmw.table[cpu] = table
    return table


@kernel
def map_pte(m, cpu):
    """The PTE at the address of the walk, its table pinned and locked; or 0 if it is another page's."""
    table = m.pvmw.table[cpu]
    if table == 0:
        table = pin_mapped_table(m, cpu)
    pte = pte_offset(table, m.pvmw.addr[cpu])
    return pte if table != 0 and check_pte(m, cpu, read_once(m.entry, pte)) else 0


@kernel
def next_vma(m, cpu):
    """Put the table at hand, and go on to the next VMA; False at the end."""
    page_vma_mapped_walk_done(m, cpu)
    return next_anon_vma(m, cpu) if m.pvmw.family[cpu] >= 0 else next_file_vma(m, cpu)


@kernel
def page_vma_mapped_walk(m, cpu):
    """The next PTE of the walk, or 0 if there is none.

    Locking: returns with its ptl and a reference on its table, which the next call drops, or rmap_walk_end.
    """
    while next_page(m, cpu) or next_vma(m, cpu):
        pte = map_pte(m, cpu)
        if pte != 0:
            return pte
    return 0


@kernel
def page_vma_mapped_at(m, cpu, mm, addr, frame):
    """The PTE for `addr` if it maps `frame`, else 0: a walk to one address, ended by page_vma_mapped_walk_done.

    Locking: as page_vma_mapped_walk; caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    m.pvmw.frame[cpu] = frame
    m.pvmw.flags[cpu] = m.pvmw.table[cpu] = m.pvmw.cleared[cpu] = 0
    m.pvmw.mm[cpu] = mm
    m.pvmw.addr[cpu] = addr
    pte = map_pte(m, cpu)
    if pte == 0:
        page_vma_mapped_walk_done(m, cpu)
    return pte


@kernel
def get_page_at(m, cpu, mm, addr):
    """A reference on the frame that is mapped at `addr`, or 0. The zero page and the device's frame have none.

    Locking: caller must hold mmap_lock, and know that a VMA is there: munmap frees tables under mmap_lock for reading.
    Takes and releases ptl.
    """
    mmap_assert_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, addr)
    if pmd != 0:
        split_huge_pmd(m, cpu, mm, pmd, addr)
    table = 0 if pmd == 0 else pte_try_get(m, cpu, pmd)
    if table == 0 or not pte_lock(m, cpu, pmd, table):
        return 0
    entry = read_once(m.entry, pte_offset(table, addr))
    frame = entry >> PAGE_SHIFT if pte_present(entry) and entry & SPECIAL == 0 else 0
    if frame != 0:
        atomic_add(m.page.refcount, frame, 1)
    pte_unlock(m, cpu, table)
    pte_put(m, cpu, mm, pmd, addr)
    return frame


@kernel
def clear_mapped_pte(m, cpu, pte, flush):
    """Clear the PTE of the walk, and flush it if told to. What it was, or 0 if its page is pinned and it is back.

    An exclusive page has this PTE, the caller and perhaps the swap cache as its users. Fast GUP counts, then looks at
    the PTE again, here it is the other way round. Locking: caller must hold ptl and a reference on the page.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    frame, addr = m.pvmw.frame[cpu], m.pvmw.addr[cpu]
    entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
    if flush:
        flush_tlb_mm_range(m, cpu, m.pvmw.mm[cpu], addr, addr + PAGE, 0)
    users = 2 + (read_once(m.page_slot, frame) != 0)
    if entry & ANON_EXCLUSIVE and read_once(m.page.refcount, frame) > users:
        write_once(m.entry, pte, entry)
        return 0
    return entry


@kernel
def replace_mapped_pte(m, cpu, pte, old, new):
    """Let `new`, which may be none, stand where the PTE of the walk was `old`. Locking: caller must hold ptl."""
    assert_ptl_held(m, cpu, table_of(pte))
    write_once(m.entry, pte, new)
    entry_changed(m, cpu, m.pvmw.pmd[cpu], table_of(pte), old, new, 1)
    if new == 0:
        m.pvmw.cleared[cpu] += 1


@kernel
def put_mapped_page(m, frame):
    """One PTE less maps the page, of which the caller has a reference. Locking: caller must hold ptl."""
    atomic_add(m.page.mapcount, frame, -1)
    atomic_add(m.page.refcount, frame, -1)
