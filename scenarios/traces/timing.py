"""Which CPU does what of a trace, if each of its threads has one, and for which others each of them waits.

`on T BEGIN END` says when a thread began an operation and when it had ended. Under the timing `program` an operation
waits for those lines above it, of other threads, that had ended when it began. So what took turns takes turns, and
what overlapped races. Under `free` nobody waits for anybody. What a child does is done by the CPU that forked it.
"""

from __future__ import annotations

from scenarios.traces.trace import Operation, Trace
from workers.programs.program import POST, STOP, Insn, follow

TIMINGS = ("program", "free")
_EVER = float("inf")


class _Thread:
    """What one CPU does: the rows of the trace, when each had ended, and how far the other CPUs have come for it."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ends: list[float] = []
        self.known: dict[int, int] = {}  # CPU -> how many of its operations have ended before the next of this one
        self.posts: set[int] = set()  # those operations of its own that somebody waits for

    def ended(self, begin: float, known: int) -> int:
        """How many of its operations have to be over at a time; `known` of them are."""
        count = len(self.ends)
        while count > known and self.ends[count - 1] > begin:
            count -= 1
        return count


def threads_of(trace: Trace) -> list[int]:
    """The threads that have lines; 0 does those without `on`."""
    return sorted({0, *(one.when.thread for one in trace.operations if one.when is not None)})


def programs(trace: Trace, timing: str | None) -> list[list[Insn]]:
    """The program of each CPU, one for each of the threads; of one CPU for all if there is no `timing` (TIMINGS)."""
    if timing is None:
        return [[*trace.program(), STOP]]
    cpus = {number: cpu for cpu, number in enumerate(threads_of(trace))}
    threads = [_Thread() for _ in cpus]
    waits: dict[int, list[tuple[int, int]]] = {}  # row -> CPUs, and how many of their operations it waits for
    for row, operation in enumerate(trace.operations):
        when = operation.when
        cpu, begin, end = (cpus[when.thread], when.begin, when.end) if when else (0, _EVER, -_EVER)
        own = threads[cpu]
        for other, thread in enumerate(threads):
            known = own.known.get(other, 0)
            if timing == "program" and other != cpu and (count := thread.ended(begin, known)) > known:
                own.known[other] = count
                thread.posts.add(count - 1)
                waits.setdefault(row, []).append((other, count))
        own.rows.append(row)
        own.ends.append(end)
    ranks = [_ranks(thread) for thread in threads]
    return [_program(trace.operations, thread, waits, ranks) for thread in threads]


def _ranks(thread: _Thread) -> dict[int, int]:
    """For so many operations of a thread how many posts it has made."""
    return {index + 1: rank for rank, index in enumerate(sorted(thread.posts), 1)}


def _program(
    operations: list[Operation], thread: _Thread, waits: dict[int, list[tuple[int, int]]], ranks: list[dict[int, int]]
) -> list[Insn]:
    """The instructions of one CPU."""
    insns: list[Insn] = []
    for index, row in enumerate(thread.rows):
        insns += [follow(other, ranks[other][count]) for other, count in waits.get(row, ())]
        first, *rest = operations[row].insns
        insns += [first._replace(record=row), *rest]
        if index in thread.posts:
            insns.append(POST)
    return [*insns, STOP]
