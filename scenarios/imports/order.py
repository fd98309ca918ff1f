"""In which order calls change one range of a memory, whose intervals overlap.

The kernel has put a mapping where another was gone by then, so the calls took turns there, although their intervals
overlap. One of them begins in the trace when the other has ended. Calls that change different ranges keep theirs.
"""

from __future__ import annotations

from collections import deque

from scenarios.imports.writer import Writer

_KEPT = 16  # changes that are remembered one by one


class Order:
    """The latest changes of one memory. A munmap is held until it returns or somebody maps what it has unmapped."""

    def __init__(self, writer: Writer, who: str) -> None:
        self._writer, self._who = writer, who
        self._changed: deque[tuple[int, int, int]] = deque()  # start, end, when it had ended
        self._latest = 0  # when the last of them had
        self._floor = 0  # when the last of those before them had
        self._leaving: dict[int, tuple[int, int, int, int]] = {}  # task -> start, end, its thread, when it began
        self.freeing: dict[int, tuple[int, int]] = {}  # task -> the range that its call will have freed: mremap, shmdt

    def change(self, start: int, end: int) -> None:
        """The line that comes next changes a range: it begins when all that changed it have ended."""
        when = self._writer.when
        if when is None:
            return
        thread, begin, now = when
        for task in [task for task, (low, high, *_) in self._leaving.items() if low < end and start < high]:
            self.left(task)
        if begin < self._latest:
            begin = max([begin, self._floor, *(at for low, high, at in self._changed if low < end and start < high)])
            self._writer.when = thread, min(begin, now), now
        self._latest = max(self._latest, now)
        self._changed.append((start, end, now))
        if len(self._changed) > _KEPT:
            self._floor = max(self._floor, self._changed.popleft()[2])

    def leave(self, task: int, start: int, end: int) -> None:
        """A task begins to unmap a range: others may map there from now on."""
        when = self._writer.when
        if when is None:
            self._writer.unmap(self._who, start, end)
        else:
            self._leaving[task] = start, end, when[0], when[1]

    def freed_by(self, start: int, end: int) -> int | None:
        """The task whose call has freed a part of a range, although it has not returned."""
        return next((task for task, (low, high) in self.freeing.items() if low < end and start < high), None)

    def left(self, task: int) -> None:
        """A task has unmapped its range: now, or before something that happens now."""
        if task in self._leaving:
            start, end, thread, begin = self._leaving.pop(task)
            when = self._writer.when
            now = begin if when is None else max(begin, when[2])
            self._writer.when = thread, begin, now
            self.change(start, end)
            self._writer.unmap(self._who, start, end)
            self._writer.when = when

    def settle(self) -> None:
        """What comes next concerns all of the memory, and takes turns with every change of it."""
        for task in list(self._leaving):
            self.left(task)
        if self._writer.when is not None:
            self._floor = self._latest = max(self._latest, self._writer.when[2])
