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
    NOT_MODELLED,
    NUMBERS,
    PARAMETERS,
    PLAIN,
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
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNFINISHED = " <unfinished ...>"
_BROKEN_OFF = re.compile(r"<(?:unfinished \.\.\.|detached \.\.\.|ptrace\(\w+\):[^>]*|pid changed to [^>]*)>$")
_SUPERSEDED = re.compile(r"superseded by execve in pid (\d+)")
_RELATIVE = 1e8  # a stamp below it, not of a day, is the time since the line before
_WANTED = {*PARAMETERS, *WITHOUT_EFFECT, *NOT_MODELLED, *CREATES}
_ENTERED = {*CREATES, "munmap", "exit", "exit_group"}  # what matters when it begins
_USERFAULT = "UFFDIO_"
_PLAIN = frozenset(("madvise", "mprotect", "munmap", "mmap", "brk"))  # most of what allocators do
_event = tuple.__new__
_DONE = Event("done", "", 0, None, 0)
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
        """The events of the file."""
        line_number = 0
        account, match, wanted, others = self._account, HEAD.match, _WANTED, self._account.others
        alias, time_of, quick = self._alias, self._time, self._quick
        for block in self._lines:
            for line in block:
                line_number += 1
                event = None if self._torn or "attached" in line else quick(line, line_number)
                if event is not None:
                    if event is not _DONE:
                        yield event
                    continue
                if self._torn or "\x1b" in line or "attached" in line:
                    line = self._mended(line)
                found = match(line)
                if found is None:
                    self._strange(line, line_number)
                    continue
                who, bare, stamp, name, resumed, mark = found.groups()
                name = _named(name) if name else None
                if name is not None and (name not in wanted or (name == "ioctl" and _USERFAULT not in line)):
                    others[name] += 1
                    if stamp is not None and not self._clock.absolute:
                        time_of(stamp, line_number)
                    if self._unnumbered and (who or bare):
                        self._meet(int(who or bare))
                    continue
                began = time_of(stamp, line_number)
                tid = int(who or bare or self._tid)
                tid = alias.get(tid, tid)
                if tid == 0:
                    self._unnumbered = True
                elif self._unnumbered:
                    tid = self._meet(tid)
                rest = line[found.end() :]
                if name is not None:
                    if rest[-1:] == ">" and _BROKEN_OFF.search(rest):
                        self._begin(tid, name, rest, line_number, began)
                        if name in _ENTERED:
                            yield self._event(ENTER, line_number, began, tid, name, self._open[tid][1])
                    elif (event := self._call(line_number, began, began, tid, name, rest)) is not None:
                        yield event
                elif resumed is not None:
                    event = self._resumed(line_number, began, tid, rest)
                    if event is not None:
                        yield event
                elif mark == "+++ ":
                    self._open.pop(tid, None)
                    account.understood += 1
                    if (taken := _SUPERSEDED.match(rest)) and int(taken[1]) in self._open:
                        self._open[tid] = self._open.pop(int(taken[1]))  # exec has the number of its process
                    elif not taken:
                        yield Event(GONE, self._source, line_number, began, tid)
                else:
                    others["a signal"] += 1
            account.lines += len(block)
        for name, _, begun, _ in self._open.values():
            self._unreturned(name, begun)
        if self._summary and not account.understood:
            account.note(f"{self._source}: {SUMMARY_ONLY}")

    def _quick(self, line: str, line_number: int) -> Event | None:
        """The event of a line that is one of the usual, _DONE if it has none; None if somebody has to look closer.

        Methods of strings take a third of the time that one regular expression takes.
        """
        head, paren, operands = line.partition("(")
        second = not paren and "<... " in head
        if second:  # 12 <... madvise resumed>) = 0
            head, _, operands = line.partition(" resumed>")
        words = head.split()
        name = words.pop() if words else ""
        if name not in _PLAIN:
            return self._other(name, words) if paren and name in self._others else None
        if second and words.pop() != "<...":
            return None
        operands, closed, result = operands.rpartition(")")
        who = stamp = ""
        if words and words[0][0] == "[":  # [pid 12]
            if words[0] != "[pid" or len(words) == 1:
                return None
            words[:2] = [words[1][:-1]]
        if len(words) == 2:
            who, stamp = words
        elif len(words) == 1:
            if words[0].isdecimal():
                who = words[0]
            else:
                stamp = words[0]
        elif words:
            return None
        if stamp and not ("." in stamp or ":" in stamp):
            return None
        took, clock = 0.0, self._clock
        try:
            tid = int(who) if who else self._tid
            if self._alias:
                tid = self._alias.get(tid, tid)
            if second:
                begun = None if self._unnumbered else self._open.get(tid)
                if begun is None or begun[0] != name:
                    return None
            elif not closed and (name in _ENTERED or not result.endswith(_UNFINISHED)):
                return None
            value = 0
            if closed:
                gap, _, result = result.partition("= ")
                if "<" in operands or "=" in operands or (gap != " " and gap.strip()) or (second and operands.strip()):
                    return None
                if result[-1:] == ">":
                    result, _, seconds = result.partition(" <")
                    took = float(seconds[:-1])
                value = int(result, 16 if result[:2] == "0x" else 10)
            elif second:
                return None
            # from here on the line is taken: stamps may add up
            began = time = float(stamp) if clock.epoch and stamp else self._time(stamp or None, line_number)
        except ValueError:
            return None
        if self._unnumbered and tid:
            tid = self._meet(tid)
        if second:
            _, operands, _, began = self._open.pop(tid)
        elif not closed:
            self._begin(tid, name, result, line_number, began)
            return _DONE
        elif tid == 0:
            self._unnumbered = True
        if (
            took
            and time is not None
            and began == time
            and clock.now is not None
            and not (
                name == "munmap" and self._several  # others may map there before it has returned
            )
        ):
            time += took
        args = operands.split(", ")
        return _event(Event, (PLAIN, self._source, line_number, time, tid, name, args, value, "", 0, None, began))

    def _other(self, name: str, words: list[str]) -> Event | None:
        """Count a call that was met before, and has nothing to do with memory; `words` stand before it."""
        who = words[1][:-1] if words[:1] == ["[pid"] and len(words) > 1 else words[0] if words else ""
        numbered = who.isdecimal()
        stamped = len(words) > (2 if words[:1] == ["[pid"] else numbered)
        if name == "ioctl" or (stamped and not self._clock.epoch) or not (numbered or stamped or not words):
            return None
        self._others[name] += 1
        if self._unnumbered and numbered:
            self._meet(int(who))
        return _DONE

    def _begin(self, tid: int, name: str, rest: str, line_number: int, began: float | None) -> None:
        """The first half of a call, which does nothing yet."""
        if tid in self._open:
            self._unreturned(self._open[tid][0], self._open[tid][2])
        self._open[tid] = (name, rest[: rest.rindex("<")].rstrip(), line_number, began)

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

    def _time(self, stamp: str | None, line_number: int) -> float | None:
        """When a line was written."""
        if stamp is None or "." not in stamp:
            if not self._several:
                return line_number / 1e6
            if stamp is None:
                return None
        now = self._clock.read(stamp)
        return now if self._clock.absolute or not self._several else None  # each file of -r begins at 0

    def _mended(self, line: str) -> str:
        """A line without colours; one that was torn by a message of strace's, put together again."""
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
        """The second half of a call."""
        found = _RESUMED.match(rest)
        if found is None:
            self._account.refuse(f"{self._source}:{line_number}", f"not a line of strace's: {rest[:40]!a}")
            return None
        name = _named(found[1])
        if name not in _WANTED:
            self._account.others[name] += 1
            self._open.pop(tid, None)
            return None
        begun = self._open.pop(tid, None)
        if begun is None and name == "ioctl":
            self._account.others[name] += 1
            return None
        if begun is None and self._open.get(0, ("",))[0] == name:  # the first task has a number from now on
            self._alias[tid] = 0
            tid, begun = 0, self._open.pop(0)
        if begun is None or begun[0] != name:
            self._account.leave_out(f"{name}, which began before the log", f"{self._source}:{line_number}")
            return None
        return self._call(line_number, begun[3], time, tid, name, begun[1] + rest[found.end() :])

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
        timed = began is not None and began == time and self._clock.now is not None
        if timed and (name != "munmap" or not self._several) and (took := _TOOK.search(found[3])):
            time = (began or 0.0) + float(took[1])
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
