"""Which mappings the empty tables can belong to: user space sees how many there are, not where; so these are bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator import lazy_numpy as np
from emulator.pgtable_types import PAGE_SHIFT, PGDIR_SHIFT, PMD_SHIFT, PUD_SHIFT
from scenarios.advice.needed import intervals, spans, units
from workers.host.process_files import Vma


@dataclass(frozen=True)
class Mapping:
    """One mapping: slots of 2 MiB it lies in, those with an entry, those it may hold an empty table in; pages of it.

    `may_waste_low` and `may_waste_high` bound the empty PTE tables that it holds.
    """

    vma: Vma
    slots: int
    used: int
    pages: int
    may_waste_low: int = 0
    may_waste_high: int = 0

    @property
    def empty(self) -> int:
        """Slots where the mapping may hold a table with nothing in it."""
        return self.slots - self.used


class Prefix:
    """Sums over ascending intervals, up to any number."""

    def __init__(self, first: np.ndarray, last: np.ndarray) -> None:
        self._first, self._last = first, last
        self._before = np.concatenate([[0], np.cumsum(last - first + 1)])

    def up_to(self, numbers: np.ndarray) -> np.ndarray:
        """How many numbers below each of these the intervals have."""
        at = np.searchsorted(self._first, numbers, "left")
        inside = np.minimum(numbers - 1, self._last[at - 1]) if len(self._last) else np.zeros_like(numbers)
        part = np.where(at > 0, inside - self._first[at - 1] + 1, 0) if len(self._first) else 0
        return self._before[np.maximum(at - 1, 0)] + part

    def between(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """How many numbers from `low` to below `high`."""
        return self.up_to(high) - self.up_to(low)


def mappings(ranges: np.ndarray, vmas: Sequence[Vma]) -> list[Mapping]:
    """Each mapping with its slots and pages, no bounds yet."""
    of = spans(vmas)
    first, end = of["start"] >> PMD_SHIFT, (of["end"] - 1 >> PMD_SHIFT) + 1
    used = Prefix(*intervals(ranges, PMD_SHIFT)).between(first, end)
    pages = Prefix(ranges["start"] >> PAGE_SHIFT, (ranges["end"] >> PAGE_SHIFT) - 1)
    counted = pages.between(of["start"] >> PAGE_SHIFT, of["end"] >> PAGE_SHIFT)
    slots = end - first
    return [Mapping(*row) for row in zip(vmas, slots.tolist(), used.tolist(), counted.tolist(), strict=True)]


def empty_slots(ranges: np.ndarray, vmas: Sequence[Vma]) -> int:
    """Slots of 2 MiB that some mapping lies in and that have no entry: so many PTE tables can be empty at most."""
    return units(spans(vmas), PMD_SHIFT) - units(ranges, PMD_SHIFT)


def empty_upper(ranges: np.ndarray, vmas: Sequence[Vma]) -> int:
    """The same of the levels above: so many PMD and PUD tables can be empty at most."""
    of = spans(vmas)
    return sum(units(of, shift) - units(ranges, shift) for shift in (PUD_SHIFT, PGDIR_SHIFT))


def bounded(found: Sequence[Mapping], low: int, high: int, empties: int) -> list[Mapping]:
    """The mappings with bounds of their empty PTE tables, of which there are `low` to `high` in all.

    A mapping has at most one for each empty slot, and at least what the others have no room for.
    """
    rows = []
    for one in found:
        most = min(one.empty, high)
        own = one.empty - _shared(one)
        rows.append(
            Mapping(one.vma, one.slots, one.used, one.pages, max(0, low - (empties - max(own, 0))), max(most, 0))
        )
    return rows


def _shared(one: Mapping) -> int:
    """Slots at its ends that a neighbour may lie in, too."""
    ends = (one.vma.start & (1 << PMD_SHIFT) - 1 != 0) + (one.vma.end & (1 << PMD_SHIFT) - 1 != 0)
    return min(ends, one.slots)
