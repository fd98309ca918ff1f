"""The standard streams of a command: what stdout does not take is an error of its own, what stderr does not is lost."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class OutputLost(Exception):
    """stdout takes no more; `errno` says why. Not an OSError, which others would take for theirs."""

    def __init__(self, errno: int) -> None:
        self.errno = errno
        super().__init__(f"stdout: {os.strerror(errno)}")


class _Stdout(io.FileIO):
    """File descriptor 1; what comes after a loss is dropped, so that the end of the process says nothing more."""

    lost = False

    def write(self, data: Any) -> int:
        if self.lost:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self.lost = True
            raise OutputLost(error.errno or 0) from None


class _Stderr(io.FileIO):
    """File descriptor 2; a command does not fail because nobody reads its remarks."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def guard() -> None:
    """Put both in place. A descriptor that is closed is occupied, or the next file opened would be written to."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free; stdout: each write fails
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout, "strict", False)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr, "backslashreplace", True)


def _text(raw: io.FileIO, before: Any, errors: str, by_line: bool) -> io.TextIOWrapper:
    """A text stream over a descriptor, which encodes as the one before."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    errors = getattr(before, "errors", None) or errors
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=by_line or raw.isatty())
