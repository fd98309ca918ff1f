"""One look at a process: page tables held, page tables needed, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from emulator import lazy_numpy as np
from emulator.pgtable_types import PMD_SHIFT, PMD_SIZE
from scenarios.advice import by_mapping
from scenarios.advice.by_mapping import Mapping
from scenarios.advice.needed import KB_OF_TABLE, Needed, at_most_more, count
from workers.host import page_scan, process_files
from workers.host.page_scan import GUARD, HUGE, PRESENT, WRITTEN, NoPagemapScan
from workers.host.process_files import NotReadable, ProcessGone, Status, Vma

SCAN, READ, BOUNDS = "PAGEMAP_SCAN", "pagemap", "status"
TRIES = 3  # looks, until VmPTE is the same before and after

# what may be a device's memory, whose entries the kernel shows to nobody; smaps has the flag that says so
_MAYBE_DEVICE = ("/dev/", "/sys/", "/proc/", "anon_inode:", "[vvar")


class NoAddressSpace(Exception):
    """The process has no page tables of its own; the text says why."""


@dataclass(frozen=True)
class Reading:
    """What was read of a process. All sizes in kB.

    VmPTE was `held_before` and `held_after`; `needed` counts what the kernel shows, None if that needs a right.
    `needed_low` and `needed_high` bound all that is needed, `upper_empty` the empty PMD and PUD tables.
    `empties` is how many empty PTE tables there can be; `missing` says what could not be read, and why.
    """

    status: Status
    method: str
    held_before: int
    held_after: int
    needed_low: int
    needed_high: int
    seconds: float
    needed: Needed | None = None
    upper_empty: int = 0
    empties: int | None = None
    mappings: list[Mapping] = field(default_factory=list)
    missing: tuple[str, ...] = ()

    @property
    def held(self) -> int:
        """VmPTE: the smaller of the two, so that no waste is claimed that was not there."""
        return min(self.held_before, self.held_after)

    @property
    def error(self) -> int:
        """What VmPTE changed by meanwhile."""
        return abs(self.held_after - self.held_before)

    @property
    def waste_low(self) -> int:
        """Tables that hold nothing, at least."""
        return max(0, self.held - self.needed_high)

    @property
    def waste_high(self) -> int:
        """Tables that hold nothing, at most."""
        return max(0, max(self.held_before, self.held_after) - self.needed_low)

    @property
    def waste(self) -> int:
        """Tables that hold nothing, for all that can be seen; of what could be seen and was not, the lower bound."""
        return self.waste_low if self.missing else max(0, self.held - self.needed_low)

    @property
    def empty_pte_low(self) -> int:
        """Of the waste, PTE tables at least: the rest may be tables above them."""
        return max(0, self.waste_low - self.upper_empty)


def read(pid: int, scan: Callable[[int, Sequence[Vma]], np.ndarray] = page_scan.pagemap_scan) -> Reading:
    """Look at a process, once more if it allocates tables meanwhile. Raises ProcessGone, NoAddressSpace."""
    np.ndarray  # noqa: B018  # loaded now: a look that waits for numpy is one of another moment
    best: Reading | None = None
    for _ in range(TRIES):
        found = _look(pid, scan)
        best = found if best is None or found.error < best.error else best
        if best.error == 0:
            break
    assert best is not None
    return best


def _look(pid: int, scan: Callable[[int, Sequence[Vma]], np.ndarray]) -> Reading:
    """One look at a process, by the best way there is a right for."""
    began = time.perf_counter()
    status = process_files.read_status(pid)
    if status.vmpte is None:
        why = "is a thread of the kernel" if status.kernel else "has exited, its parent has not waited"
        raise NoAddressSpace(f"process {pid} ({status.name}) {why}: it has no page tables")
    try:
        vmas = process_files.read_maps(pid)
        method, ranges, skipped = _entries(pid, vmas, scan)
        if method == READ or _smaps_matters(ranges, vmas):
            vmas = process_files.read_smaps(pid)
        held_after = _still_there(status).vmpte or 0
    except NotReadable as error:
        held_after = _still_there(status).vmpte or 0
        return _bounds(status, held_after, str(error), began)
    if not vmas:
        raise ProcessGone(f"process {pid} has gone")
    return _reading(status, held_after, method, ranges, vmas, skipped, began)


def _still_there(status: Status) -> Status:
    """The status now. Raises ProcessGone if the number belongs to another process, or to what is left of one."""
    now = process_files.read_status(status.pid)
    if now.started != status.started or now.vmpte is None:
        raise ProcessGone(f"process {status.pid} has gone")
    return now


def _entries(
    pid: int, vmas: Sequence[Vma], scan: Callable[[int, Sequence[Vma]], np.ndarray]
) -> tuple[str, np.ndarray, list[Vma]]:
    """How the entries were read, the ranges that have one, and the mappings that were not read."""
    try:
        return SCAN, scan(pid, vmas), []
    except NoPagemapScan:
        return READ, *page_scan.read_pagemap(pid, vmas)


def _smaps_matters(ranges: np.ndarray, vmas: Sequence[Vma]) -> bool:
    """True if the flags of a mapping bear on the count: hugetlbfs, userfaultfd, memory of a device.

    smaps takes longer than everything else, so that no reader pays for it without need.
    """
    kinds = ranges["categories"]
    markers = (kinds & (PRESENT | GUARD | WRITTEN)) == 0
    return bool((kinds & HUGE != 0).any() or markers.any() or _devices(vmas))


def _devices(vmas: Sequence[Vma]) -> list[Vma]:
    """Mappings that may be of a device; with flags, those that are."""
    return [vma for vma in vmas if ("pf" in vma.flags if vma.flags else vma.name.startswith(_MAYBE_DEVICE[:-1]))]


def _reading(
    status: Status,
    held_after: int,
    method: str,
    ranges: np.ndarray,
    vmas: list[Vma],
    skipped: Sequence[Vma],
    began: float,
) -> Reading:
    """The reading that follows from the entries."""
    needed = count(ranges, vmas)
    if method == READ:  # a word of pagemap does not say that a file's page is huge; smaps says how many are
        huge = sum(vma.file_pmd_mapped for vma in vmas) >> 11
        needed = Needed(needed.pte - huge, needed.deposited, needed.pmd, needed.pud, pages=needed.pages)
    hidden = [vma for vma in vmas if vma.name.startswith("[vvar") or "pf" in vma.flags]
    low, high = needed.tables, needed.tables + at_most_more(ranges, hidden)
    for vma in skipped:
        at_least, at_most = _of_unread(vma)
        low, high = low + at_least, high + at_most
    missing = (f"{len(skipped)} mappings of more than {page_scan.READ_LIMIT >> 30} GiB",) if skipped else ()
    empties = by_mapping.empty_slots(ranges, vmas)
    held = min(status.vmpte or 0, held_after)
    waste = max(0, held - low * KB_OF_TABLE)
    upper = min(by_mapping.empty_upper(ranges, vmas) * KB_OF_TABLE, waste)
    surely = max(0, held - high * KB_OF_TABLE - upper)
    bounds = (surely // KB_OF_TABLE, waste // KB_OF_TABLE, empties)
    return Reading(
        status=status,
        method=method,
        held_before=status.vmpte or 0,
        held_after=held_after,
        needed_low=low * KB_OF_TABLE,
        needed_high=high * KB_OF_TABLE,
        seconds=time.perf_counter() - began,
        needed=needed,
        upper_empty=upper,
        empties=empties,
        mappings=by_mapping.bounded(by_mapping.mappings(ranges, vmas), *bounds),
        missing=missing,
    )


def _of_unread(vma: Vma) -> tuple[int, int]:
    """Tables that a mapping needs at least and at most, by the sizes that smaps gives."""
    pages = (vma.rss + vma.swap) * 1024 // page_scan.PAGE
    slots = (vma.end - 1 >> PMD_SHIFT) - (vma.start >> PMD_SHIFT) + 1
    fewest = -(-pages * page_scan.PAGE // PMD_SIZE)
    return max(0, fewest - vma.file_pmd_mapped // 2048), min(3 * pages, 2 * slots + 2) if pages else slots


def _bounds(status: Status, held_after: int, problem: str, began: float) -> Reading:
    """What follows from the sizes that everybody may read.

    512 pages need a table at least, and one page needs three at most. Pages of files may be huge and need none.
    """
    pages = (status.rss + status.swap) // KB_OF_TABLE
    fewest = -(-(status.rss_anon + status.swap) // 2048) * KB_OF_TABLE
    held = min(status.vmpte or 0, held_after)
    return Reading(
        status=status,
        method=BOUNDS,
        held_before=status.vmpte or 0,
        held_after=held_after,
        needed_low=min(held, fewest + 2 * KB_OF_TABLE if pages else 0),
        needed_high=min(held, 3 * KB_OF_TABLE * pages),
        seconds=time.perf_counter() - began,
        missing=(problem,),
    )
