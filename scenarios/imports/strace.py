"""strace's lines, in all its shapes: task, instant, call; halves of calls put together.

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
    NO_RETURN,
    NUMBERS,
    PARAMETERS,
    PLAIN,
    WANTED,
    Event,
    Plain,
    Unknown,
    number,
    split,
)
from scenarios.imports.lines import Lines

HEAD = re.compile(
    r"\s*(?:> ?)*(?:\[pid +(\d+)(?:<[^>]*>)?\] *|(\d+)(?:<[^>]*>)? +)?"  # who
    r"(?:(\d\d?:\d\d:\d\d(?:\.\d+)?|\d+\.\d+) +)?(?:\(\+ *\d+\.\d+\) +)?"  # when
    r"(?:\[[0-9a-f? ]+\] +)*"  # -i, -n
    r"(?:([a-z_][a-z_0-9]*|SYS_\d+)\(|(<\.\.\. )|(\+\+\+ |--- ))"  # what
)
_NUMBERED = re.compile(r"syscall_0x([0-9a-f]+)|SYS_(\d+)")
_TOOK = re.compile(r" <(\d+\.\d+)>$")
_RESUMED = re.compile(r"(\w+) resumed> ?")
_END = re.compile(r"(.*)\)\s+= (-?(?:0x[0-9a-f]+|\d+)|\?)(.*)", re.S)
_ERRNO = re.compile(r" (E[A-Z0-9]+)\b")
_ATTACHED = re.compile(r"(?:strace: )?Process (\d+) attached(?: \(waiting for parent\))?\s*$")
_CHATTER = re.compile(
    r"\s*(?:> ?)*(?:strace: |\[ Process PID=|Process \d+ (?:attached|detached|resumed|suspended)| > \S|\[UNFINISHED|"
    r"umovestr:|ptrace_|<detached|\)\s+= -?\d|\| [0-9a-f]{5} |$)"
)
_SUMMARY = re.compile(r"\s*(?:% time\s+seconds|-{4,}\s+-{4,}|\d+\.\d\d\s+\d+\.\d+\s)")
_REST = re.compile(r", \w+=.*\)\s+= \d+")  # of a call that makes a task, as -z writes it: without what names both
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BROKEN_OFF = re.compile(r"<(?:unfinished \.\.\.|detached \.\.\.|ptrace\(\w+\):[^>]*|pid changed to [^>]*)>$")
_SUPERSEDED = re.compile(r"superseded by execve in pid (\d+)")
_RELATIVE = 1e8  # a stamp below it, not of a day, is the time since the line before
_ENTERED = {*CREATES, "munmap", "mremap", "shmdt", "exit", "exit_group"}  # what matters when it begins
_USERFAULT = "UFFDIO_"
_CALLS = "madvise|mprotect|munmap|mmap|brk"  # most of what allocators do
_VALUE = r"(0x[0-9a-f]+|0|[1-9]\d*)"
_usual = re.compile(  # a line of theirs, whole or a half; one of another call; any line
    r"(?:\[pid +)?(?:(\d+)(?:\] *| +))?(?:(\d{9,}\.\d+) +|(\d+\.\d+|\d\d?:\d\d:\d\d(?:\.\d+)?) +)?"
    rf"(?:({_CALLS})\(([^()<={{\"\n]*)(?:\) += {_VALUE}(?: <(\d+\.\d+)>)?| <unfinished \.\.\.>)"
    rf"|<\.\.\. ({_CALLS}) resumed> ?\) += {_VALUE}(?: <\d+\.\d+>)?"
    r"|([a-z_]\w*)(\(.*)(?<!attached)(?<!parent\)))\n"
    r"|(.*)\n"
).findall
_MOST_IN_A_ROW = 1000
_Begun = tuple[str, str, int, float | None]  # a call, its operands, its line, when
_NO_CALL: _Begun = ("", "", 0, None)
SUMMARY_ONLY = "a summary of strace -c or perf trace -s counts calls, and has none"


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like strace's."""
    return any((found := HEAD.match(_COLOUR.sub("", line))) and (found[4] or found[5]) for line in lines)


def is_summary(lines: list[str]) -> bool:
    """True if the lines are what strace -c prints."""
    return any(_SUMMARY.match(line) for line in lines)


def _named(name: str) -> str:
    """The name of a call, though this strace does not know it, or an old one writes it otherwise."""
    if name == "_exit":
        return "exit"
    found = _NUMBERED.fullmatch(name)
    return NUMBERS.get(int(found[1] or found[2], 16 if found[1] else 10), name) if found else name


class Clock:
    """The stamps of a file as seconds that do not go back: absolute ones, those of a day, and relative ones."""

    def __init__(self) -> None:
        self.now: float | None = None
        self.absolute = self.epoch = False

    def read(self, stamp: str) -> float:
        """The time of a stamp."""
        if ":" in stamp:
            hours, minutes, seconds = stamp.split(":")
            now = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
            if self.now is not None and now < self.now - 43200:  # midnight
                now += 86400 * -(-(self.now - now) // 86400)
            self.absolute, self.epoch = True, False
        else:
            now = float(stamp)
            self.absolute = self.epoch = now >= _RELATIVE
            if not self.absolute:
                now += self.now or 0.0
        self.now = now
        return now


class Strace:
    """The lines of one file. `tid` is the task of lines that name none, as strace -ff writes them.

    `several`: there are other files beside it, and stamps are what orders them. Of one file without stamps, or with
    those of whole seconds, the numbers of its lines are the clock.
    """

    def __init__(self, lines: Lines, account: Account, tid: int = 0, several: bool = False) -> None:
        self._lines, self._account, self._tid, self._several = lines, account, tid, several
        self._source, self._others = lines.name, account.others
        self._open: dict[int, tuple[str, str, int, float | None]] = {}  # task -> call, operands, line, time
        self._alias: dict[int, int] = {}  # a task that had no number on its first lines
        self._unnumbered = False  # there is one, and nobody knows its number yet
        self._met: set[int] = set()  # numbers of others
        self._clock = Clock()
        self._torn = ""
        self._summary = False

    def __iter__(self) -> Iterator[Event]:
        """The events of the file; plain calls in a row are one, unless other files are beside this one."""
        first, most, own = 1, 1 if self._several else _MOST_IN_A_ROW, self._tid
        aliases, clock, calls, time_of, others = self._alias, self._clock, self._open, self._time, self._others
        row: list[Plain] = []
        silent = True
        for text in self._lines.texts():
            found = _usual(text)
            for line_number, one in enumerate(found, first):
                who, instant, stamp, name, operands, value, took, again, ended, other, rest, line = one
                event = None
                if name or again:
                    now = float(instant) if instant and clock.epoch else time_of(instant or stamp, line_number)
                    tid = int(who) if who else own
                    if aliases or not tid or self._unnumbered:
                        tid = self._who(tid)
                    if value:
                        end = self._end(name, now, took) if took and now is not None else now
                        row.append((line_number, tid, name, operands, value, end, now))
                        if len(row) < most:
                            continue
                    elif name:
                        event = self._begin(line_number, tid, name, operands, now)
                    elif (begun := calls.pop(tid, _NO_CALL))[0] == again:
                        row.append((line_number, tid, again, begun[1], ended, now, begun[3]))
                        if len(row) < most:
                            continue
                    else:
                        event = self._returned(line_number, now, tid, again, begun, f") = {ended}")
                elif (
                    other in others and (clock.epoch or clock.now is None) and not self._unnumbered and other != "ioctl"
                ):
                    others[other] += 1
                    continue
                elif other:
                    event = self._call_of(line_number, who, instant or stamp, other, rest)
                else:
                    event = self._line(line, line_number)
                if row and (event is not None or len(row) >= most):
                    silent = False
                    yield self._plain(row)
                    row = []
                if event is not None:
                    silent = False
                    yield event
            first += len(found)
        if row:
            silent = False
            yield self._plain(row)
        self._account.lines += first - 1
        for name, _, first, _ in calls.values():
            self._unreturned(name, first)
        if self._summary and silent:
            self._account.note(f"{self._source}: {SUMMARY_ONLY}")

    def _end(self, name: str, began: float, took: str) -> float:
        """When a call ended. Others may map there before a munmap returns, so that it is where it began."""
        return began if self._clock.now is None or (name == "munmap" and self._several) else began + float(took)

    def _plain(self, row: list[Plain]) -> Event:
        """Plain calls as one event."""
        line_number, tid, name, *_, time, began = row[0]
        return Event(PLAIN, self._source, line_number, time, tid, name, row, began=began)

    def _line(self, line: str, line_number: int) -> Event | None:
        """The event of a line that does not begin as a call does, or was torn."""
        line = self._mended(line)
        found = HEAD.match(line)
        if found is None:
            maker = next((task for task, begun in self._open.items() if begun[0] in CREATES), None)
            if maker is not None and _REST.match(line):
                begun = self._open.pop(maker)
                return self._returned(line_number, begun[3], maker, begun[0], begun, line)
            self._strange(line, line_number)
            return None
        who, bare, stamp, name, resumed, mark = found.groups()
        rest = line[found.end() :]
        if name is not None:
            return self._call_of(line_number, who or bare, stamp, name, f"({rest}")
        now, tid = self._time(stamp, line_number), self._who(int(who or bare or self._tid))
        if resumed is not None:
            return self._resumed(line_number, now, tid, rest)
        if mark != "+++ ":
            self._others["a signal"] += 1
            return None
        self._open.pop(tid, None)
        self._account.understood += 1
        if (taken := _SUPERSEDED.match(rest)) and int(taken[1]) in self._open:
            self._open[tid] = self._open.pop(int(taken[1]))  # exec has the number of its process
        return None if taken else Event(GONE, self._source, line_number, now, tid)

    def _call_of(self, line_number: int, who: str, stamp: str, name: str, rest: str) -> Event | None:
        """The event of a call, by what stands before its name and behind it."""
        if name not in WANTED:
            name = _named(name)
        if name not in WANTED or (name == "ioctl" and _USERFAULT not in rest):
            self._others[name] += 1
            if stamp and not self._clock.absolute:
                self._time(stamp, line_number)
            if self._unnumbered and who:
                self._meet(int(who))
            return None
        now, tid, rest = self._time(stamp, line_number), self._who(int(who or self._tid)), rest[1:]
        if rest[-1:] == ">" and _BROKEN_OFF.search(rest):
            return self._begin(line_number, tid, name, rest[: rest.rindex("<")].rstrip(), now)
        return self._call(line_number, now, now, tid, name, rest)

    def _who(self, tid: int) -> int:
        """The task that a number stands for, 0 for one that has none so far."""
        tid = self._alias.get(tid, tid)
        if tid and self._unnumbered:
            return self._meet(tid)
        self._unnumbered = self._unnumbered or not tid
        return tid

    def _begin(self, line_number: int, tid: int, name: str, operands: str, began: float | None) -> Event | None:
        """The first half of a call, which most do nothing in."""
        if tid in self._open:
            self._unreturned(self._open[tid][0], self._open[tid][2])
        self._open[tid] = name, operands, line_number, began
        return self._event(ENTER, line_number, began, tid, name, operands) if name in _ENTERED else None

    def _unreturned(self, name: str, line_number: int) -> None:
        """A call has no second half."""
        if name not in NO_RETURN:
            self._account.leave_out(f"{name}, whose end is not in the log", f"{self._source}:{line_number}")

    def _meet(self, tid: int) -> int:
        """Who a number is: a child that is attached or being made, else the task that had none so far."""
        if tid in self._met or any(name in CREATES for name, *_ in self._open.values()):
            self._met.add(tid)
            return tid
        self._alias[tid], self._unnumbered = 0, False
        return 0

    def _time(self, stamp: str, line_number: int) -> float | None:
        """When a line was written."""
        if not stamp or "." not in stamp:
            if not self._several:
                return line_number / 1e6
            if not stamp:
                return None
        now = self._clock.read(stamp)
        return now if self._clock.absolute or not self._several else None  # each file of -r begins at 0

    def _mended(self, line: str) -> str:
        """A line without colours; one that was torn by a message of strace's, put together again."""
        if not (self._torn or "\x1b" in line or "attached" in line):
            return line
        line = self._torn + _COLOUR.sub("", line)
        self._torn = ""
        found = _ATTACHED.search(line)
        if found:
            self._met.add(int(found[1]))
        if found and found.start() and HEAD.match(line):
            self._torn = line[: found.start()]
            return ""
        return line

    def _strange(self, line: str, line_number: int) -> None:
        """A line that is no call."""
        if _SUMMARY.match(line) or (self._summary and not line.startswith("\0")):
            self._summary = True
        elif self._lines.cut_off and line != "\0":
            self._account.note(f"{self._source}:{line_number}: the last line is cut off")
        elif not _CHATTER.match(line):
            why = "longer than a line may be" if line == "\0" else f"not a line of strace's: {line[:40]!a}"
            self._account.refuse(f"{self._source}:{line_number}", why)

    def _resumed(self, line_number: int, time: float | None, tid: int, rest: str) -> Event | None:
        """The second half of a call, whose name is in it."""
        found = _RESUMED.match(rest)
        if found is None:
            self._account.refuse(f"{self._source}:{line_number}", f"not a line of strace's: {rest[:40]!a}")
            return None
        name, begun = _named(found[1]), self._open.pop(tid, _NO_CALL)
        if name not in WANTED or (begun is _NO_CALL and name == "ioctl"):
            self._others[name] += 1
            return None
        return self._returned(line_number, time, tid, name, begun, rest[found.end() :])

    def _returned(
        self, line_number: int, time: float | None, tid: int, name: str, begun: _Begun, rest: str
    ) -> Event | None:
        """The second half of a call; `begun` is the half that its task has."""
        if begun is _NO_CALL and self._open.get(0, _NO_CALL)[0] == name:  # the first task has a number from now on
            self._alias[tid] = 0
            tid, begun = 0, self._open.pop(0)
        if begun[0] != name:
            if begun is not _NO_CALL:
                self._unreturned(begun[0], begun[2])
            self._account.leave_out(f"{name}, which began before the log", f"{self._source}:{line_number}")
            return None
        return self._call(line_number, begun[3], time, tid, name, begun[1] + rest)

    def _call(
        self, line_number: int, began: float | None, time: float | None, tid: int, name: str, rest: str
    ) -> Event | None:
        """A call with its result: what stands behind its name."""
        found = _END.match(rest)
        if found is None:
            if self._lines.cut_off:
                self._account.note(f"{self._source}:{line_number}: the last line is cut off")
            else:
                self._account.refuse(f"{self._source}:{line_number}", f"{name} without a result")
            return None
        if began is not None and began == time and (took := _TOOK.search(found[3])):
            time = self._end(name, began, took[1])
        return self._event(CALL, line_number, time, tid, name, found[1], found[2], found[3], began)

    def _event(
        self,
        kind: str,
        line: int,
        time: float | None,
        tid: int,
        name: str,
        operands: str,
        result: str = "",
        tail: str = "",
        began: float | None = None,
    ) -> Event:
        """One event, by the operands of a call."""
        words = split(operands)
        if name in CREATES:
            args = {"clone_flags": operands}
            if kind == CALL and result.isdecimal():
                self._met.add(int(result))
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
        return Event(kind, self._source, line, time, tid, name, args, value, failed, began=began)
