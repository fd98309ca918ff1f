"""How large a machine a trace needs: the most frames, tables and VMAs that it can have at once.

The trace is followed without running it, as sets of page numbers; where that would be long-winded the answer is rounded
up. Policies that free more need no more, since a table in its grace period is waited for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from emulator.insn import Op
from emulator.madvise import MADV_DONTNEED
from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.pgtable import PGDIR_SHIFT, PMD_SHIFT, PMD_SIZE, PUD_SHIFT, TASK_SIZE
from emulator.vma import VM_WRITE
from workers.program import Insn

MAX_MAP_COUNT = 65530  # VMAs an mm may have, Linux's default
_SPARE_FRAMES, _SPARE_TABLES, _SPARE_VMAS = 64, 1024, 8
_ALL_PAGES = (1 << PMD_SIZE // PAGE_SIZE) - 1


class _Region(NamedTuple):
    """A mapped range. Unlike VMAs, regions are never merged."""

    start: int
    end: int
    writable: bool
    file: bool = False


@lru_cache(4096)
def _pages(first: int, limit: int, step: int) -> int:
    """A bit for each page of 2 MiB that is accessed from offset `first` to `limit` in strides of `step`."""
    if step <= PAGE_SIZE:
        return _page_range(first, limit)
    mask = 0
    for at in range(first, limit, step):
        mask |= 1 << at // PAGE_SIZE
    return mask


def _page_range(first: int, limit: int) -> int:
    """A bit for each page of 2 MiB between two offsets; pages at the ends count whole."""
    return (1 << -(-limit // PAGE_SIZE)) - (1 << first // PAGE_SIZE)


def _within(indexes: Collection[int], shift: int, start: int, end: int) -> list[int]:
    """Those indexes of units of 2**shift bytes that overlap a range."""
    wanted = range(start >> shift, (end - 1 >> shift) + 1)
    if len(wanted) < len(indexes):
        return [index for index in wanted if index in indexes]
    return [index for index in indexes if index in wanted]


class Footprint:
    """What a trace has mapped and populated so far, and the most it ever had."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []
        self._written: dict[int, int] = {}  # 2 MiB slot -> a bit for each page with a frame
        self._tables: dict[int, set[int]] = {PMD_SHIFT: set(), PUD_SHIFT: set(), PGDIR_SHIFT: set()}
        self._frames = self._splits = self.file_pages = 0
        self.frames = self.tables = self.vmas = 0

    def follow(self, insn: Insn) -> None:
        """Take one instruction into account."""
        end = insn.addr + -(-insn.length // PAGE_SIZE) * PAGE_SIZE
        step = 0 if insn.op == Op.MMAP else insn.step  # of mmap it says which file
        aligned = insn.addr % PAGE_SIZE == 0 and step % PAGE_SIZE == 0 and insn.addr < end <= TASK_SIZE
        if insn.op in (Op.TOUCH, Op.READ):
            self._access(insn.addr, insn.length, insn.step, insn.op == Op.TOUCH)
        elif insn.op == Op.MMAP and aligned:
            self._unmap(insn.addr, end)
            insort(self._regions, _Region(insn.addr, end, bool(insn.arg & VM_WRITE), insn.step != 0))
        elif insn.op == Op.MUNMAP and aligned:
            self._unmap(insn.addr, end)
        elif insn.op == Op.MUNMAP and insn.length:  # some calls fail: as if all did, but each may split a VMA
            self._splits += min(-(-insn.length // max(insn.step, 1)), insn.length // PAGE_SIZE + 1)
        elif insn.op == Op.MADVISE and insn.arg == MADV_DONTNEED and aligned:
            self._release(insn.addr, end)
        self.frames = max(self.frames, self._frames)
        self.tables = max(self.tables, sum(map(len, self._tables.values())))
        self.vmas = max(self.vmas, len(self._regions) + self._splits)

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """The regions that overlap a range, as a slice."""
        first = bisect_right(self._regions, start, key=lambda region: region.end)
        return first, bisect_left(self._regions, end, key=lambda region: region.start)

    def _access(self, at: int, length: int, step: int, write: bool) -> None:
        end = at + length
        while at < end:
            first, _ = self._overlapping(at, at + 1)
            if first == len(self._regions) or self._regions[first].start > at:
                return  # SIGSEGV
            region = self._regions[first]
            if write and not region.writable:
                return
            until = min(region.end, end)
            while at < until:
                slot = at >> PMD_SHIFT
                base = slot << PMD_SHIFT
                limit = min(until - base, PMD_SIZE)
                for shift, tables in self._tables.items():
                    tables.add(at >> shift)
                if region.file:
                    self.file_pages += _pages(at - base, limit, step).bit_count()
                if write:
                    had = self._written.get(slot, 0)
                    has = had | _pages(at - base, limit, step)
                    self._written[slot] = has
                    self._frames += has.bit_count() - had.bit_count()
                at += -(-(base + limit - at) // step) * step

    def _release(self, start: int, end: int) -> None:
        """Take the frames of a range away."""
        for slot in _within(self._written, PMD_SHIFT, start, end):
            base = slot << PMD_SHIFT
            had = self._written.pop(slot)
            has = had & ~_page_range(max(start - base, 0), min(end - base, PMD_SIZE))
            self._frames += has.bit_count() - had.bit_count()
            if has:
                self._written[slot] = has

    def _unmap(self, start: int, end: int) -> None:
        """Take a range away, and the tables that no region needs any more."""
        self._release(start, end)
        first, last = self._overlapping(start, end)
        if first < last:
            left, right = self._regions[first], self._regions[last - 1]
            kept = [left._replace(end=start)] if left.start < start else []
            kept += [right._replace(start=end)] if right.end > end else []
            self._regions[first:last] = kept
        for shift, tables in self._tables.items():
            for index in _within(tables, shift, start, end):
                first, last = self._overlapping(index << shift, index + 1 << shift)
                if first == last:
                    tables.discard(index)


def geometry_for(insns: list[Insn], frame_words: int, files: Collection[int] = ()) -> Geometry:
    """A machine of one CPU in which the instructions, and one more that ends them, fit; `files`: pages of each file."""
    footprint = Footprint()
    for insn in insns:
        footprint.follow(insn)
    return Geometry(
        vmas=min(footprint.vmas, MAX_MAP_COUNT) + _SPARE_VMAS,
        insns=len(insns) + 1,
        records=max(1, len(insns)),
        frames=footprint.frames + min(footprint.file_pages, sum(files)) + _SPARE_FRAMES,
        tables=footprint.tables + _SPARE_TABLES,
        frame_words=frame_words,
        files=len(files),
        file_pages=max(files, default=1),
    )
