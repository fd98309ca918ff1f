"""The kernel's own trace, as /sys/kernel/tracing/trace, trace_pipe, trace-cmd report or bpftrace's printf write it.

Source: kernel/trace/trace_output.c (trace_print_context, trace_print_lat_context), trace_syscalls.c, trace.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios.imports.account import Account
from scenarios.imports.calls import Event
from scenarios.imports.lines import Lines
from scenarios.imports.points import Points

_WHO = r"\s*(?P<comm>.{1,16}?)-(?P<tid>\d+)\s+(?:\( *(?P<group>\d+|-+)\)\s+)?"
_HEADS = tuple(
    re.compile(text)
    for text in (
        _WHO + r"\[\d+\]\s+(?:\S{3,8}\s+)?(?P<time>\d+(?:\.\d+)?):\s+(?P<rest>\S.*)$",
        _WHO + r"\d+[^\s\d]\S{2,7}\s+(?P<time>\d+)(?P<unit>us)?.?\s*: (?P<rest>\S.*)$",  # latency-format
        _WHO + r"\d+[^\s\d]\S{2,7}\s+(?P<time>\d+\.\d+):\s+(?P<rest>\S.*)$",  # trace-cmd report -l
        r"\s*(?P<comm>\S.{0,15}?)\s+(?P<tid>\d+)(?P<group>)\s+\d+\s+\S+\s+[0-9a-f]{8}\s+[0-9a-f]{8}\s+\[[0-9a-f]+\]\s+"
        r"(?P<time>\d+\.\d+)(?P<unit>ms)\s+\(\+[\d.]+ms\):\s+(?P<rest>\S.*)$",  # and verbose
    )
)
_UNITS = {"us": 1e-6, "ms": 1e-3}
_NANOSECONDS = 10**9  # a whole number that is larger; others are a counter's
_ENTER = re.compile(r"sys_(\w+)\((.*)\)\s*$")
_EXIT = re.compile(r"sys_(\w+) -> (0x[0-9a-f]+|-?\d+)")
_OPERAND = re.compile(r"(^|, )(?:[\w *]*[ *])?(\w+): (?:0x)?([0-9a-f]+)\b")  # const char * filename: 0x1000
_EVENT = re.compile(r"(?:[a-z_]+:)?(\w+):\s*(.*)$")
_LOST = re.compile(r"(?:CPU:?\s*\d+ \[(?:LOST )?|Lost )(\d+)? ?events(?: dropped\]|\]|$)", re.I)
_WRITTEN = re.compile(r"# (?:entries-in-buffer/entries-written: |latency: \d+ us, #)(\d+)/(\d+)")
_BESIDE = re.compile(
    r"\s*(?:=>|<(?:user )?stack trace>|cpus=\d+$|version = |CPU \d+ is empty|trace-cmd|-{3,}|Attaching \d+ probe)"
)


WITHOUT_TASKS = "the kernel's trace without tasks: set the options context-info, noraw, nohex and nobin"


def is_without_tasks(lines: list[str]) -> bool:
    """True if the lines are the kernel's, and no line says what is to be known."""
    return lines[:1] != [] and lines[0].startswith("# tracer:")


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like those of the kernel's trace."""
    return any(_head(line) for line in lines if not line.startswith("#"))


def _head(line: str) -> re.Match[str] | None:
    """What stands before an event, in whichever format."""
    return next((found for head in _HEADS if (found := head.match(line))), None)


class Ftrace(Points):
    """The lines of one file."""

    def __init__(self, lines: Lines, account: Account) -> None:
        super().__init__(lines, account)
        self._format = _HEADS[0]

    def _comment(self, line: str) -> None:
        """What the header says of events that had no room."""
        if found := _WRITTEN.match(line):
            self._account.lost += max(0, int(found[2]) - int(found[1]))

    def _read(self, line: str) -> Iterator[Event]:
        found = self._format.match(line) or _head(line)
        if found is None:
            if lost := _LOST.match(line):
                self._account.lost += int(lost[1] or 1)
            elif not _BESIDE.match(line):
                self._refuse(line)
            return
        self._format = found.re
        tid, group = int(found["tid"]), int(found["group"]) if (found["group"] or "-").isdecimal() else 0
        time, rest = self._time(found), found["rest"]
        if call := _ENTER.match(rest):
            yield from self._point(time, tid, group, f"sys_enter_{call[1]}", _OPERAND.sub(r"\1\2: 0x\3", call[2]))
        elif call := _EXIT.match(rest):
            yield from self._point(time, tid, group, f"sys_exit_{call[1]}", call[2])
        elif event := _EVENT.match(rest):
            yield from self._point(time, tid, group, event[1], event[2])
        else:
            self._account.others["an event without operands"] += 1

    @staticmethod
    def _time(found: re.Match[str]) -> float:
        """Seconds by some clock: stamps without a unit and a point are nanoseconds, or count events."""
        text, unit = found["time"], found.groupdict().get("unit")
        if unit or "." in text:
            return float(text) * _UNITS.get(unit or "", 1.0)
        return int(text) / (1e9 if int(text) > _NANOSECONDS else 1e6)
