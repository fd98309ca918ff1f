"""The mappings of one process, followed call by call, as /proc/PID/maps would list them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

PAGE = 4096
TOP = 1 << 47


def page_up(value: int) -> int:
    """The next multiple of the page size."""
    return value + PAGE - 1 & -PAGE


class Mapping(NamedTuple):
    """A mapped range: `prot` in bits, `file` what it maps ("" is anonymous memory), `offset` where in it, in bytes.

    `lazy`: no page of it is assumed to be touched when it is mapped. `left_out`: the trace has no word for it.
    """

    start: int
    end: int
    prot: int
    shared: bool = False
    file: str = ""
    offset: int = 0
    lazy: bool = False
    left_out: bool = False

    def cut(self, start: int, end: int) -> Mapping:
        """The part in a range that overlaps it."""
        low, high = max(start, self.start), min(end, self.end)
        return Mapping(
            low, high, self.prot, self.shared, self.file, self.offset + low - self.start, self.lazy, self.left_out
        )

    def moved(self, start: int, end: int) -> Mapping:
        """The same mapping at another place."""
        return Mapping(start, end, self.prot, self.shared, self.file, self.offset, self.lazy, self.left_out)

    def joins(self, other: Mapping) -> bool:
        """True if the kernel may have made one of this and the next."""
        return (
            self.end == other.start
            and self.prot == other.prot
            and self.shared == other.shared
            and self.file == other.file
            and (not self.file or self.offset + self.end - self.start == other.offset)
        )


class Space:
    """The mappings of a process, by address; none overlaps another, and none is merged."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._found: list[Mapping] = []

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def copy(self) -> Space:
        """What a child begins with."""
        child = Space()
        child._starts, child._found = self._starts[:], self._found[:]
        return child

    def _slice(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start)
        if first and self._found[first - 1].end > start:
            first -= 1
        return first, bisect_left(self._starts, end, first)

    def at(self, address: int) -> Mapping | None:
        """The mapping of an address."""
        row = bisect_right(self._starts, address) - 1
        return self._found[row] if row >= 0 and self._found[row].end > address else None

    def around(self, start: int, end: int) -> Mapping | None:
        """The mapping that has all of a range, if one has."""
        row = bisect_right(self._starts, start)
        if not row:
            return None
        found = self._found[row - 1]
        return found if end <= found.end else None

    def within(self, start: int, end: int) -> list[Mapping]:
        """The parts of mappings in a range."""
        first, last = self._slice(start, end)
        if last - first == 1:
            one = self._found[first]
            return [one if one.start >= start and one.end <= end else one.cut(start, end)]
        return [one.cut(start, end) for one in self._found[first:last]]

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a range that nothing maps."""
        holes = []
        for one in self.within(start, end):
            if one.start > start:
                holes.append((start, one.start))
            start = one.end
        return [*holes, (start, end)] if start < end else holes

    def replace(self, start: int, end: int, new: list[Mapping]) -> None:
        """Put some mappings in the place of what there is in a range."""
        starts, found = self._starts, self._found
        first = bisect_right(starts, start)
        if first and found[first - 1].end > start:
            first -= 1
        last = bisect_left(starts, end, first)
        if first < last:
            left, right = found[first], found[last - 1]
            if left.start < start:
                new = [left.cut(left.start, start), *new]
            if right.end > end:
                new = [*new, right.cut(end, right.end)]
        if not new:
            del found[first:last], starts[first:last]
        elif first == last and len(new) == 1:
            found.insert(first, new[0])
            starts.insert(first, start)
        else:
            found[first:last] = new
            starts[first:last] = [one.start for one in new]

    def grow(self, new: Mapping) -> None:
        """Enter a mapping, as a part of the one that ends where it begins if that is alike."""
        starts, found = self._starts, self._found
        row = bisect_right(starts, new.start)
        last = found[row - 1] if row else new
        if last.end != new.start or last.prot != new.prot or last.file or last.shared:
            self.replace(new.start, new.end, [new])
        elif row == len(starts) or starts[row] >= new.end:
            found[row - 1] = last.moved(last.start, new.end)
        else:
            self.replace(last.start, new.end, [last.moved(last.start, new.end)])

    def protect(self, start: int, end: int, prot: int) -> list[Mapping]:
        """Give a range another protection; the parts as they were."""
        parts = self.within(start, end)
        if all(one.prot == prot for one in parts):
            return parts
        new = [Mapping(one.start, one.end, prot, *one[3:]) for one in parts]
        first = 0
        for row in range(1, len(new) + 1):  # runs without a hole
            if row == len(new) or new[row].start != new[row - 1].end:
                self.replace(new[first].start, new[row - 1].end, new[first:row])
                first = row
        return parts

    def merged(self) -> list[Mapping]:
        """The mappings, neighbours that are alike as one."""
        found: list[Mapping] = []
        for one in self._found:
            if found and found[-1].joins(one):
                last = found[-1]
                found[-1] = Mapping(last.start, one.end, *last[2:])
            else:
                found.append(one)
        return found

    def runs(self) -> list[tuple[int, int]]:
        """The ranges that something maps, without regard to what."""
        runs: list[tuple[int, int]] = []
        for one in self._found:
            if runs and runs[-1][1] == one.start:
                runs[-1] = (runs[-1][0], one.end)
            else:
                runs.append((one.start, one.end))
        return runs
