"""What one process of a trace has mapped and populated, followed without running it, as sets of page numbers.

Where that would be long-winded it is rounded up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection
from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple, Protocol

from emulator.mm_types import MAX_MAP_COUNT, PAGE_SIZE
from emulator.pgtable_types import PGDIR_SHIFT, PMD_SHIFT, PMD_SIZE, PUD_SHIFT, TASK_SIZE
from emulator.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_LOCKED,
    MAP_POPULATE,
    MCL_CURRENT,
    MCL_FUTURE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    VM_ACCESS_FLAGS,
    VM_HUGEPAGE,
    VM_WRITE,
    Op,
)
from workers.programs.program import Insn

KEPT_AS_FLAGS = (
    *(MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE),
    *(MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK),
)
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


class Living(Protocol):
    """The processes that live: they are asked whether this is the most they have had."""

    file_pages: int
    file_blocks: int
    blocks_of_a_file: int

    def note(self) -> None:
        """Look."""


class Footprint:
    """What one process has mapped and populated so far."""

    def __init__(self, family: Living) -> None:
        self._family = family
        self.regions: list[_Region] = []
        self._written: dict[int, int] = {}  # 2 MiB slot -> a bit for each page with a frame
        self.tables: dict[int, set[int]] = {PMD_SHIFT: set(), PUD_SHIFT: set(), PGDIR_SHIFT: set()}
        self._whole: set[int] = set()  # slots that are huge pages, for all that is known
        self._blocks_free = 0
        self.frames = self.splits = self.blocks = 0
        self._locks = False  # something may be locked: what releases pages may fail
        self._future = False  # what is mapped is locked

    def copy(self) -> Footprint:
        """A child that begins with the same."""
        self._whole = set()
        child = Footprint(self._family)
        for name, value in vars(self).items():
            setattr(child, name, value if name == "_family" else deepcopy(value))
        child._future = False
        return child

    def follow(self, insn: Insn) -> None:
        """Take one instruction into account."""
        if not 0 <= insn.length <= TASK_SIZE:  # most calls fail; what is mapped there is what they may do
            insn = insn._replace(length=TASK_SIZE - insn.addr if insn.op in (Op.MADVISE, Op.MLOCK) else 0, step=0)
        end = insn.addr + -(-insn.length // PAGE_SIZE) * PAGE_SIZE
        step = 0 if insn.op == Op.MMAP else insn.step  # of mmap it says which file
        aligned = insn.addr % PAGE_SIZE == 0 and step % PAGE_SIZE == 0 and insn.addr < end <= TASK_SIZE
        if insn.op in (Op.TOUCH, Op.READ):
            self._access(insn.addr, insn.length, insn.step, insn.op == Op.TOUCH)
        elif insn.op == Op.MMAP and aligned:
            self._unmap(insn.addr, end)
            insort(
                self.regions,
                _Region(insn.addr, end, insn.arg & VM_ACCESS_FLAGS, insn.step != 0, huge=bool(insn.arg & VM_HUGEPAGE)),
            )
            self._locks = self._locks or bool(insn.more & MAP_LOCKED)
            if self._future or insn.more & (MAP_LOCKED | MAP_POPULATE):
                self._populate(insn.addr, end)
        elif insn.op == Op.MUNMAP and aligned:
            self._unmap(insn.addr, end)
        elif insn.op == Op.MUNMAP and insn.length:  # some calls fail, but each may split a VMA
            calls = range(insn.addr, insn.addr + insn.length, insn.step or insn.length)
            self.splits += min(len(calls), insn.length // PAGE_SIZE + 1)
            for at in calls if len(calls) <= MAX_MAP_COUNT else ():
                if at % PAGE_SIZE == 0:
                    self._unmap(at, min(-(-(at + calls.step) // PAGE_SIZE) * PAGE_SIZE, end))
        elif insn.op == Op.MADVISE and insn.length:
            self._advise(insn, end, aligned)
        elif insn.op == Op.MPROTECT and aligned:
            self._protect(insn.addr, end, insn.arg)
        elif insn.op == Op.MLOCK:
            self._locks, self.splits = True, self.splits + 2
            if insn.arg:
                self._populate(insn.addr & -PAGE_SIZE, -(-(insn.addr + insn.length) // PAGE_SIZE) * PAGE_SIZE)
        elif insn.op == Op.MREMAP and insn.addr % PAGE_SIZE == 0:
            self._resize(insn.addr, end, insn.addr + -(-insn.arg // PAGE_SIZE) * PAGE_SIZE)
        elif insn.op == Op.MREMAP_FIXED and aligned:
            self._move(insn.addr, end, insn.arg - insn.addr)
        else:
            self._follow_call(insn, end, aligned)
        self._family.note()

    def _follow_call(self, insn: Insn, end: int, aligned: bool) -> None:
        """The rarer calls."""
        if insn.op == Op.MREMAP_CALL:
            self._mremap(insn)
        elif insn.op == Op.MLOCKALL:
            self._future = bool(insn.arg & MCL_FUTURE)
            self._locks = self._locks or insn.arg != 0
            if insn.arg & MCL_CURRENT:
                self._populate(0, TASK_SIZE)
        elif insn.op == Op.MSEAL:
            self.splits += 2
        elif insn.op == Op.ACCESS_VM:
            self._access(insn.addr, insn.length, PAGE_SIZE, bool(insn.arg))
        elif insn.op == Op.UFFD_REGISTER or insn.op == Op.UFFD_UNREGISTER:
            self.splits += 2
        elif insn.op == Op.UFFD_WRITEPROTECT and aligned and insn.arg:
            self._add_tables(insn.addr, end)
        elif insn.op == Op.UFFD_COPY and aligned:
            self._access(insn.addr, insn.length, PAGE_SIZE, insn.arg != 0)
        elif insn.op == Op.UFFD_MOVE and aligned:
            self._access(insn.arg, insn.length, PAGE_SIZE, True)

    def _mremap(self, insn: Insn) -> None:
        """mremap with all its operands."""
        old, new = (-(-max(size, 0) // PAGE_SIZE) * PAGE_SIZE for size in (insn.length, insn.step))
        start, to = insn.addr, insn.more
        if start % PAGE_SIZE or to % PAGE_SIZE or not 0 < new <= TASK_SIZE - max(start, to):
            return
        if not insn.arg & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            self._resize(start, start + old, start + new)
            return
        self._unmap(to, to + new)
        if new < old:
            self._unmap(start + new, start + old)
        source = self._overlapping(start, start + 1)
        region = self.regions[source[0]] if source[0] < source[1] else None
        self._move(start, start + min(old, new), to - start, keep=bool(insn.arg & MREMAP_DONTUNMAP))
        if new > old and region is not None:
            insort(self.regions, region._replace(start=to + old, end=to + new))
            if self._locks:
                self._populate(to + old, to + new)

    def _advise(self, insn: Insn, end: int, aligned: bool) -> None:
        steps = -(-insn.length // insn.step) if insn.step else 1
        if insn.arg in (MADV_DONTNEED, MADV_DONTNEED_LOCKED) and aligned and not self._locks:
            self._release(insn.addr, end)
        elif insn.arg in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
            for at in range(insn.addr, end, insn.step or insn.length):  # each call goes as far as it can
                self._access(at, min(insn.step or insn.length, end - at), PAGE_SIZE, insn.arg == MADV_POPULATE_WRITE)
        elif insn.arg == MADV_GUARD_INSTALL:
            self._add_tables(insn.addr, end)
        elif insn.arg in KEPT_AS_FLAGS:
            self.splits += 2 * steps
        elif insn.arg in (MADV_HUGEPAGE, MADV_NOHUGEPAGE):
            self.splits += 2 * steps
            first, last = self._overlapping(insn.addr, end)
            for row in range(first, last if insn.arg == MADV_HUGEPAGE else first):
                self.regions[row] = self.regions[row]._replace(huge=True)
        elif insn.arg == MADV_COLLAPSE:
            for slot in _within(self.tables[PMD_SHIFT], PMD_SHIFT, insn.addr, end):
                self._fill(slot)
            first, last = self._overlapping(insn.addr, end)
            for region in self.regions[first:last]:
                if region.file:
                    most = (min(end, region.end) - max(insn.addr, region.start)) // PMD_SIZE
                    self._family.file_blocks += min(most, self._family.blocks_of_a_file)
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
        self.frames += PMD_SIZE // PAGE_SIZE - self._written.get(slot, 0).bit_count()
        self._written[slot] = _ALL_PAGES

    def _add_tables(self, start: int, end: int) -> None:
        """Tables for whatever is mapped in a range."""
        first, last = self._overlapping(start, end)
        for region in self.regions[first:last]:
            for shift, tables in self.tables.items():
                tables.update(range(max(start, region.start) >> shift, (min(end, region.end) - 1 >> shift) + 1))

    def _populate(self, start: int, end: int) -> None:
        """Fault in what mlock locks."""
        first, last = self._overlapping(start, end)
        for region in self.regions[first:last]:
            at = max(start, region.start)
            self._access(at, min(end, region.end) - at, PAGE_SIZE, bool(region.prot & VM_WRITE))

    def _protect(self, start: int, end: int, prot: int) -> None:
        """Split the regions of a range off, up to the first hole, with another protection."""
        first, last = self._overlapping(start, end)
        at = start
        self._whole = set()
        for region in self.regions[first:last]:
            if region.start > at:
                return
            inside = region._replace(start=max(at, region.start), end=min(end, region.end), prot=prot)
            parts = [region._replace(end=inside.start), inside, region._replace(start=inside.end)]
            row = self.regions.index(region)
            self.regions[row : row + 1] = [part for part in parts if part.start < part.end]
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
            insort(self.regions, self.regions[tail[0]]._replace(start=end, end=new_end))
            if self._locks:
                self._populate(end, new_end)

    def _move(self, start: int, end: int, offset: int, keep: bool = False) -> None:
        """mremap to another place; the tables of both exist for a while."""
        if -(end - start) < offset < end - start or not 0 <= start + offset <= TASK_SIZE - (end - start):
            return
        first, last = self._overlapping(start, end)
        if offset % PAGE_SIZE or first == last or self.regions[first].start > start:
            return
        self._whole = set()
        for region in self.regions[first:last]:
            at, until = max(start, region.start), min(end, region.end)
            self._unmap(at + offset, until + offset)
            insort(self.regions, region._replace(start=at + offset, end=until + offset))
            for slot in _within(self.tables[PMD_SHIFT], PMD_SHIFT, at, until):
                slot_start, slot_end = max(at, slot << PMD_SHIFT), min(until, slot + 1 << PMD_SHIFT)
                self._add_tables(slot_start + offset, slot_end + offset)
                self._move_written(slot, slot_start, slot_end, offset)
            self._family.note()
            if not keep:
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
                self.frames += 1  # and fewer when the source is unmapped

    def _overlapping(self, start: int, end: int) -> tuple[int, int]:
        """The regions that overlap a range, as a slice."""
        first = bisect_right(self.regions, start, key=lambda region: region.end)
        return first, bisect_left(self.regions, end, key=lambda region: region.start)

    def _covered(self, base: int) -> bool:
        """True if all of 2 MiB is mapped: VMAs are merged, so by one for all that is known."""
        first, last = self._overlapping(base, base + PMD_SIZE)
        inside = self.regions[first:last]
        return sum(min(one.end, base + PMD_SIZE) - max(one.start, base) for one in inside) == PMD_SIZE

    def _access(self, at: int, length: int, step: int, write: bool) -> None:
        end = at + length
        while at < end:
            first, _ = self._overlapping(at, at + 1)
            if first == len(self.regions) or self.regions[first].start > at:
                return  # SIGSEGV
            region = self.regions[first]
            if not region.prot or (write and not region.prot & VM_WRITE):
                return
            until = min(region.end, end)
            while at < until:
                slot = at >> PMD_SHIFT
                base = slot << PMD_SHIFT
                limit = min(until - base, PMD_SIZE)
                for shift, tables in self.tables.items():
                    tables.add(at >> shift)
                if region.file:
                    self._family.file_pages += _pages(at - base, limit, step).bit_count()
                if write and region.huge and self._covered(base):
                    if slot not in self._written:
                        self._fill(slot)
                if write:
                    had = self._written.get(slot, 0)
                    has = had | _pages(at - base, limit, step)
                    self._written[slot] = has
                    self.frames += has.bit_count() - had.bit_count()
                at += -(-(base + limit - at) // step) * step

    def _release(self, start: int, end: int) -> None:
        """Take the frames of a range away."""
        for slot in _within(self._written, PMD_SHIFT, start, end):
            base = slot << PMD_SHIFT
            had = self._written.pop(slot)
            has = had & ~_page_range(max(start - base, 0), min(end - base, PMD_SIZE))
            self._blocks_free += slot in self._whole and not has
            self._whole.discard(slot)
            self.frames += has.bit_count() - had.bit_count()
            if has:
                self._written[slot] = has

    def _unmap(self, start: int, end: int) -> None:
        """Take a range away, and the tables that no region needs any more."""
        self._release(start, end)
        first, last = self._overlapping(start, end)
        if first < last:
            left, right = self.regions[first], self.regions[last - 1]
            kept = [left._replace(end=start)] if left.start < start else []
            kept += [right._replace(start=end)] if right.end > end else []
            self.regions[first:last] = kept
        for shift, tables in self.tables.items():
            for index in _within(tables, shift, start, end):
                first, last = self._overlapping(index << shift, index + 1 << shift)
                if first == last:
                    tables.discard(index)
