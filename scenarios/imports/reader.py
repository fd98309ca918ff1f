"""What is common to the readers of perf's and the kernel's lines: operands with names, results, lines that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from scenarios.imports import calls
from scenarios.imports.account import Account
from scenarios.imports.calls import (
    ENTER,
    NO_RETURN,
    Event,
    Unknown,
    number,
    split,
)
from scenarios.imports.lines import Lines

WANTED = calls.WANTED - {"ioctl"}  # whose operands they do not show
_OPERAND = re.compile(r"(\w+): ?")
_LOST = re.compile(r"\s*(?:LOST (\d+) events|.*PERF_RECORD_LOST.* lost (\d+))")
_ERRNO = re.compile(r" (E[A-Z0-9]+)")


def named(text: str) -> dict[str, str]:
    """Operands that are written with their names; those that are 0 may be missing."""
    args = {}
    for part in split(text):
        if found := _OPERAND.match(part):
            args[found[1]] = part[found.end() :].strip()
    return args


def result(text: str, tail: str = "") -> tuple[int | None, str]:
    """A result and the errno."""
    if text in ("?", ""):
        return (None, "?") if text == "?" else (0, "")
    value = number(text)
    value -= (value >> 63) << 64
    if -4096 < value < 0:
        found = _ERRNO.match(tail)
        return value, found[1] if found else {-12: "ENOMEM"}.get(value, "?")
    return value, ""


class Reader:
    """The lines of one file, and the calls that have begun in it."""

    def __init__(self, lines: Lines, account: Account) -> None:
        self._lines, self._account, self._source = lines, account, lines.name
        self._open: dict[int, tuple[str, dict[str, str]]] = {}
        self._line = 0

    def __iter__(self) -> Iterator[Event]:
        """The events of the file."""
        for block in self._lines:
            self._account.lines += len(block)
            for line in block:
                self._line += 1
                if "LOST" in line and (lost := _LOST.match(line)):
                    self._account.lost += int(lost[1] or lost[2])
                elif line.startswith("#"):
                    self._comment(line)
                elif line.strip():
                    try:
                        yield from self._read(line)
                    except (Unknown, KeyError, ValueError):
                        self._refuse(line)
        for name, _ in self._open.values():
            self._unreturned(name)

    def _read(self, line: str) -> Iterator[Event]:
        raise NotImplementedError

    def _comment(self, line: str) -> None:
        """A line of the header."""

    @property
    def _where(self) -> str:
        return f"{self._source}:{self._line}"

    def _refuse(self, line: str) -> None:
        if self._lines.cut_off:
            self._account.note(f"{self._where}: the last line is cut off")
        else:
            self._account.refuse(self._where, f"not a line of the tool that wrote the others: {line.strip()[:40]!a}")

    def _begin(self, time: float | None, tid: int, group: int, name: str, args: dict[str, str]) -> Event:
        """A call that has begun; one that the task was in has lost its end."""
        if tid in self._open:
            self._unreturned(self._open[tid][0])
        self._open[tid] = name, args
        return self._event(ENTER, time, tid, name, args, group=group)

    def _unreturned(self, name: str) -> None:
        if name not in NO_RETURN:
            self._account.leave_out(f"{name}, whose end is not in the log", self._where)

    def _event(self, kind: str, time: float | None, tid: int, name: str, args: Any, **more: object) -> Event:
        return Event(kind, self._source, self._line, time, tid, name, args, **more)  # type: ignore[arg-type]
