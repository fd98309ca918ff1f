"""Memory traces: text in, instructions out.

Every ID owns a window of the address space that starts at 16 TiB + ID x 64 GiB; OFF counts from there. `#` starts a
comment. What the operands allow is checked here; what Linux answers with an errno is left to the emulated kernel.
"""

from __future__ import annotations

import gzip
import os
import re
import select
import stat
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from emulator import uapi
from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EBUS, EFAULT, Op
from workers.programs.program import (
    MARK,
    PROT,
    REAP,
    Insn,
    advise,
    fork,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap,
    mremap_fixed,
    munlock,
    munmap,
    process_madvise,
    read,
    touch,
)

USER_SPACE = 1 << 47
WINDOWS, WINDOW = 16 << 40, 64 << 30  # where window 0 begins, and how far apart they are
LAST_ID = (USER_SPACE - WINDOWS) // WINDOW - 1
LONGEST_LINE = 4096
MOST_OPERATIONS, MOST_LINES = 2_000_000, 20_000_000  # a file of 10 MB may unpack to 10 GB
PIPE_SECONDS = 10
MAX_FILES = 255  # what the instruction has room for

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "p": PAGE_SIZE}
_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGp]?)")


class _Kind(NamedTuple):
    """One kind of operation: its operands, how many it needs, and the instruction.

    That is made of an address, a length, and what else there is: step, protection, or where to, as an address or what
    the size was before.
    """

    operands: tuple[str, ...]
    required: int
    insn: Callable[[int, int, Any], Insn]


def _kind(usage: str, insn: Callable[[int, int, Any], Insn]) -> _Kind:
    words = usage.split()
    return _Kind(tuple(word.strip("[]") for word in words), sum("[" not in word for word in words), insn)


def _advice(advice: int) -> _Kind:
    return _kind("ID OFF LEN [STEP]", partial(advise, advice))


OPERATIONS = {
    "mmap": _kind("ID SIZE [OFF]", lambda at, size, _: mmap(at, size)),
    "mmapr": _kind("ID SIZE [OFF]", lambda at, size, _: mmap(at, size, writable=False)),
    "mmapthp": _kind("ID SIZE [OFF]", lambda at, size, _: mmap(at, size, huge=True)),
    "mmapsh": _kind("ID SIZE [OFF]", lambda at, size, _: mmap_file(at, size, 0, shared=True)),
    "mmapfile": _kind("ID SIZE [OFF]", lambda at, size, _: mmap_file(at, size, 0)),
    "touch": _kind("ID OFF LEN [STRIDE]", lambda at, length, stride: touch(at, length, stride or PAGE_SIZE)),
    "read": _kind("ID OFF LEN [STRIDE]", lambda at, length, stride: read(at, length, stride or PAGE_SIZE)),
    "dontneed": _advice(uapi.MADV_DONTNEED),
    "free": _advice(uapi.MADV_FREE),
    "cold": _advice(uapi.MADV_COLD),
    "pageout": _advice(uapi.MADV_PAGEOUT),
    "populate": _advice(uapi.MADV_POPULATE_WRITE),
    "populate_read": _advice(uapi.MADV_POPULATE_READ),
    "willneed": _advice(uapi.MADV_WILLNEED),
    "remove": _advice(uapi.MADV_REMOVE),
    "dontneed_locked": _advice(uapi.MADV_DONTNEED_LOCKED),
    "guard": _advice(uapi.MADV_GUARD_INSTALL),
    "unguard": _advice(uapi.MADV_GUARD_REMOVE),
    "hugepage": _advice(uapi.MADV_HUGEPAGE),
    "nohugepage": _advice(uapi.MADV_NOHUGEPAGE),
    "collapse": _advice(uapi.MADV_COLLAPSE),
    "dontfork": _advice(uapi.MADV_DONTFORK),
    "wipeonfork": _advice(uapi.MADV_WIPEONFORK),
    "vdontneed": _kind("ID OFF LEN STEP", partial(process_madvise, uapi.MADV_DONTNEED)),
    "munmap": _kind("ID OFF LEN [STEP]", munmap),
    "mprotect": _kind("ID OFF LEN PROT", mprotect),
    "mremap": _kind("ID NEWSIZE", lambda at, size, before: mremap(at, before, size)),
    "mremapmv": _kind("ID OFF LEN DSTID DSTOFF", mremap_fixed),
    "mlock": _kind("ID OFF LEN", lambda at, length, _: mlock(at, length)),
    "munlock": _kind("ID OFF LEN", lambda at, length, _: munlock(at, length)),
    "fork": _kind("", lambda *_: fork()),
    "forkhold": _kind("", lambda *_: fork(hold=True)),
    "forkdo": _kind("OPERATION", lambda *_: fork(1)),
    "reap": _kind("", lambda *_: REAP),
    "mark": _kind("", lambda *_: MARK),
}
FORKS = ("fork", "forkhold", "forkdo", "reap")


class TraceError(ValueError):
    """A trace that cannot be replayed. The text is one line: FILE:LINE: what is wrong."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class Operation(NamedTuple):
    """One line of a trace: its number, its text without comment, and the instruction it stands for, with the one that
    is a child's, if there is one."""

    line: int
    text: str
    insn: Insn
    child: Insn | None = None


class Trace(NamedTuple):
    """A parsed trace. `numbered`: it came compressed, and so its rows carry line numbers instead of texts.

    `files` are the sizes, in pages, of the files: one for each operation that maps one, or shared memory.
    """

    operations: list[Operation]
    numbered: bool
    files: list[int]

    def program(self) -> list[Insn]:
        """The instructions, each that stands for a line with the number of its row."""
        insns: list[Insn] = []
        for row, operation in enumerate(self.operations):
            insns.append(operation.insn._replace(record=row))
            insns += [operation.child] if operation.child else []
        return insns


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
    given = dict(zip(kind.operands, words, strict=False))
    if "PROT" in given and given["PROT"] not in PROT.values():
        raise _Problem(f"PROT {_quote(given['PROT'])} is no protection; known: {', '.join(PROT.values())}")
    return {operand: _number(operand, word) for operand, word in given.items() if operand != "PROT"}


def _window(word: str, number: int, offset: int, off: str) -> int:
    """The address of an offset in the window of an ID."""
    window = WINDOWS + number * WINDOW
    if window >= USER_SPACE:
        raise _Problem(f"ID {_quote(word)} lies outside of user space; known: 0 to {LAST_ID}")
    if window + offset > USER_SPACE:
        raise _Problem(f"{off} {offset:#x} lies outside of user space; known: up to {USER_SPACE - window:#x}")
    return window + offset


def _instruction(words: list[str], sizes: dict[int, int]) -> Insn:
    """The instruction for one line; `sizes` is what was mapped last at the beginning of each window, by ID."""
    name = words[0]
    kind = OPERATIONS.get(name)
    if kind is None:
        raise _Problem(f"unknown operation {_quote(name)}; known: {', '.join(OPERATIONS)}")
    operands = _operands(name, kind, words[1:])
    length = operands.get("NEWSIZE", operands.get("SIZE", operands.get("LEN", 0)))
    at, other = 0, operands.get("STRIDE", operands.get("STEP", 0))
    if "ID" in operands:
        at = _window(words[1], operands["ID"], operands.get("OFF", 0), "OFF")
    if other == 0 and ("STRIDE" in operands or "STEP" in operands):
        raise _Problem(f"{kind.operands[-1]} 0 leads nowhere; known: 1 and more")
    if "PROT" in kind.operands:
        return kind.insn(at, length, words[-1])
    if "DSTID" in operands:
        other = _window(words[4], operands["DSTID"], operands["DSTOFF"], "DSTOFF")
    elif "NEWSIZE" in operands:
        other = sizes.get(operands["ID"], 0)
    if "NEWSIZE" in operands or ("SIZE" in operands and operands.get("OFF", 0) == 0):
        sizes[operands["ID"]] = length
    return kind.insn(at, length, other)


def _operation(line: int, text: str, sizes: dict[int, int]) -> Operation:
    """What one line means."""
    words = text.split()
    if words[0] != "forkdo":
        return Operation(line, text, _instruction(words, sizes))
    if len(words) == 1 or words[1] in FORKS:
        raise _Problem(f"'forkdo' takes an operation, not {_quote(words[1]) if len(words) > 1 else 'nothing'}")
    return Operation(line, text, fork(1), _instruction(words[1:], dict(sizes)))


def _with_file(operation: Operation, files: list[int]) -> Operation:
    """The operation; if it maps a file, one of its own, whose size it adds to `files`."""
    insn = operation.child or operation.insn
    if insn.op != Op.MMAP or insn.step == 0:
        return operation
    if len(files) == MAX_FILES:
        raise _Problem(f"the trace maps more than {MAX_FILES} files")
    files.append(-(-insn.length // PAGE_SIZE))
    insn = insn._replace(step=len(files))
    return operation._replace(child=insn) if operation.child else operation._replace(insn=insn)


def _text(line: bytes) -> str:
    """What a line says, without its comment."""
    if len(line) > LONGEST_LINE:
        raise _Problem(f"the line is longer than {LONGEST_LINE} bytes")
    return line.decode().partition("#")[0].strip().replace("\t", " ")


def _opened(name: str) -> IO[bytes]:
    """The file, unpacked if its name ends in .gz. Raises OSError; ValueError if it is a pipe that nobody writes to."""
    number = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer is opened as well
    stream = os.fdopen(number, "rb")
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        waiting = select.poll()
        waiting.register(number, select.POLLIN)
        if not waiting.poll(PIPE_SECONDS * 1000):
            stream.close()
            raise _Problem(f"a pipe to which nobody has written for {PIPE_SECONDS} s")
    os.set_blocking(number, True)
    if not name.endswith(".gz"):
        return stream
    packed = gzip.GzipFile(fileobj=stream)
    packed.myfileobj = stream  # type: ignore[assignment]  # closed with it
    return cast(IO[bytes], packed)


def parse(path: str | Path) -> Trace:
    """Read a trace, compressed if its name ends in .gz. Raises TraceError for the first thing that is wrong."""
    name = str(path)
    numbered = name.endswith(".gz")
    operations: list[Operation] = []
    files: list[int] = []
    sizes: dict[int, int] = {}
    number = 1
    try:
        with _opened(name) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                if number > MOST_LINES or len(operations) >= MOST_OPERATIONS:
                    raise _Problem(f"the trace is longer than {MOST_OPERATIONS:,} operations, {MOST_LINES:,} lines")
                if text := _text(line):
                    operations.append(_with_file(_operation(number, text, sizes), files))
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


def rows_of(trace: Trace, records: Any) -> list[str]:
    """The figures of each operation as text: with its line number if the trace is numbered, else with its line."""
    rows = []
    for at, record in zip(trace.operations, records, strict=False):
        vmpte, rss = int(record["pgtables_bytes"]) // 1024, int(record["rss_anon"]) * (PAGE_SIZE // 1024)
        error = -EFAULT if record["error"] == -EBUS else int(record["error"])  # a signal is a signal
        figures = f"{vmpte}\t{rss}\t{int(record['minflt'])}\t{error}"
        rows.append(f"{at.line}\t{figures}" if trace.numbered else f"{figures}\t{_child(record)}\t{at.text}")
    return rows


def _child(record: Any) -> str:
    """The figures of the child that an operation forked, empty if there was none."""
    if not record["child"]:
        return ""
    rss = int(record["child_rss_anon"]) * (PAGE_SIZE // 1024)
    return f"{int(record['child_pgtables_bytes']) // 1024}:{rss}:{int(record['child_minflt'])}"
