"""strace's lines, in all its shapes: who, when, what; halves of calls put together.

Source: strace 4.x to 7.x, as they write; `ptelab import` reads -f, -ff, -t, -tt, -ttt, -r, -T, -y, -Y, -i, -n, -k,
-X raw, -X verbose, --arg-names and colours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios.imports.account import Account
from scenarios.imports.calls import (
    CALL,
    CREATES,
    ENTER,
    GONE,
    NOT_MODELLED,
    PARAMETERS,
    RANGED,
    WITHOUT_EFFECT,
    Event,
    Unknown,
    number,
    split,
)
from scenarios.imports.lines import Lines

HEAD = re.compile(
    r"\s*(?:> ?)*(?:\[pid +(\d+)(?:<[^>]*>)?\] *|(\d+)(?:<[^>]*>)? +)?"  # who
    r"(?:(\d\d?:\d\d:\d\d(?:\.\d+)?|\d+\.\d+) +)?(?:\(\+ *\d+\.\d+\) +)?"  # when
    r"(?:\[[0-9a-f? ]+\] +)*"  # -i, -n
    r"(?:([a-z_][a-z_0-9]*)\(|(<\.\.\. )|(\+\+\+ |--- ))"  # what
)
_RANGED = re.compile(  # most of what allocators do, in one look
    r"(?:\[pid +(\d+)\] |(\d+) +)?(?:(\d+\.\d+|\d\d:\d\d:\d\d(?:\.\d+)?) )?"
    r"(madvise|mprotect)\((0x[0-9a-f]+), (\d+), ([A-Z_|]+)\) += 0(?: <[\d.]+>)?$"
)
_RESUMED = re.compile(r"([a-z_0-9]+) resumed> ?")
_END = re.compile(r"(.*)\)\s+= (-?(?:0x[0-9a-f]+|\d+)|\?)(.*)", re.S)
_ERRNO = re.compile(r" (E[A-Z0-9]+)\b")
_ATTACHED = re.compile(r"(?:strace: )?Process \d+ attached(?: \(waiting for parent\))?\s*$")
_CHATTER = re.compile(
    r"\s*(?:strace: |\[ Process PID=|Process \d+ (?:attached|detached|resumed|suspended)| > \S|\[UNFINISHED|"
    r"umovestr:|ptrace_|<detached|$)"
)
_SUMMARY = re.compile(r"\s*(?:% time\s+seconds|-{4,}\s+-{4,}|\d+\.\d\d\s+\d+\.\d+\s)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNFINISHED = ("<unfinished ...>", "<detached ...>")
_RELATIVE = 1e8  # a stamp below it, not of a day, is the time since the line before
_WANTED = {*PARAMETERS, *WITHOUT_EFFECT, *NOT_MODELLED, *CREATES}
_USERFAULT = "UFFDIO_"
SUMMARY_ONLY = "a summary of strace -c counts calls, and has none"


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like strace's."""
    return any((found := HEAD.match(_COLOUR.sub("", line))) and (found[4] or found[5]) for line in lines)


def is_summary(lines: list[str]) -> bool:
    """True if the lines are what strace -c prints."""
    return any(_SUMMARY.match(line) for line in lines)


class Clock:
    """The stamps of a file as seconds that do not go back: absolute ones, those of a day, and relative ones."""

    def __init__(self) -> None:
        self.now: float | None = None
        self.absolute = False

    def read(self, stamp: str) -> float:
        """The time of a stamp."""
        if ":" in stamp:
            hours, minutes, seconds = stamp.split(":")
            now = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
            if self.now is not None and now < self.now - 43200:  # midnight
                now += 86400 * -(-(self.now - now) // 86400)
            self.absolute = True
        else:
            now = float(stamp)
            self.absolute = now >= _RELATIVE
            if not self.absolute:
                now += self.now or 0.0
        self.now = now
        return now


class Strace:
    """The lines of one file. `tid` is the task of lines that name none, as strace -ff writes them.

    `timed`: the stamps matter.
    """

    def __init__(self, lines: Lines, account: Account, tid: int = 0, timed: bool = False) -> None:
        self._lines, self._account, self._tid, self._timed = lines, account, tid, timed
        self._source = lines.name
        self._open: dict[int, tuple[str, str, int, float | None]] = {}  # task -> call, operands, line, time
        self._alias: dict[int, int] = {}  # a task that had no number on its first lines
        self._clock = Clock()
        self._torn = ""
        self._summary = False

    def __iter__(self) -> Iterator[Event]:
        """The events of the file."""
        line_number = 0
        account, match, wanted, others = self._account, HEAD.match, _WANTED, self._account.others
        ranged, source, new, alias = _RANGED.match, self._source, tuple.__new__, self._alias
        clock = self._clock.read if self._timed else None
        for block in self._lines:
            for line in block:
                line_number += 1
                if found := ranged(line):
                    who, bare, stamp, name, start, length, word = found.groups()
                    tid = int(who or bare or self._tid)
                    time = clock(stamp) if clock and stamp else None
                    args = (int(start, 16), int(length), word)
                    tid = alias.get(tid, tid)
                    yield new(Event, (RANGED, source, line_number, time, tid, name, args, 0, "", 0, None))
                    continue
                if self._torn or "\x1b" in line or "attached" in line:
                    line = self._mended(line)
                found = match(line)
                if found is None:
                    self._strange(line, line_number)
                    continue
                who, bare, stamp, name, resumed, mark = found.groups()
                time = clock(stamp) if clock and stamp else None
                if name is not None and name not in wanted:
                    others[name] += 1
                    if name == "ioctl" and _USERFAULT in line:
                        account.leave_out("userfaultfd's ioctl", f"{self._source}:{line_number}")
                    continue
                tid = int(who or bare or self._tid)
                tid = self._alias.get(tid, tid)
                rest = line[found.end() :]
                if name is not None:
                    if rest.endswith(_UNFINISHED):
                        operands = rest[: rest.rindex("<")].rstrip()
                        self._open[tid] = (name, operands, line_number, time)
                        yield from self._event(ENTER, line_number, time, tid, name, operands, "")
                        continue
                    yield from self._call(line_number, time, tid, name, rest)
                elif resumed is not None:
                    yield from self._resumed(line_number, tid, rest)
                elif mark == "+++ ":
                    self._open.pop(tid, None)
                    account.understood += 1
                    if not rest.startswith("superseded"):
                        yield Event(GONE, self._source, line_number, time, tid)
                else:
                    others["a signal"] += 1
            account.lines += len(block)
        if self._summary and not account.understood:
            account.note(f"{self._source}: {SUMMARY_ONLY}")

    def _mended(self, line: str) -> str:
        """A line without colours; one that was torn by a message of strace's, put together again."""
        line = self._torn + _COLOUR.sub("", line)
        self._torn = ""
        if (found := _ATTACHED.search(line)) and found.start() and HEAD.match(line):
            self._torn = line[: found.start()]
            return ""
        return line

    def _strange(self, line: str, line_number: int) -> None:
        """A line that is no call."""
        if _SUMMARY.match(line) or (self._summary and not line.startswith("\0")):
            self._summary = True
        elif not _CHATTER.match(line):
            why = "longer than a line may be" if line == "\0" else f"not a line of strace's: {line[:40]!a}"
            self._account.refuse(f"{self._source}:{line_number}", why)

    def _resumed(self, line_number: int, tid: int, rest: str) -> Iterator[Event]:
        """The second half of a call."""
        found = _RESUMED.match(rest)
        if found is None:
            self._account.refuse(f"{self._source}:{line_number}", f"not a line of strace's: {rest[:40]!a}")
            return
        name = found[1]
        if name not in _WANTED:
            self._account.others[name] += 1
            self._open.pop(tid, None)
            return
        begun = self._open.pop(tid, None)
        if begun is None and self._open.get(0, ("",))[0] == name:  # the first task has a number from now on
            self._alias[tid] = 0
            tid, begun = 0, self._open.pop(0)
        if begun is None or begun[0] != name:
            self._account.leave_out(f"{name}, which began before the log", f"{self._source}:{line_number}")
            return
        yield from self._call(line_number, begun[3], tid, name, begun[1] + rest[found.end() :])

    def _call(self, line_number: int, time: float | None, tid: int, name: str, rest: str) -> Iterator[Event]:
        """A call with its result."""
        found = _END.match(rest)
        if found is None:
            if self._lines.cut_off:
                self._account.note(f"{self._source}:{line_number}: the last line is cut off")
            else:
                self._account.refuse(f"{self._source}:{line_number}", f"{name} without a result")
            return
        yield from self._event(CALL, line_number, time, tid, name, found[1], found[2], found[3])

    def _event(
        self, kind: str, line: int, time: float | None, tid: int, name: str, operands: str, result: str, tail: str = ""
    ) -> Iterator[Event]:
        """One event, if its operands can be parted."""
        words = split(operands)
        if name in CREATES:
            args = {"clone_flags": operands}
        elif len(words) == 1 and name.endswith("mmap") and operands.startswith("{"):
            args = dict(zip(PARAMETERS[name], split(operands[1:-1]), strict=False))
        else:
            args = dict(zip(PARAMETERS.get(name, ()), words, strict=False))
        failed = ""
        value = None
        if kind == CALL:
            try:
                value = None if result == "?" else number(result)
            except Unknown:
                value = None
            if result == "?" or (result == "-1" and " E" in tail):
                failed = (_ERRNO.search(tail) or ("", "?"))[1]
        yield Event(kind, self._source, line, time, tid, name, args, value, failed)
