"""Memory traces: text in, instructions out.

Every ID owns a window of the address space that starts at 16 TiB + ID x 64 GiB; OFF counts from there. `#` starts a
comment. What the operands allow is checked here; what Linux answers with an errno is left to the emulated kernel.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from emulator.insn import Op
from emulator.mm_types import PAGE_SIZE
from workers.program import MARK, Insn, dontneed, free, mmap, mmap_file, munmap, read, remove, touch

USER_SPACE = 1 << 47
WINDOWS, WINDOW = 16 << 40, 64 << 30  # where window 0 begins, and how far apart they are
LAST_ID = (USER_SPACE - WINDOWS) // WINDOW - 1
LONGEST_LINE = 4096
MAX_FILES = 255  # what the instruction has room for

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "p": PAGE_SIZE}
_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGp]?)")


class _Kind(NamedTuple):
    """One kind of operation: its operands, how many it needs, the instruction for an address, length and step or 0."""

    operands: tuple[str, ...]
    required: int
    insn: Callable[[int, int, int], Insn]


def _kind(usage: str, insn: Callable[[int, int, int], Insn]) -> _Kind:
    words = usage.split()
    return _Kind(tuple(word.strip("[]") for word in words), sum("[" not in word for word in words), insn)


OPERATIONS = {
    "mmap": _kind("ID SIZE [OFF]", lambda at, size, _: mmap(at, size)),
    "mmapr": _kind("ID SIZE [OFF]", lambda at, size, _: mmap(at, size, writable=False)),
    "mmapsh": _kind("ID SIZE [OFF]", lambda at, size, _: mmap_file(at, size, 0, shared=True)),
    "mmapfile": _kind("ID SIZE [OFF]", lambda at, size, _: mmap_file(at, size, 0)),
    "touch": _kind("ID OFF LEN [STRIDE]", lambda at, length, stride: touch(at, length, stride or PAGE_SIZE)),
    "read": _kind("ID OFF LEN [STRIDE]", lambda at, length, stride: read(at, length, stride or PAGE_SIZE)),
    "dontneed": _kind("ID OFF LEN [STEP]", dontneed),
    "free": _kind("ID OFF LEN [STEP]", free),
    "remove": _kind("ID OFF LEN [STEP]", remove),
    "munmap": _kind("ID OFF LEN [STEP]", munmap),
    "mark": _kind("", lambda *_: MARK),
}
# fmt: off
LATER = frozenset((
    "mmapthp", "cold", "pageout", "populate", "populate_read", "willneed",
    "dontneed_locked", "hugepage", "nohugepage", "collapse", "guard", "unguard", "dontfork", "wipeonfork", "vdontneed",
    "mprotect", "mremap", "mremapmv", "mlock", "munlock", "fork", "forkhold", "reap", "forkdo",
))
# fmt: on


class TraceError(ValueError):
    """A trace that cannot be replayed. The text is one line: FILE:LINE: what is wrong."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class Operation(NamedTuple):
    """One line of a trace: its number, its text without comment, and the instruction it stands for."""

    line: int
    text: str
    insn: Insn


class Trace(NamedTuple):
    """A parsed trace. `numbered`: it came compressed, and so its rows carry line numbers instead of texts.

    `files` are the sizes, in pages, of the files: one for each operation that maps one, or shared memory.
    """

    operations: list[Operation]
    numbered: bool
    files: list[int]


class _Problem(ValueError):
    """What is wrong with a line, before it is known where the line stands."""


def _quote(word: str) -> str:
    """A word of the user's in a message: printable, and not too long."""
    return ascii(word if len(word) <= 40 else word[:37] + "...")


def _number(name: str, word: str) -> int:
    """The value of one operand."""
    found = _NUMBER.fullmatch(word)
    if found is None:
        raise _Problem(f"{name} {_quote(word)} is not a number; known: decimal or 0x, with K, M, G or p (4 KiB)")
    digits, unit = found.groups()
    value = int(digits, 16 if digits.startswith("0x") else 10) * _UNITS[unit]
    if value > USER_SPACE:
        raise _Problem(f"{name} {_quote(word)} does not fit into user space; known: up to {USER_SPACE:#x}")
    return value


def _operands(name: str, kind: _Kind, words: list[str]) -> dict[str, int]:
    """The operands of one operation by name."""
    if not kind.required <= len(words) <= len(kind.operands):
        optional = [f"[{operand}]" for operand in kind.operands[kind.required :]]
        wants = " ".join([*kind.operands[: kind.required], *optional]) or "no operands"
        raise _Problem(f"'{name}' takes {wants}, not {len(words)} operand{'' if len(words) == 1 else 's'}")
    return {operand: _number(operand, word) for operand, word in zip(kind.operands, words, strict=False)}


def _instruction(words: list[str]) -> Insn:
    """The instruction for one line."""
    name = words[0]
    kind = OPERATIONS.get(name)
    if kind is None:
        problem = f"'{name}' is not there yet" if name in LATER else f"unknown operation {_quote(name)}"
        raise _Problem(f"{problem}; known: {', '.join(OPERATIONS)}")
    operands = _operands(name, kind, words[1:])
    window = WINDOWS + operands.get("ID", 0) * WINDOW
    at = window + operands.get("OFF", 0)
    if window >= USER_SPACE:
        raise _Problem(f"ID {_quote(words[1])} lies outside of user space; known: 0 to {LAST_ID}")
    if at > USER_SPACE:
        raise _Problem(f"OFF {operands['OFF']:#x} lies outside of user space; known: up to {USER_SPACE - window:#x}")
    length = operands.get("SIZE", operands.get("LEN", 0))
    step = operands.get("STRIDE", operands.get("STEP"))
    if step == 0:
        raise _Problem(f"{kind.operands[-1]} 0 leads nowhere; known: 1 and more")
    return kind.insn(at, length, step or 0)


def _with_file(insn: Insn, files: list[int]) -> Insn:
    """The instruction; if it maps a file, one of its own, whose size it adds to `files`."""
    if insn.op != Op.MMAP or insn.step == 0:
        return insn
    if len(files) == MAX_FILES:
        raise _Problem(f"the trace maps more than {MAX_FILES} files")
    files.append(-(-insn.length // PAGE_SIZE))
    return insn._replace(step=len(files))


def _text(line: bytes) -> str:
    """What a line says, without its comment."""
    if len(line) > LONGEST_LINE:
        raise _Problem(f"the line is longer than {LONGEST_LINE} bytes")
    return line.decode().partition("#")[0].strip().replace("\t", " ")


def parse(path: str | Path) -> Trace:
    """Read a trace, compressed if its name ends in .gz. Raises TraceError for the first thing that is wrong."""
    name = str(path)
    numbered = name.endswith(".gz")
    operations: list[Operation] = []
    files: list[int] = []
    number = 1
    try:
        with gzip.open(name) if numbered else open(name, "rb") as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                if text := _text(line):
                    operations.append(Operation(number, text, _with_file(_instruction(text.split()), files)))
                number += 1
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: {error.reason} at byte {error.start + 1} of the line"
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problem = f"corrupt gzip: {error}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except ValueError as error:  # _Problem, or a name that no file can have
        problem = str(error)
    else:
        return Trace(operations, numbered, files)
    raise TraceError(name, number, problem)
