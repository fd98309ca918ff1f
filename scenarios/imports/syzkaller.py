"""Programs of syzkaller: one call a line, results by name, `(async)` behind those that race.

Source: docs/program_syntax.md of syzkaller; the range that its executor maps for data (executor/common.h).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios.imports.account import Account
from scenarios.imports.calls import (
    CALL,
    PARAMETERS,
    Event,
    Unknown,
    number,
    split,
)
from scenarios.imports.lines import Lines
from scenarios.imports.reader import WANTED

_CALL = re.compile(r"\s*(?:(r\d+) = )?([a-z_][a-z_0-9]*)(\$\w+)?\((.*?)\)(?:\s+\(([a-z][a-z0-9_:, ]*)\))?\s*$", re.I)
_POINTER = re.compile(r"&\((0x[0-9a-f]+)(?:/0x[0-9a-f]+)?\)(?:=.*)?", re.I)
_DATA, _DATA_SIZE = 0x7F0000000000, 16 << 20  # what the executor has mapped, as its programs write the address
_FIRST = 1  # the task of those calls that the program waits for
_LONG = 1_000_000  # lines after which a call that nobody waits for has ended
_OPTIONS = re.compile(r"\s*(?:#|\{.*\}\s*$|$)")


def looks_like(lines: list[str]) -> bool:
    """True if some lines look like a program's."""
    return any((found := _CALL.match(line)) and "&(0x7f" in found[4] for line in lines)


class Syzkaller:
    """The lines of one program; each call succeeds at once, where it asks to be."""

    def __init__(self, lines: Lines, account: Account) -> None:
        self._lines, self._account, self._source = lines, account, lines.name
        self._asynchronous = 0  # calls so far that nobody waits for

    def __iter__(self) -> Iterator[Event]:
        """The events of the program."""
        prepared = {"addr": hex(_DATA), "len": str(_DATA_SIZE), "prot": "7", "flags": "0x32", "fd": "-1"}
        yield Event(CALL, self._source, 0, 0.0, _FIRST, "mmap", prepared, _DATA, group=_FIRST)
        self._account.understood -= 1  # it is no line
        line_number = 0
        for block in self._lines:
            self._account.lines += len(block)
            for line in block:
                line_number += 1
                found = _CALL.match(line)
                try:
                    if found is not None:
                        yield from self._call(line_number, *found.groups())
                        continue
                except (Unknown, KeyError):
                    pass
                if found is not None or not _OPTIONS.match(line):
                    where = f"{self._source}:{line_number}"
                    self._account.refuse(where, f"not a call of syzkaller's: {line.strip()[:40]!a}")

    def _call(
        self, line: int, result: str | None, name: str, variant: str | None, operands: str, how: str | None
    ) -> Iterator[Event]:
        if name not in WANTED:
            self._account.others[name] += 1
            return
        waits = not (how and "async" in how)
        if not waits:
            self._account.note("(async): such a call overlaps all that follow (replay --timing program)")
            self._asynchronous += 1
        words = [self._value(word) for word in split(operands)]
        args = dict(zip(PARAMETERS.get(name, ()), words, strict=False))
        value: int | None = 0
        if name == "mmap":
            value = number(args.get("addr", "0"))
        elif name == "mremap":
            fixed = number(args.get("flags", "0")) & 6
            value = number(args["new_addr"] if fixed and "new_addr" in args else args["addr"])
        elif name == "process_madvise":
            value = 1 << 47
        began, ended = line / 1e6, (line if waits else line + _LONG) / 1e6  # the lines are the clock
        tid = _FIRST if waits else _FIRST + self._asynchronous
        yield Event(CALL, self._source, line, ended, tid, name, args, value, group=_FIRST, began=began)

    @staticmethod
    def _value(word: str) -> str:
        """A value without what syzkaller says of its type."""
        found = _POINTER.match(word)
        if found is not None:
            return found[1]
        return "-1" if word in ("0xffffffffffffffff", "0xffffffff") else word
