"""Watches an explored execution access by access: what, by which task, from where in the kernels, old value and new."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType, FunctionType

from emulator.engines.access_log import (
    ADD,
    BLOCKED,
    COUNT_BIT,
    COUNT_MASK,
    ISSUE,
    KIND_BIT,
    KIND_MASK,
    LOOK,
    MB,
    READ,
    TASK_BIT,
    WMB,
    WORD_MASK,
)
from emulator.engines.explore import World
from workers.telling.access import Access

_ENGINES = str(Path(__file__).resolve().parents[2] / "emulator" / "engines")
_KERNELS = str(Path(__file__).resolve().parents[2] / "emulator")
_QUEUE: tuple[str, ...] = ("load queue -",)
_NAMES = {"__getitem__": "plain load", "__setitem__": "plain store"}


def kernel_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the kernels above an access, innermost first."""
    while frame is not None and not _is_kernel(frame.f_code):
        frame = frame.f_back
    while frame is not None and _is_kernel(frame.f_code):
        yield frame
        frame = frame.f_back


def _is_kernel(code: CodeType) -> bool:
    return code.co_filename.startswith(_KERNELS) and not code.co_filename.startswith(_ENGINES)


def kernel_functions() -> set[str]:
    """The names of all kernel functions that are loaded."""
    modules = [module for name, module in sys.modules.items() if name.startswith("emulator.")]
    functions = [one for module in modules for one in vars(module).values() if isinstance(one, FunctionType)]
    names = {function.__name__ for function in functions if _is_kernel(function.__code__)}
    return {name for name in names if name[0].islower()}


class Words:
    """The names of a world's words."""

    def __init__(self, world: World) -> None:
        self._fields = world.fields
        self._bases = [field.base for field in world.fields]

    def name(self, word: int) -> tuple[str, int]:
        """The field and the index of a word."""
        field = self._fields[bisect_right(self._bases, word) - 1]
        return field.name, word - field.base


class Tracer:
    """Takes the place of a world's log while one execution runs; `accesses` is what it saw.

    `instruction(task)` is what a task executes at the moment.
    """

    def __init__(self, world: World, instruction: Callable[[int], str]) -> None:
        self.world, self.instruction = world, instruction
        self.words = Words(world)
        self.accesses: list[Access] = []
        self.places: list[int] = []  # of each access, in the log
        self._open = -1  # the word of the latest access, whose new value is not there yet
        self._issued: dict[tuple[int, int], deque[Access]] = defaultdict(deque)  # by CPU and word

    def __enter__(self) -> Tracer:
        self.world.append = self.append
        return self

    def __exit__(self, *exc: object) -> None:
        self.finish()
        self.world.append = self.world.log.append

    def append(self, entry: int) -> None:
        """An entry of the log: the access is about to happen."""
        self.finish()
        self.world.log.append(entry)
        kind = entry & KIND_MASK << KIND_BIT
        if kind >= BLOCKED or entry & ~(-1 << TASK_BIT) == LOOK:
            return
        task, word = self.world.tasks[entry >> TASK_BIT], entry & WORD_MASK
        length = (entry >> COUNT_BIT & COUNT_MASK) + 1
        field, index = ("", 0) if kind in (MB, WMB) else self.words.name(word)
        if task.green is None and kind == READ:
            op, function, source, callers = "load", "load queue", "-", _QUEUE
        elif task.green is None:
            made = self._issued[task.owner, word].popleft()
            op, function, source, callers = "commit", made.function, made.source, made.callers
        else:
            op, function, source, callers = self._from()
            if kind == ISSUE:
                op = "issue"
            elif kind == LOOK:
                op = "load"
        access = Access(
            step=len(self.accesses),
            task=task.owner,
            op=op,
            field=field,
            index=index,
            length=length,
            old=int(self.world.mem[word]),
            new=int(self.world.mem[word]),
            function=function,
            source=source,
            callers=callers,
            instruction=self.instruction(task.owner),
        )
        if op == "issue":
            self._issued[task.owner, word].append(access)
        self.places.append(len(self.world.log) - 1)
        self.accesses.append(access)
        self._open = word

    def finish(self) -> None:
        """The latest access has happened: its new value is in memory, or in the store buffer."""
        if self._open >= 0:
            access, new = self.accesses[-1], self.world.mem[self._open]
            if access.op == "issue":
                stores = self.world.buffers.pending[access.task]
                store = next(store for store in reversed(stores) if store.word == self._open)
                new = store.number + (new if store.kind == ADD else 0)
            self.accesses[-1] = replace(access, new=int(new))
        self._open = -1

    @staticmethod
    def _from() -> tuple[str, str, str, tuple[str, ...]]:
        """The primitive, the kernel that called it, where, and its callers."""
        frame: FrameType | None = sys._getframe(2)
        op = "body"
        while frame is not None and frame.f_code.co_filename.startswith(_ENGINES):
            op = frame.f_code.co_name
            frame = frame.f_back
        callers = [(f.f_code.co_name, f"{Path(f.f_code.co_filename).name}:{f.f_lineno}") for f in kernel_frames(frame)]
        if not callers:
            callers = [("body", "-")]
        function, source = callers[0]
        return _NAMES.get(op, op), function, source, tuple(f"{name} {at}" for name, at in callers)
