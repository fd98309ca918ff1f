"""How large a machine a trace needs: the most frames, tables and VMAs that it can have at once.

The trace is followed without running it, as sets of page numbers; where that would be long-winded the answer is rounded
up. A child begins with what its parent has, and shares none of it. Policies that free more need no more, since a table
in its grace period is waited for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.pgtable_types import PGDIR_SHIFT, PMD_SHIFT, PMD_SIZE, PUD_SHIFT, TASK_SIZE
from emulator.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_WIPEONFORK,
    VM_HUGEPAGE,
    VM_READ,
    VM_WRITE,
    Op,
)
from workers.programs.program import Insn

MAX_MAP_COUNT = 65530  # VMAs an mm may have, Linux's default
_SPARE_FRAMES, _SPARE_TABLES, _SPARE_VMAS = 64, 1024, 8
_ALL_PAGES = (1 << PMD_SIZE // PAGE_SIZE) - 1


class _Region(NamedTuple):
    """A mapped range. Unlike VMAs, regions are never merged."""

    start: int
    end: int
    prot: int
    file: bool = False
    huge: bool = False


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
        self._whole: set[int] = set()  # slots that are huge pages, for all that is known
        self._blocks_free = 0
        self._frames = self._splits = self.file_pages = self.blocks = 0
        self._locks = False  # something may be locked: what releases pages may fail
        self._held: list[Footprint] = []  # children that stay
        self.frames = self.tables = self.vmas = self.children = 0

    def follow(self, insn: Insn) -> None:
        """Take one instruction into account."""
        end = insn.addr + -(-insn.length // PAGE_SIZE) * PAGE_SIZE
        step = 0 if insn.op == Op.MMAP else insn.step  # of mmap it says which file
        aligned = insn.addr % PAGE_SIZE == 0 and step % PAGE_SIZE == 0 and insn.addr < end <= TASK_SIZE
        if insn.op in (Op.TOUCH, Op.READ):
            self._access(insn.addr, insn.length, insn.step, insn.op == Op.TOUCH)
        elif insn.op == Op.MMAP and aligned:
            self._unmap(insn.addr, end)
            insort(
                self._regions,
                _Region(
                    insn.addr, end, insn.arg & (VM_READ | VM_WRITE), insn.step != 0, huge=bool(insn.arg & VM_HUGEPAGE)
                ),
            )
        elif insn.op == Op.MUNMAP and aligned:
            self._unmap(insn.addr, end)
        elif insn.op == Op.MUNMAP and insn.length:  # some calls fail, but each may split a VMA
            calls = range(insn.addr, insn.addr + insn.length, insn.step or insn.length)
            self._splits += min(len(calls), insn.length // PAGE_SIZE + 1)
            for at in calls if len(calls) <= MAX_MAP_COUNT else ():
                if at % PAGE_SIZE == 0:
                    self._unmap(at, min(-(-(at + calls.step) // PAGE_SIZE) * PAGE_SIZE, end))
        elif insn.op == Op.MADVISE and insn.length:
            self._advise(insn, end, aligned)
        elif insn.op == Op.MPROTECT and aligned:
            self._protect(insn.addr, end, insn.arg)
        elif insn.op == Op.MLOCK:
            self._locks, self._splits = True, self._splits + 2
            if insn.arg:
                self._populate(insn.addr & -PAGE_SIZE, -(-(insn.addr + insn.length) // PAGE_SIZE) * PAGE_SIZE)
        elif insn.op == Op.MREMAP and insn.addr % PAGE_SIZE == 0:
            self._resize(insn.addr, end, insn.addr + -(-insn.arg // PAGE_SIZE) * PAGE_SIZE)
        elif insn.op == Op.MREMAP_FIXED and aligned:
            self._move(insn.addr, end, insn.arg - insn.addr)
        elif insn.op == Op.REAP:
            self._held = []
        self.note()

    def note(self, child: Footprint | None = None) -> None:
        """Look whether this is the most so far, with a child that runs."""
        living = [self, *self._held, *([child] if child else [])]
        self.frames = max(self.frames, sum(one._frames for one in living))
        self.tables = max(self.tables, sum(map(len, (tables for one in living for tables in one._tables.values()))))
        self.vmas = max(self.vmas, *(len(one._regions) + one._splits for one in living))
        self.blocks = sum(one.blocks for one in living)
        self.children = max(self.children, len(living) - 1)

    def fork(self, insns: Iterable[Insn], hold: bool) -> None:
        """Take a child into account that executes some instructions."""
        self._whole = set()
        child = deepcopy(self)
        child._held = []
        self.note(child)
        for insn in insns:
            child.follow(insn)
            self.note(child)
        self.file_pages = child.file_pages  # what it brings into memory stays there
        if hold:
            self._held.append(child)

    def _advise(self, insn: Insn, end: int, aligned: bool) -> None:
        steps = -(-insn.length // insn.step) if insn.step else 1
        if insn.arg in (MADV_DONTNEED, MADV_DONTNEED_LOCKED) and aligned and not self._locks:
            self._release(insn.addr, end)
        elif insn.arg in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
            for at in range(insn.addr, end, insn.step or insn.length):  # each call goes as far as it can
                self._access(at, min(insn.step or insn.length, end - at), PAGE_SIZE, insn.arg == MADV_POPULATE_WRITE)
        elif insn.arg == MADV_GUARD_INSTALL:
            self._add_tables(insn.addr, end)
        elif insn.arg in (MADV_DONTFORK, MADV_WIPEONFORK):
            self._splits += 2 * steps
        elif insn.arg in (MADV_HUGEPAGE, MADV_NOHUGEPAGE):
            self._splits += 2 * steps
            first, last = self._overlapping(insn.addr, end)
            for row in range(first, last if insn.arg == MADV_HUGEPAGE else first):
                self._regions[row] = self._regions[row]._replace(huge=True)
        elif insn.arg == MADV_COLLAPSE:
            for slot in _within(self._tables[PMD_SHIFT], PMD_SHIFT, insn.addr, end):
                self._fill(slot)
        elif insn.arg in (MADV_FREE, MADV_COLD, MADV_PAGEOUT):
            self._whole = set()

    def _fill(self, slot: int) -> None:
        """A huge page, where there was none. What is not needed any more as a whole comes from there."""
        if slot in self._whole:
            return
        if self._blocks_free:
            self._blocks_free -= 1
        else:
            self.blocks += 1
        self._whole.add(slot)
        self._frames += PMD_SIZE // PAGE_SIZE - self._written.get(slot, 0).bit_count()
        self._written[slot] = _ALL_PAGES

    def _add_tables(self, start: int, end: int) -> None:
        """Tables for whatever is mapped in a range."""
        first, last = self._overlapping(start, end)
        for region in self._regions[first:last]:
            for shift, tables in self._tables.items():
                tables.update(range(max(start, region.start) >> shift, (min(end, region.end) - 1 >> shift) + 1))

    def _populate(self, start: int, end: int) -> None:
        """Fault in what mlock locks."""
        first, last = self._overlapping(start, end)
        for region in self._regions[first:last]:
            at = max(start, region.start)
            self._access(at, min(end, region.end) - at, PAGE_SIZE, bool(region.prot & VM_WRITE))

    def _protect(self, start: int, end: int, prot: int) -> None:
        """Split the regions of a range off, up to the first hole, with another protection."""
        first, last = self._overlapping(start, end)
        at = start
        self._whole = set()
        for region in self._regions[first:last]:
            if region.start > at:
                return
            inside = region._replace(start=max(at, region.start), end=min(end, region.end), prot=prot)
            parts = [region._replace(end=inside.start), inside, region._replace(start=inside.end)]
            row = self._regions.index(region)
            self._regions[row : row + 1] = [part for part in parts if part.start < part.end]
            if self._locks and prot & VM_WRITE:
                self._populate(inside.start, inside.end)
            at = region.end

    def _resize(self, start: int, end: int, new_end: int) -> None:
        """mremap in place."""
        first, last = self._overlapping(start, start + 1)
        if first == last or start == new_end:
            return
        if new_end < end:
            self._unmap(new_end, end)
            return
        tail, behind = self._overlapping(end - 1, end), self._overlapping(end, new_end)
        if end < new_end <= TASK_SIZE and tail[0] < tail[1] and behind[0] == behind[1]:
            insort(self._regions, self._regions[tail[0]]._replace(start=end, end=new_end))
            if self._locks:
                self._populate(end, new_end)

    def _move(self, start: int, end: int, offset: int) -> None:
        """mremap to another place; the tables of both exist for a while."""
        if -(end - start) < offset < end - start or not 0 <= start + offset <= TASK_SIZE - (end - start):
            return
        first, last = self._overlapping(start, end)
        if offset % PAGE_SIZE or first == last or self._regions[first].start > start:
            return
        self._whole = set()
        for region in self._regions[first:last]:
            at, until = max(start, region.start), min(end, region.end)
            self._unmap(at + offset, until + offset)
            insort(self._regions, region._replace(start=at + offset, end=until + offset))
            for slot in _within(self._tables[PMD_SHIFT], PMD_SHIFT, at, until):
                slot_start, slot_end = max(at, slot << PMD_SHIFT), min(until, slot + 1 << PMD_SHIFT)
                self._add_tables(slot_start + offset, slot_end + offset)
                self._move_written(slot, slot_start, slot_end, offset)
            self.note()
            self._unmap(at, until)

    def _move_written(self, slot: int, start: int, end: int, offset: int) -> None:
        """Move the frames of a range within one slot."""
        base = slot << PMD_SHIFT
        bits = self._written.get(slot, 0) & _page_range(start - base, end - base)
        for page in range((end - start) // PAGE_SIZE):
            if bits >> (start - base) // PAGE_SIZE + page & 1:
                to = start + offset + page * PAGE_SIZE
                had = self._written.get(to >> PMD_SHIFT, 0)
                self._written[to >> PMD_SHIFT] = had | 1 << (to & PMD_SIZE - 1) // PAGE_SIZE
                self._frames += 1  # and fewer when the source is unmapped

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """The regions that overlap a range, as a slice."""
        first = bisect_right(self._regions, start, key=lambda region: region.end)
        return first, bisect_left(self._regions, end, key=lambda region: region.start)

    def _covered(self, base: int) -> bool:
        """True if all of 2 MiB is mapped: VMAs are merged, so by one for all that is known."""
        first, last = self._overlapping(base, base + PMD_SIZE)
        inside = self._regions[first:last]
        return sum(min(one.end, base + PMD_SIZE) - max(one.start, base) for one in inside) == PMD_SIZE

    def _access(self, at: int, length: int, step: int, write: bool) -> None:
        end = at + length
        while at < end:
            first, _ = self._overlapping(at, at + 1)
            if first == len(self._regions) or self._regions[first].start > at:
                return  # SIGSEGV
            region = self._regions[first]
            if not region.prot or (write and not region.prot & VM_WRITE):
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
                if write and region.huge and self._covered(base):
                    if slot not in self._written:
                        self._fill(slot)
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
            self._blocks_free += slot in self._whole and not has
            self._whole.discard(slot)
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


def geometry_for(insns: Sequence[Insn], files: Collection[int] = ()) -> Geometry:
    """A machine of one CPU in which the instructions, and one more that ends them, fit; `files`: pages of each file."""
    footprint = Footprint()
    program = iter(insns)
    for insn in program:
        if insn.op in (Op.FORK, Op.FORK_HOLD):
            footprint.fork(islice(program, insn.arg), insn.op == Op.FORK_HOLD)
        else:
            footprint.follow(insn)
    return Geometry(
        mms=1 + footprint.children,
        vmas=min(footprint.vmas, MAX_MAP_COUNT) + _SPARE_VMAS,
        insns=len(insns) + 1,
        records=max(1, len(insns)),
        frames=footprint.frames
        + min(footprint.file_pages, sum(files))
        + (footprint.blocks + 1) * bool(footprint.blocks) * (PMD_SIZE // PAGE_SIZE)
        + _SPARE_FRAMES,
        tables=footprint.tables + footprint.children + _SPARE_TABLES,
        files=len(files),
        file_pages=max(files, default=1),
    )
