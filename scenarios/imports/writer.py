"""The text of a trace while it is made: lines of processes, files laid end to end in one, a header at the end.

Memory: none that grows with the trace; its body lies in a temporary file until it is whole, but for its last lines.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from scenarios.imports.space import PAGE, Mapping, page_up
from scenarios.session.errors import UserError

MOST_CHILDREN = 63  # names that the language has for children
MOST_THREADS = 256  # and for threads; those that are more share the first
LARGEST_FILE = 16 << 30  # a machine that holds a descriptor for each page of more does not fit anywhere
_PROT = ("none", "r", "w", "rw", "x", "rx", "wx", "rwx")
_KEPT = 4096  # lines that are written at once
_GAP = PAGE  # between the files that lie end to end, so that neighbours do not merge


def _scratch(target: Path) -> Path | None:
    """Where a body lies until it is whole: beside a file that is to be, else where temporary files are."""
    return target.parent if target.is_file() or (not target.exists() and str(target) != "-") else None


class Writer:
    """A trace that is being written to `path`; used as a context manager, it leaves nothing if it is not finished."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written = 0  # operations that are in the body
        self._extents: dict[str, list[tuple[int, int, int]]] = {}  # file -> its ranges in bytes, where each lies
        self._file_end = 0
        self._touch: tuple[str, str, int, int] | None = None  # who, verb, start, end: grows while the next adjoins
        self._touched: tuple[int, int, int] | None = None  # when
        self.when: tuple[int, int, int] | None = None  # thread, begin, end of what is entered; None: not to be said
        self._homes: dict[str, int] = {}  # who -> the thread that forked it, and does what it does
        try:
            self._body: IO[bytes] = tempfile.TemporaryFile(dir=_scratch(Path(path)))  # noqa: SIM115
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        self._lines: list[str] = []  # the last

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._body.close()

    def line(self, who: str, text: str, home: str | None = None) -> None:
        """One operation of a process; `who` is "" or "in K ". The thread that does what `home` does has it, or that of
        `who`.
        """
        if self._touch is not None:
            self._flush_touch()
        when = self.when
        if when is None:
            self._lines.append(f"{who}{text}\n")
        else:
            self._lines.append(f"{self._on(when, home or who)}{who}{text}\n")
        if len(self._lines) > _KEPT:
            self._write()

    def _on(self, when: tuple[int, int, int], home: str) -> str:
        """Which thread does it, and from when to when."""
        thread, begin, end = when
        return f"on {self._homes.get(home, thread)} {begin} {end} "

    def _write(self) -> None:
        """Put the last lines into the body."""
        self._body.write("".join(self._lines).encode("ascii"))
        self._written += len(self._lines)
        self._lines.clear()

    @property
    def operations(self) -> int:
        """How many operations the trace has so far."""
        return self._written + len(self._lines)

    def fork(self, parent: str, child: int) -> None:
        """A process begins, as the child of another."""
        self.line(parent, f"fork {child}")
        self._homes[f"in {child} "] = self._homes.get(parent, self.when[0] if self.when else 0)

    def exit(self, child: int) -> None:
        """A child ends."""
        self.line("", f"exit {child}", f"in {child} ")

    def touch(self, who: str, start: int, end: int, write: bool) -> None:
        """Access to a range of pages; what adjoins the one before is one operation with it."""
        verb = "touch" if write else "read"
        last = self._touch
        if last is not None:
            if last[3] == start and last[0] == who and last[1] == verb and self._extended():
                self._touch = (who, verb, last[2], end)
                return
            self._flush_touch()
        self._touch, self._touched = (who, verb, start, end), self.when

    def _extended(self) -> bool:
        """True if the access before was of the same thread: its interval goes on until now."""
        began, when = self._touched, self.when
        if began is not None and when is not None and began[0] == when[0]:
            self._touched = (began[0], began[1], max(began[2], when[2]))
            return True
        return began is when  # nobody says when

    def _flush_touch(self) -> None:
        """Write the access that has grown so far, with its own interval."""
        assert self._touch is not None
        who, verb, start, end = self._touch
        self._touch = None
        on = "" if self._touched is None else self._on(self._touched, who)
        self._lines.append(f"{on}{who}{verb} @ {hex(start)} {hex(end - start)}\n")

    def map(self, who: str, mapping: Mapping, words: Sequence[str] = ()) -> bool:
        """Map a range; False if its file is too large for a machine, and it is anonymous memory instead."""
        start, end, bits, shared, file, offset, _, _ = mapping
        length = end - start
        if file and length <= LARGEST_FILE:
            page = self.place(file, offset, length) // PAGE
            kind = "shared" if shared else "private"
            self.line(who, f"mf @ {hex(length)} {hex(start)} {_PROT[bits & 7]} {kind} 0 {page}")
            return True
        self.anonymous(who, start, length, bits, words)
        return not file

    def anonymous(self, who: str, start: int, length: int, prot: int, words: Sequence[str] = ()) -> None:
        """Map private memory."""
        text = f"mm @ {hex(length)} {hex(start)} {_PROT[prot & 7]}"
        self.line(who, f"{text} {','.join(words)}" if words else text)

    def unmap(self, who: str, start: int, end: int) -> None:
        """munmap."""
        self.line(who, f"munmap @ {hex(start)} {hex(end - start)}")

    def protect(self, who: str, start: str, length: int, prot: int) -> None:
        """mprotect."""
        self.line(who, f"mprotect @ {start} {hex(length)} {_PROT[prot & 7]}")

    def place(self, file: str, offset: int, length: int) -> int:
        """Where a range of a file lies in the trace's one file, in bytes."""
        extents = self._extents.setdefault(file, [])
        for begin, end, at in extents:
            if begin <= offset and offset + length <= end:
                return at + offset - begin
        at = self._file_end
        extents.append((offset, offset + length, at))
        self._file_end += page_up(length) + _GAP
        return at

    def pieces(self, file: str, offset: int, length: int) -> list[tuple[int, int]]:
        """The parts of a range of a file that the trace has, as offset and length in its one file, whole pages."""
        found = []
        for begin, end, at in self._extents.get(file, ()):
            low = page_up(max(begin, offset))
            high = min(page_up(end), offset + length) // PAGE * PAGE
            if low < high:
                found.append((at + low - begin, high - low))
        return found

    def flush(self) -> None:
        """Count all operations so far."""
        if self._touch is not None:
            self._flush_touch()

    def finish(self, header: Iterable[str]) -> None:
        """Write the trace: a header, the file, the body. A regular file is replaced at once; what is none, a device or
        a pipe, is written to, and `-` is stdout. Raises UserError.
        """
        self.flush()
        target = Path(self.path)
        try:
            if self.path == "-":
                self._copy(sys.stdout, header)
            elif target.exists() and not target.is_file():
                with target.open("w", encoding="utf-8") as out:
                    self._copy(out, header)
            else:
                self._replace(header)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None

    def _replace(self, header: Iterable[str]) -> None:
        """Write a file beside the one that is wanted, and put it in its place."""
        part = Path(f"{self.path}.part{os.getpid()}")
        try:
            with gzip.open(part, "wt", 6) if self.path.endswith(".gz") else part.open("w", encoding="utf-8") as out:
                self._copy(out, header)
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)

    def _copy(self, out: IO[str], header: Iterable[str]) -> None:
        """The whole text."""
        out.writelines(f"# {text}\n" for text in header)
        if self._file_end:
            out.write(f"file 0 {self._file_end:#x}\n")
        self._write()
        self._body.seek(0)
        while block := self._body.read(1 << 20):
            out.write(block.decode("ascii"))
