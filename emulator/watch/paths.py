"""The paths through the kernel that use a PTE table, each a row of the table in docs/paths.md, and which were taken.

A run that never took a path says nothing about it. So the debug build counts them and the stress runs print the counts.
A test asserts that random programs take every one.
"""

from emulator.atomic import POINTS_PASS, kernel_inline
from emulator.mm_types import NR_PATHS

PATHS = (
    "fault, table there",
    "fault, pmd none",
    "fault, no memory",
    "fault, table dying",
    "fault on a none entry",
    "write to the zero page",
    "write to a shared frame",
    "write to a frame of one user",
    "fault on a guard",
    "end of a fault",
    "zap, per table",
    "zap, entries",
    "zap frees the table, ptl held",
    "zap frees the table, by a scan",
    "scan for empty tables",
    "the last entry takes its table",
    "free_ptes",
    "zap unhooks the table first",
    "an emptied table goes, stray",
    "the last visitor takes its table",
    "zap switches a count to one word",
    "a table whose count is zero goes",
    "an unwired table goes",
    "a review frees a table",
    "an empty upper table goes",
    "MADV_FREE, COLD, PAGEOUT",
    "MADV_PAGEOUT of a file",
    "MADV_WILLNEED",
    "populate, mlock: the look",
    "populate, mlock: the fault",
    "GUP, slow",
    "GUP, fast",
    "GUP, fast, huge page",
    "GUP, slow, huge page",
    "huge page, fault",
    "huge page, write fault",
    "huge page, zap",
    "huge page, split",
    "huge page, fork",
    "huge page, mprotect",
    "huge page, mremap",
    "huge page of a file, mapped",
    "huge page of a file, split",
    "folio, split",
    "hugetlb, fault",
    "hugetlb, table shared",
    "hugetlb, table given up",
    "hugetlb, zap",
    "collapse, scan",
    "collapse",
    "collapse, shared memory",
    "retract",
    "guard, install",
    "guard, remove",
    "fault on a watched page",
    "UFFD_COPY, UFFD_ZEROPAGE",
    "UFFD_MOVE",
    "UFFD_WRITEPROTECT",
    "mprotect",
    "mremap, entries",
    "mremap, 2 MiB",
    "mremap, 1 GiB",
    "fork",
    "fault on a file, table there",
    "fault on a file, pmd none",
    "fault on a file, none entry",
    "fault-around",
    "fault that waits for a page",
    "first write, shared file",
    "first write, private file",
    "driver inserts pages",
    "write-back",
    "truncate, hole punch",
    "reclaim of a page",
    "reclaim to swap",
    "reclaim after MADV_FREE",
    "fault on a swap entry",
    "zap of a swap or migration entry",
    "MADV_FREE of swap entries",
    "swapoff",
    "migration, the look-up",
    "migration, both walks",
    "fault on a migration entry",
    "wait for a migration entry",
    "KSM",
    "uprobe",
    "mincore",
    "smaps, pagemap, clear_refs, memcg",
    "mmap of the device",
    "driver takes its frame",
    "munmap",
    "free_pgtables",
    "exit, last user of the mm",
    "hardware walker",
)
assert len(PATHS) <= NR_PATHS


def path_number(name: str) -> int:
    """The number of a path. Raises ValueError if it is not one of PATHS."""
    return PATHS.index(name)


@kernel_inline
def took(m, cpu, path):
    """This CPU goes along a path. Nothing in the plain build, nor in the explorer."""
    if POINTS_PASS:
        m.path_taken[cpu * NR_PATHS + path] += 1
