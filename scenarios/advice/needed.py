"""Page tables that a set of entries needs, counted from ranges of addresses.

A table is needed if an entry in it is not none: a page, a swap entry, a marker. Each level above needs a table where
the level below has one. An anonymous huge page keeps one PTE table deposited, for its split; VmPTE counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator import lazy_numpy as np
from emulator.pgtable_types import PAGE_SHIFT, PGDIR_SHIFT, PMD_SHIFT, PTRS_PER_PTE, PUD_SHIFT
from workers.host.page_scan import FILE, GUARD, HUGE, PFNZERO, PRESENT, RANGE, WRITTEN
from workers.host.process_files import Vma

KB_OF_TABLE = 4
_GIB_PAGE = 1 << 20  # kB of a hugetlb page that is an entry of a PUD table


@dataclass(frozen=True)
class Needed:
    """Tables by level, and what keeps some of the PTE tables: none of these kinds has a page that is no zero page.

    `only_swap` counts tables with swap entries and migration entries alone, `only_mixed` those with several kinds.
    """

    pte: int
    deposited: int
    pmd: int
    pud: int
    only_zero: int = 0
    full_of_zero: int = 0
    only_swap: int = 0
    only_guard: int = 0
    only_uffd_wp: int = 0
    only_mixed: int = 0
    pages: int = 0

    @property
    def tables(self) -> int:
        """All that VmPTE counts."""
        return self.pte + self.deposited + self.pmd + self.pud


def units(ranges: np.ndarray, shift: int) -> int:
    """How many units of 2**shift bytes some ranges touch; they are sorted, and none overlaps another."""
    if len(ranges) == 0:
        return 0
    first, last = ranges["start"] >> shift, ranges["end"] - 1 >> shift
    first[1:] = np.maximum(first[1:], last[:-1] + 1)
    return int(np.maximum(last - first + 1, 0).sum())


def intervals(ranges: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The same units as numbers: ascending firsts, and lasts, no unit in two of them."""
    first, last = ranges["start"] >> shift, ranges["end"] - 1 >> shift
    first[1:] = np.maximum(first[1:], last[:-1] + 1)
    kept = first <= last
    return first[kept], last[kept]


def spans(vmas: Sequence[Vma]) -> np.ndarray:
    """Mappings as ranges without a category."""
    found = np.zeros(len(vmas), RANGE)
    found["start"], found["end"] = [vma.start for vma in vmas], [vma.end for vma in vmas]
    return found


def within(ranges: np.ndarray, vmas: Sequence[Vma]) -> np.ndarray:
    """For each range whether it lies in one of some mappings."""
    if not vmas:
        return np.zeros(len(ranges), bool)
    of = spans(vmas)
    at = np.searchsorted(of["start"], ranges["start"], "right") - 1
    return (at >= 0) & (ranges["start"] < of["end"][at])


def split_at(ranges: np.ndarray, vmas: Sequence[Vma]) -> np.ndarray:
    """The ranges, none of which goes across the border of a mapping: PAGEMAP_SCAN joins neighbours of one kind."""
    borders = np.array([vma.start for vma in vmas], np.int64)
    low = np.searchsorted(borders, ranges["start"], "right")
    high = np.searchsorted(borders, ranges["end"], "left")
    crossed = np.flatnonzero(high > low)
    parts = [ranges]
    for i in crossed[::-1]:
        row = ranges[i]
        cuts = [int(row["start"]), *borders[low[i] : high[i]].tolist(), int(row["end"])]
        pieces = np.full(len(cuts) - 1, row, RANGE)
        pieces["start"], pieces["end"] = cuts[:-1], cuts[1:]
        parts[:1] = [parts[0][:i], pieces, parts[0][i + 1 :]]
    return np.concatenate(parts)


def count(ranges: np.ndarray, vmas: Sequence[Vma]) -> Needed:
    """The tables that some entries need: ranges of page_scan, by address; mappings with the flags of smaps, if any."""
    hugetlb = [vma for vma in vmas if "ht" in vma.flags]
    if hugetlb:
        ranges = split_at(ranges, vmas)
    kinds = ranges["categories"]
    whole = within(ranges, hugetlb)
    huge = (kinds & HUGE != 0) | whole
    single = ranges[~huge]
    gib = within(ranges, [vma for vma in hugetlb if vma.page_size >= _GIB_PAGE])
    tables = units(single, PMD_SHIFT)
    return Needed(
        pte=tables,
        deposited=units(ranges[huge & ~whole & (kinds & FILE == 0)], PMD_SHIFT),
        pmd=units(ranges[~gib], PUD_SHIFT),
        pud=units(ranges, PGDIR_SHIFT),
        pages=int((ranges["end"] - ranges["start"]).sum()) >> PAGE_SHIFT,
        **_keepers(single, tables, vmas),
    )


def at_most_more(ranges: np.ndarray, hidden: Sequence[Vma]) -> int:
    """The tables that mappings whose entries nobody sees may need beside those that some entries need."""
    if not hidden:
        return 0
    both = np.concatenate([ranges, spans(hidden)])
    both = both[np.argsort(both["start"], kind="stable")]
    return sum(units(both, shift) - units(ranges, shift) for shift in (PMD_SHIFT, PUD_SHIFT, PGDIR_SHIFT))


def _keepers(single: np.ndarray, tables: int, vmas: Sequence[Vma]) -> dict[str, int]:
    """Of the PTE tables those that only entries of one kind keep, by kind."""
    kinds = single["categories"]
    present, zero, guard = kinds & PRESENT != 0, kinds & PFNZERO != 0, kinds & GUARD != 0
    wp = ~present & ~guard & (kinds & WRITTEN == 0) & within(single, [vma for vma in vmas if "uw" in vma.flags])
    swap = ~present & ~guard & ~wp

    def only(kind: np.ndarray) -> int:
        return tables - units(single[~kind], PMD_SHIFT) if kind.any() else 0

    found = {"only_zero": only(zero), "only_swap": only(swap), "only_guard": only(guard), "only_uffd_wp": only(wp)}
    mixed = only(~present | zero) - sum(found.values())
    return {**found, "only_mixed": mixed, "full_of_zero": _full(single[zero])}


def _full(ranges: np.ndarray) -> int:
    """The PTE tables whose every entry is in some ranges."""
    if len(ranges) == 0:
        return 0
    starts = np.concatenate([[True], ranges["start"][1:] != ranges["end"][:-1]])
    start, end = ranges["start"][starts], ranges["end"][np.append(np.flatnonzero(starts)[1:], len(ranges)) - 1]
    slot = PTRS_PER_PTE << PAGE_SHIFT
    return int(np.maximum(end // slot - -(-start // slot), 0).sum())
