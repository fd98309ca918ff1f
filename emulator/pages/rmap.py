"""From a page of a file to its mappings: the i_mmap of each file; page_vma_mapped.py walks it.

It is the list of the VMAs that map the file. A VMA leaves it at munmap, after the zap and before the tables go. A walk
of a table through it holds i_mmap_lock, so the table's upper levels stay, and a PTE table stays while it is pinned. A
VMA of a file begins or ends elsewhere under that lock alone: vma.py:vma_prepare.

Source: mm/rmap.c, mm/interval_tree.c; unlink_file_vma, mm/mmap.c.
"""

from emulator.atomic import atomic_add, kernel, kernel_inline, knob, write_once
from emulator.mm_types import LAZYFREE, MAPPING_SHIFT
from emulator.pages.pagemap import set_page_dirty
from emulator.pages.vma import linear_page_index, vma_complete, vma_lookup, vma_prepare
from emulator.pgtable_types import DIRTY, PAGE, PAGE_SHIFT
from emulator.uapi import VM_DROPPABLE
from emulator.watch.lockdep import might_sleep, mmap_assert_write_locked


@kernel_inline
def file_range(m, row, first, end):
    """Where the VMA at `row` maps pages [first, end) of its file: start and end, in that order if it has one of them.

    Locking: caller must hold i_mmap_lock.
    """
    base = m.vma.start[row] - m.vma.pgoff[row] * PAGE
    return max(m.vma.start[row], base + first * PAGE), min(m.vma.end[row], base + end * PAGE)


@kernel
def take_rmap_locks(m, cpu, mm, addr):
    """Keep rmap walkers away from entries of the VMA at `addr` that are about to be at another address, or at two.

    Locking: caller must hold mmap_lock for writing and no spinlock. Source: take_rmap_locks, mm/mremap.c; Linux can do
    without where the walker comes to the new VMA after the old one, but for whole tables (97113eb39fa7).
    """
    might_sleep(m, cpu)
    mmap_assert_write_locked(m, cpu, mm)
    vma_prepare(m, cpu, mm, m.vma.file[vma_lookup(m, mm, addr)])


@kernel
def drop_rmap_locks(m, cpu, mm, addr):
    """Let them walk again."""
    vma_complete(m, cpu, mm, m.vma.file[vma_lookup(m, mm, addr)])


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
