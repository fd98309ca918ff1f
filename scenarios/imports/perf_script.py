"""The text of `perf script`: tracepoints, samples of page-faults, and perf's own records of tasks and mappings.

Source: tools/perf/builtin-script.c of Linux 4.x to 6.x, as it writes; -F leaves fields out, and cannot reorder them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from scenarios.imports.account import Account
from scenarios.imports.calls import CALL, GONE, MAPPED, Event
from scenarios.imports.lines import Lines
from scenarios.imports.points import POINT, Points
from scenarios.imports.snapshot import Line, protection

_HEAD = re.compile(
    r"\s*(?:(\S.*?)\s+)?(\d+)(?:/(\d+))?\s+(?:\[(\d+)\]\s+)?"  # comm, pid, tid, cpu
    r"(?:[A-Za-z]{1,3}\s+|[^\s\d]\S{3,5}\s+)?(\d+\.\d+):\s+(?:\d+\s+)?(\S.*)$"  # misc or flags, time, period
)
_KNOWN = r"(?:(?:exceptions|syscalls|raw_syscalls|sched|task):\w+:|(?:(?:page|minor|major)-)?faults:|PERF_RECORD_)"
_SAYS_WHAT = re.compile(rf"\d\s+(?:{_KNOWN}|[0-9a-f]{{4,16}}\s*$)")
_TIMELESS = re.compile(
    r"\s*(?:(\S.*?)\s+)?(\d+)(?:/(\d+))?\s+(?:\[(\d+)\]\s+)?()(?:\d+\s+)?"
    rf"({_KNOWN}.*|(?<=\s\s)[0-9a-f]{{4,16}}\s*)$"
)
_BESIDE = re.compile(r"\s+[0-9a-f]+ \S|  \S+:\d+$|\s*\.|0x[0-9a-f]+(?:@\S+)? \[|\s*\d+ \d+ 0x")  # chains, -D
_CHAIN = re.compile(r"\s+[0-9a-f]+ \S")
_RECORD = re.compile(r"PERF_RECORD_(\w+)")
_FORK = re.compile(r"PERF_RECORD_FORK\((\d+):(\d+)\):\((\d+):(\d+)\)")
_EXEC = re.compile(r"PERF_RECORD_COMM exec: .*:\d+/(\d+)$")
_MMAP = re.compile(
    r"PERF_RECORD_MMAP2? (-?\d+)/(\d+): \[(0x[0-9a-f]+)\((0x[0-9a-f]+)\) @ (?:0x)?([0-9a-f]+)"
    r"(?: [0-9a-f]+:[0-9a-f]+ (\d+) \d+| <[^>]*>)?\]: (?:([-r][-w][-x])([ps]) |x )(.*)$"
)
_HEXADECIMAL = re.compile(r"([0-9a-f]{4,16})(?: |$)")
_SECOND = re.compile(r"\s[0-9a-f]{4,16}(?: |$)")
_SAMPLES = ("page-faults", "faults", "minor-faults", "major-faults")
_WITHOUT = "a page fault without its address (perf script -F +addr)"
_BACKWARDS = 0.05  # a share of steps back that no sorted log has: stamps are since the line before


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like those of perf script."""
    return any(_head(line) for line in lines if not line.startswith("#"))


def _head(line: str) -> re.Match[str] | None:
    """What stands before an event, though there is no time."""
    return _HEAD.match(line) or (_TIMELESS.match(line) if _SAYS_WHAT.search(line) else None)


class PerfScript(Points):
    """The lines of one file."""

    def __init__(self, lines: Lines, account: Account) -> None:
        super().__init__(lines, account)
        self._sample: Event | None = None  # with one address, of the page or of the instruction: the next line says
        self._now: float | None = 0.0 if _relative(lines.sample()) else None

    def __iter__(self) -> Iterator[Event]:
        """The events of the file."""
        yield from super().__iter__()
        self._without_address()

    def _without_address(self) -> None:
        """The address of the last sample was its instruction's."""
        if self._sample is not None:
            self._account.leave_out(_WITHOUT, self._sample.where)
            self._sample = None

    def _read(self, line: str) -> Iterator[Event]:
        if self._sample is not None and _CHAIN.match(line):  # instructions are below it
            yield self._sample
            self._sample = None
        found = _head(line)
        if found is None:
            if not _BESIDE.match(line):
                self._refuse(line)
            return
        self._without_address()
        pid, second, time, rest = int(found[2]), found[3], self._time(found[5]), found[6]
        tid = int(second) if second else pid
        group = pid if second else self._groups.get(tid, 0)
        if _RECORD.match(rest):
            yield from self._record(time, rest)
            return
        if plain := _HEXADECIMAL.match(rest):  # -F pid,tid,time,addr
            yield self._fault(time, tid, group, plain[1], "")
            return
        event = POINT.match(rest)
        if event is None:
            self._refuse(line)
            return
        system, name, text = event.groups()
        if name in _SAMPLES or system in _SAMPLES:  # page-faults:u:
            yield from self._sampled(time, tid, group, text)
        else:
            yield from self._point(time, tid, group, name, text)

    def _time(self, stamp: str) -> float | None:
        if not stamp or self._now is None:
            return float(stamp) if stamp else None
        self._now += float(stamp)
        return self._now

    def _sampled(self, time: float | None, tid: int, group: int, text: str) -> Iterator[Event]:
        """A sample of page-faults: an address alone, or one before that of the instruction."""
        address = _HEXADECIMAL.match(text)
        if address is None:
            self._account.leave_out(_WITHOUT, self._where)
            return
        fault = self._fault(time, tid, group, address[1], "")
        if not text[address.end() :].strip() or _SECOND.search(text, address.end() - 1):
            yield fault
        else:
            self._sample = fault

    def _mapped(self, time: float | None, found: re.Match[str]) -> Iterator[Event]:
        """A mapping that perf saw being made: by exec, unless the task is in a call that says it, too."""
        group, tid, start, length, offset, inode, prot, sharing, name = found.groups()
        if self._open.get(int(tid), ("",))[0] in ("mmap", "brk", "mremap", "shmat", "mprotect"):
            self._account.understood += 1
            return
        named = inode not in (None, "0")
        line = Line(
            int(start, 16),
            int(start, 16) + int(length, 16),
            protection(prot or "r-x"),
            sharing == "s",
            int(offset, 16) if named else 0,
            int(inode or 0),
            name,
        )
        yield self._event(MAPPED, time, int(tid), "a mapping", {"mapping": line}, group=int(group))

    def _record(self, time: float | None, text: str) -> Iterator[Event]:
        """perf's own records, of --show-task-events."""
        if found := _FORK.match(text):
            group, tid, parent_group, parent = map(int, found.groups())
            self._groups[tid] = group
            if tid not in self._flags:
                self._flags[tid] = ""
                flags = "VM|THREAD" if group == parent_group else "0"
                yield self._created(time, parent, tid, flags)
        elif text.startswith("PERF_RECORD_EXIT("):
            tid = int(re.findall(r"\d+", text)[1])
            yield self._event(GONE, time, tid, "", {})
        elif found := _EXEC.match(text):
            self._executed.add(int(found[1]))
            yield self._event(CALL, time, int(found[1]), "execve", {}, result=0)
        elif (found := _MMAP.match(text)) and int(found[2]) > 0:
            yield from self._mapped(time, found)
        else:
            self._account.others["a record of perf's"] += 1


def _relative(sample: list[str]) -> bool:
    """True if stamps are those of --deltatime: perf sorts all others."""
    times = [float(found[5]) for line in sample if (found := _HEAD.match(line))]
    back = sum(after < before for before, after in pairwise(times))
    return back > _BACKWARDS * len(times)
