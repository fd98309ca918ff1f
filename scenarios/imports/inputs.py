"""Which tool wrote a file, and the events of several files in the order of their times."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator

from scenarios.imports import apart, ftrace, perf_script, perf_trace, snapshot, strace, syzkaller
from scenarios.imports.account import Account
from scenarios.imports.calls import CREATES, SNAPSHOT, Event
from scenarios.imports.lines import Lines, Unreadable

_KNOWN = "known: strace, perf trace, perf script, the kernel's trace, /proc/PID/maps and smaps, syzkaller programs"
_BINARY = 10  # one character in so many is none: perf.data, a core, not a log with strange strings
_TOGETHER = 86400.0  # seconds: clocks that are further apart are not the same


class Inputs:
    """The files that were given, opened, each with the tool that wrote it. Raises Unreadable."""

    def __init__(self, names: Iterable[str], account: Account) -> None:
        self._account = account
        self.files: list[tuple[str, Lines]] = []
        for name in names:
            try:
                self.files.append(("", Lines(name)))
                self.files[-1] = (_kind(self.files[-1][1]), self.files[-1][1])
            except Unreadable:
                self.close()
                raise

    def close(self) -> None:
        """Give all files up."""
        for _, lines in self.files:
            lines.close()

    @property
    def share(self) -> float:
        """How much has been read: 0 to 1."""
        return sum(lines.share for _, lines in self.files) / len(self.files)

    def problems(self) -> list[str]:
        """What ended files early."""
        return [lines.problem for _, lines in self.files if lines.problem]

    def has(self, *kinds: str) -> bool:
        """True if a file is of some kinds."""
        return any(kind in kinds for kind, _ in self.files)

    def events(self) -> Iterator[Event]:
        """All events: snapshots where they stand among the other files, the others by time if they have one clock."""
        run: list[tuple[str, Lines]] = []
        waiting: snapshot.Snapshot | None = None
        for kind, lines in [*self.files, ("end", None)]:
            if kind == "snapshot" and lines is not None:
                yield from self._merged(run)
                run = []
                for found in snapshot.read(lines, self._account):
                    if waiting is not None and waiting.pid not in (0, found.pid) and found.pid:
                        yield _snapshot(waiting)
                        waiting = None
                    waiting = found if waiting is None else _both(waiting, found)
                continue
            if waiting is not None:
                yield _snapshot(waiting)
                waiting = None
            if lines is not None:
                run.append((kind, lines))
        yield from self._merged(run)

    def _merged(self, run: list[tuple[str, Lines]]) -> Iterator[Event]:
        if len(run) < 2:
            for kind, lines in run:
                yield from apart.read(iter(self._reader(kind, lines, False)), lines, self._account)
            return
        streams = [_peeked(iter(self._reader(kind, lines, True))) for kind, lines in run]
        begins = [first.time for first, _ in streams if first is not None]
        times = [time for time in begins if time is not None]
        if begins and len(times) == len(begins) and max(times) - min(times) < _TOGETHER:
            keyed = [_by_time(events) for _, events in streams]
            for _, _, event in heapq.merge(*(_numbered(i, events) for i, events in enumerate(keyed))):
                yield event
            return
        self._account.note("the files have no common clock: one is taken after the other, a task's where it is made")
        tasks = [_task(kind, lines) for kind, lines in run]
        yield from _one_after_the_other([(task, events) for task, (_, events) in zip(tasks, streams, strict=True)])

    def _reader(self, kind: str, lines: Lines, several: bool) -> Iterable[Event]:
        if kind == "strace":
            return strace.Strace(lines, self._account, _task(kind, lines) if several else 0, several)
        readers: dict[str, Callable[[Lines, Account], Iterable[Event]]] = {
            "perf trace": perf_trace.PerfTrace,
            "perf script": perf_script.PerfScript,
            "ftrace": ftrace.Ftrace,
            "syzkaller": syzkaller.Syzkaller,
        }
        return readers[kind](lines, self._account)


def _kind(lines: Lines) -> str:
    """Which tool wrote a file. Raises Unreadable."""
    sample = lines.sample()
    if sample and sample[0].startswith("PERFILE2"):
        raise Unreadable(f"{lines.name}: what perf record writes; give the output of perf script -i {lines.name}")
    if ftrace.is_without_tasks(sample) and not ftrace.looks_like(sample):
        raise Unreadable(f"{lines.name}: {ftrace.WITHOUT_TASKS}")
    strange = sum(line.count("\0") + line.count("\ufffd") for line in sample)
    if strange > sum(map(len, sample)) // _BINARY:
        raise Unreadable(f"{lines.name}: binary data of an unknown tool; {_KNOWN}")
    tests = {
        "snapshot": snapshot.looks_like,
        "perf trace": perf_trace.looks_like,
        "syzkaller": syzkaller.looks_like,
        "ftrace": ftrace.looks_like,
        "strace": strace.looks_like,
        "perf script": perf_script.looks_like,
    }
    for kind, test in tests.items():
        if test(sample):
            return kind
    if lines.problem:
        raise Unreadable(lines.problem)
    if not any(sample):
        raise Unreadable(f"{lines.name}: empty")
    if strace.is_summary(sample):
        raise Unreadable(f"{lines.name}: {strace.SUMMARY_ONLY}")
    raise Unreadable(f"{lines.name}: of an unknown tool; {_KNOWN}")


def _task(kind: str, lines: Lines) -> int:
    """The task that a file of strace -ff is of, 0 if it is none."""
    suffix = re.search(r"\.(\d+)(?:\.(?:gz|xz|bz2))?$", lines.name) if kind == "strace" else None
    return int(suffix[1]) if suffix else 0


def _one_after_the_other(streams: list[tuple[int, Iterator[Event]]]) -> Iterator[Event]:
    """All of each stream, that of a task where the task is made."""
    waiting = dict(enumerate(streams))
    going: list[Iterator[Event]] = []
    while going or waiting:
        if not going:
            first = min(waiting, key=lambda at: waiting[at][0])  # a task is older than those it makes
            going.append(waiting.pop(first)[1])
        event = next(going[-1], None)
        if event is None:
            going.pop()
            continue
        yield event
        if event.name in CREATES and event.result:
            child = next((at for at, (task, _) in waiting.items() if task == event.result), None)
            if child is not None:
                going.append(waiting.pop(child)[1])


def _snapshot(found: snapshot.Snapshot) -> Event:
    return Event(SNAPSHOT, "", 0, None, found.pid, snapshot=found)


def _both(first: snapshot.Snapshot, second: snapshot.Snapshot) -> snapshot.Snapshot:
    """Two files of one moment: smaps says more than maps, pagemap says something else."""
    more = second.mappings if len(second.mappings) and second.mappings[0].rss >= 0 else first.mappings
    return snapshot.Snapshot(first.pid or second.pid, more or second.mappings, first.pages + second.pages)


def _peeked(events: Iterator[Event]) -> tuple[Event | None, Iterator[Event]]:
    """The first event, and all of them."""
    first = next(events, None)

    def all_of_them() -> Iterator[Event]:
        if first is not None:
            yield first
        yield from events

    return first, all_of_them()


def _by_time(events: Iterable[Event]) -> Iterator[tuple[float, Event]]:
    """Each event with its time, or that of the one before it."""
    now = 0.0
    for event in events:
        now = max(now, event.time if event.time is not None else now)
        yield now, event


def _numbered(number: int, events: Iterable[tuple[float, Event]]) -> Iterator[tuple[float, tuple[int, int], Event]]:
    """Each with a number that no other has, so that no two are equal."""
    for i, (time, event) in enumerate(events):
        yield time, (number, i), event
