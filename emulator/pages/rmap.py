"""From a page of a file to its mappings: the i_mmap of each file; page_vma_mapped.py walks it.

A link is a range of one mm that maps a range of the file. Links are cut where VMAs are unmapped, after the zap and
before the tables go. A walk of a table through a link holds i_mmap_lock, so the table's upper levels stay, and a PTE
table stays while it is pinned. VMAs that are split keep their link.

Source: mm/rmap.c, mm/interval_tree.c; unlink_file_vma, mm/mmap.c.
"""

from emulator.atomic import atomic_add, kernel, kernel_inline, knob, write_once
from emulator.locking.mutex import i_mmap_lock, i_mmap_row, i_mmap_unlock
from emulator.mm_types import LAZYFREE, MAPPING_SHIFT
from emulator.pages.pagemap import set_page_dirty
from emulator.pages.vma import linear_page_index, vma_lookup, vmas_lock, vmas_unlock
from emulator.pgtable_types import DIRTY, PAGE, PAGE_SHIFT
from emulator.uapi import VM_DROPPABLE
from emulator.watch.lockdep import lockdep_assert_held, might_sleep, mmap_assert_locked, mmap_assert_write_locked


@kernel_inline
def first_link(m, file):
    """The file's first row of `m.link`."""
    return file * m.config.n_mm[0] * m.config.vma_per_mm[0]


@kernel_inline
def link_range(m, row, first, end):
    """Where the link at `row` maps pages [first, end) of its file: start and end, in that order if it has one of them.

    Locking: caller must hold i_mmap_lock.
    """
    base = m.link.start[row] - m.link.pgoff[row] * PAGE
    return max(m.link.start[row], base + first * PAGE), min(m.link.end[row], base + end * PAGE)


@kernel
def add_link(m, cpu, file, mm, start, end, pgoff):
    """Enter a range. Locking: caller must hold i_mmap_lock."""
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    row = first_link(m, file) + m.file.links[file]
    m.link.mm[row] = mm
    m.link.start[row] = start
    m.link.end[row] = end
    m.link.pgoff[row] = pgoff
    m.file.links[file] += 1


@kernel
def drop_link(m, cpu, file, row):
    """Take a row out; the last one takes its place. Locking: caller must hold i_mmap_lock."""
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    m.file.links[file] -= 1
    last = first_link(m, file) + m.file.links[file]
    m.link.mm[row] = m.link.mm[last]
    m.link.start[row] = m.link.start[last]
    m.link.end[row] = m.link.end[last]
    m.link.pgoff[row] = m.link.pgoff[last]


@kernel
def link_file_vma(m, cpu, mm, file, start, end, pgoff):
    """Note that `mm` maps the file from page `pgoff` on at [start, end). A range that continues another is one with it.

    So an mm has no more links than VMAs. Locking: takes and releases i_mmap_lock; caller must hold mmap_lock for write.
    """
    mmap_assert_locked(m, cpu, mm)
    i_mmap_lock(m, cpu, file)
    row = first_link(m, file)
    while row < first_link(m, file) + m.file.links[file]:
        offset = pgoff - m.link.pgoff[row]
        joins = m.link.mm[row] == mm and (start - m.link.start[row]) // PAGE == offset
        if joins and (m.link.end[row] == start or m.link.start[row] == end):
            start, end = min(start, m.link.start[row]), max(end, m.link.end[row])
            pgoff = min(pgoff, m.link.pgoff[row])
            drop_link(m, cpu, file, row)
        else:
            row += 1
    add_link(m, cpu, file, mm, start, end, pgoff)
    i_mmap_unlock(m, cpu, file)


@kernel
def cut_links(m, cpu, file, mm, start, end):
    """Take [start, end) of `mm` out of the links of a file. Locking: caller must hold i_mmap_lock."""
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    row = first_link(m, file)
    while row < first_link(m, file) + m.file.links[file]:
        low, high = m.link.start[row], m.link.end[row]
        if m.link.mm[row] != mm or high <= start or end <= low:
            row += 1
            continue
        pgoff = m.link.pgoff[row]
        if low < start:
            m.link.end[row] = start
            if end < high:
                add_link(m, cpu, file, mm, end, high, pgoff + (end - low) // PAGE)
        elif end < high:
            m.link.start[row] = end
            m.link.pgoff[row] = pgoff + (end - low) // PAGE
        else:
            drop_link(m, cpu, file, row)
            continue
        row += 1


@kernel
def unlink_file_vmas(m, cpu, mm, start, end):
    """Take [start, end) of `mm` out of the i_mmap of every file: nobody reaches its tables from a file any more.

    Locking: takes and releases each i_mmap_lock; caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    for file in range(m.config.n_file[0]):
        i_mmap_lock(m, cpu, file)
        cut_links(m, cpu, file, mm, start, end)
        i_mmap_unlock(m, cpu, file)


@kernel
def take_rmap_locks(m, cpu, mm, addr):
    """Keep rmap walkers away from entries of the VMA at `addr` that are about to be at another address, or at two.

    Locking: caller must hold mmap_lock for writing and no spinlock. Source: take_rmap_locks, mm/mremap.c; Linux can do
    without where the walker comes to the new VMA after the old one, but for whole tables (97113eb39fa7).
    """
    might_sleep(m, cpu)
    mmap_assert_write_locked(m, cpu, mm)
    file = m.vma.file[vma_lookup(m, mm, addr)]
    if file != 0:
        i_mmap_lock(m, cpu, file - 1)
    vmas_lock(m, cpu, mm)


@kernel
def drop_rmap_locks(m, cpu, mm, addr):
    """Let them walk again."""
    file = m.vma.file[vma_lookup(m, mm, addr)]
    vmas_unlock(m, cpu, mm)
    if file != 0:
        i_mmap_unlock(m, cpu, file - 1)


@kernel_inline
def anon_mapping(m, mm, row, addr):
    """What page.mapping says of an anonymous page at `addr` in the VMA at `row`: where in which family it is mapped."""
    return linear_page_index(m, row, addr) << MAPPING_SHIFT | m.mm.family[mm]


@kernel_inline
def page_add_new_anon_rmap(m, mm, row, addr, frame):
    """The first PTE is about to map a fresh frame. Locking: caller must hold mmap_lock; nobody else has the frame."""
    m.page.mapcount[frame] = 1
    droppable = LAZYFREE if m.vma.flags[row] & VM_DROPPABLE else 0  # not swap-backed
    write_once(m.page.mapping, frame, anon_mapping(m, mm, row, addr) | droppable)


@kernel_inline
def page_remove_rmap(m, mm, frame):
    """One PTE less maps the page of a file. Locking: caller must hold the ptl, and keeps the frame."""
    atomic_add(m.page.mapcount, frame, -1)
    atomic_add(m.mm.rss_file, mm, -1)


@kernel
def zap_file_pte(m, cpu, mm, entry):
    """A PTE that maps a page of a file was cleared: its dirty bit goes to the page.

    A CPU may store through its TLB until it is flushed. That must be over before ptl is dropped, or write-back finds
    no PTE, takes the page for clean, and misses the store. Locking: caller must hold ptl and the frame.
    """
    frame = entry >> PAGE_SHIFT
    if entry & DIRTY:
        set_page_dirty(m, m.page_slot[frame] - 1)
        m.cpu.gather_force[cpu] = 0 if knob(m.config.dirty_zap_unflushed) else 1
    page_remove_rmap(m, mm, frame)
