"""Memory traces: text in, instructions out.

Every ID owns a window of the address space that starts at 16 TiB + ID x 64 GiB; OFF counts from there. With @ for an
ID it is an address. `#` starts a comment. What the operands allow is checked here; what Linux answers with an errno is
left to the emulated kernel. verbs.py has the table of what can be said.
"""

from __future__ import annotations

import gzip
import os
import re
import select
import stat
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EBUS, EFAULT, Op
from scenarios.traces.verbs import (
    DANGEROUS,
    FIRST,
    FORKS,
    LENGTHS,
    LIMITS,
    LOOKS,
    MANY,
    NOT_IN_CHILDREN,
    VERBS,
    WORDS,
    Operands,
    Verb,
)
from workers.programs.program import Insn

USER_SPACE = 1 << 47
WINDOWS, WINDOW = 16 << 40, 64 << 30  # where window 0 begins, and how far apart they are
LAST_ID = (USER_SPACE - WINDOWS) // WINDOW - 1
ABSOLUTE = "@"
LONGEST_LINE = 4096
MOST_OPERATIONS, MOST_LINES = 2_000_000, 20_000_000  # a file of 10 MB may unpack to 10 GB
PIPE_SECONDS = 10
MAX_FILES = 255  # what the instruction has room for

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "p": PAGE_SIZE}
_NUMBER = re.compile(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGTp]?)")


class TraceError(ValueError):
    """A trace that cannot be replayed. The text is one line: FILE:LINE: what is wrong."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class When(NamedTuple):
    """Which thread did an operation, and from when to when, in microseconds."""

    thread: int
    begin: int
    end: int


class Operation(NamedTuple):
    """One line of a trace: its number, its text without comment and `on`, and its instructions. The last is what is
    done, those before it say which process does it. `value` is true if what that finds is a column. `when` is what `on`
    said.
    """

    line: int
    text: str
    insns: tuple[Insn, ...]
    value: bool = False
    when: When | None = None

    @property
    def insn(self) -> Insn:
        """The first instruction, which has the row."""
        return self.insns[0]

    @property
    def done(self) -> Insn:
        """The last instruction, which does what the operation says."""
        return self.insns[-1]


class Trace(NamedTuple):
    """A parsed trace. `numbered`: it came compressed, and so its rows carry line numbers instead of texts.

    `files` are the sizes, in pages, of the files. There is one for each operation that maps shared memory or a file of
    its own. Those that `file` declares are there, too; their rows are in `named`.
    """

    operations: list[Operation]
    numbered: bool
    files: list[int]
    named: tuple[int, ...] = ()

    def program(self) -> list[Insn]:
        """The instructions, each that stands for a line with the number of its row."""
        insns: list[Insn] = []
        for row, operation in enumerate(self.operations):
            insns += [operation.insn._replace(record=row), *operation.insns[1:]]
        return insns


class _Problem(ValueError):
    """What is wrong with a line, before it is known where the line stands."""


LONGEST_NUMBER = 40  # characters of a number that is read at all


def _quote(word: str) -> str:
    """A word of the user's in a message: printable, and not too long."""
    return ascii(word if len(word) <= 40 else word[:37] + "...")


def _number(name: str, word: str, wide: bool = False) -> int:
    """The value of one operand that is a number; if it may have 64 bits, as the kernel computes with it."""
    found = _NUMBER.fullmatch(word)
    if found is None or len(word) > LONGEST_NUMBER:
        raise _Problem(f"{name} {_quote(word)} is not a number; known: decimal or 0x, with K, M, G, T or p (4 KiB)")
    digits, unit = found.groups()
    value = int(digits, 16 if digits.startswith("0x") else 10) * _UNITS[unit]
    if name in LIMITS:
        if not FIRST.get(name, 0) <= value <= LIMITS[name]:
            raise _Problem(f"{name} {_quote(word)} is out of range; known: {FIRST.get(name, 0)} to {LIMITS[name]}")
    elif wide:
        if value >> 64:
            raise _Problem(f"{name} {_quote(word)} has more than 64 bits")
        value -= (value >> 63) << 64
    elif value > USER_SPACE:
        raise _Problem(f"{name} {_quote(word)} does not fit into user space; known: up to {USER_SPACE:#x}")
    return value


def _bits(name: str, word: str) -> int:
    """The value of one operand that is a word, or several."""
    known = WORDS[name]
    bits = 0
    for part in word.split(",") if name in MANY else [word]:
        if part not in known:
            kind = "protection" if name == "PROT" else "word for it"
            raise _Problem(f"{name} {_quote(part)} is no {kind}; known: {', '.join(known)}")
        bits |= known[part]
    return bits


def _window(word: str, number: int, offset: int, off: str) -> int:
    """The address of an offset in the window of an ID."""
    window = 0 if word == ABSOLUTE else WINDOWS + number * WINDOW
    if window >= USER_SPACE:
        raise _Problem(f"ID {_quote(word)} lies outside of user space; known: 0 to {LAST_ID}, or @ for none")
    if window + offset > USER_SPACE:
        raise _Problem(f"{off} {offset:#x} lies outside of user space; known: up to {USER_SPACE - window:#x}")
    return window + offset


def _operands(name: str, verb: Verb, words: list[str]) -> Operands:
    """The operands of one operation by name, with addresses in place of IDs and offsets."""
    optional = verb.operands[verb.required :]
    short = "DSTID" in optional and len(words) == len(verb.operands) - 1
    if not verb.required <= len(words) <= len(verb.operands) or short:
        wants = verb.usage or "no operands"
        raise _Problem(f"'{name}' takes {wants}, not {len(words)} operand{'' if len(words) == 1 else 's'}")
    given = dict(zip(verb.operands, words, strict=False))
    values: Operands = {}
    for operand, word in given.items():
        ids = operand in ("ID", "DSTID") and word == ABSOLUTE and "NEWSIZE" not in given
        wide = operand in LENGTHS and name not in LOOKS and "STRIDE" not in verb.operands and "STEP" not in given
        values[operand] = 0 if ids else _bits(operand, word) if operand in WORDS else _number(operand, word, wide)
    if "ID" in given:
        values["at"] = _window(given["ID"], values["ID"], values.get("OFF", 0), "OFF")
    if "DSTID" in given:
        values["to"] = _window(given["DSTID"], values["DSTID"], values["DSTOFF"], "DSTOFF")
    for operand in ("STRIDE", "STEP"):
        if values.get(operand) == 0:
            raise _Problem(f"{operand} 0 leads nowhere; known: 1 and more")
    if values.get("NUMBER") in DANGEROUS:
        raise _Problem(f"advice {values['NUMBER']} takes memory away from the whole machine")
    return values


class _Parser:
    """What the lines so far have said: sizes that were mapped last at the beginning of each window, and files."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.files: list[int] = []
        self.named: dict[int, int] = {}  # number of a file -> its row in `files`

    def _file(self, pages: int) -> int:
        """The row of one file more."""
        if len(self.files) == MAX_FILES:
            raise _Problem(f"the trace maps more than {MAX_FILES} files")
        self.files.append(pages)
        return len(self.files) - 1

    def _row(self, number: int) -> int:
        if number not in self.named:
            known = ", ".join(map(str, self.named)) or "none; `file N SIZE` makes one"
            raise _Problem(f"there is no file {number}; known: {known}")
        return self.named[number]

    def _with_file(self, name: str, given: Operands, insn: Insn) -> Insn:
        """The instruction, with the rows of files in place of their numbers."""
        if name == "file":
            if given["N"] in self.named:
                raise _Problem(f"file {given['N']} is there already")
            self.named[given["N"]] = self._file(-(-given["SIZE"] // PAGE_SIZE))
        elif name in ("trunc", "punch"):
            insn = insn._replace(addr=self._row(insn.addr))
        elif name == "mf":
            insn = insn._replace(step=given["PAGE"] << 8 | self._row(given["N"]) + 1)
        elif insn.op == Op.MMAP and insn.step:
            insn = insn._replace(step=self._file(-(-insn.length // PAGE_SIZE)) + 1)
        return insn

    def instruction(self, words: list[str], child: bool) -> tuple[Insn, bool]:
        """The instruction for one operation, and whether it finds a value. A child's sizes are its own."""
        name = words[0]
        verb = VERBS.get(name)
        if verb is None:
            raise _Problem(f"unknown operation {_quote(name)}; known: {', '.join(VERBS)}")
        given = _operands(name, verb, words[1:])
        size = given.get("NEWSIZE", given.get("SIZE"))
        if "NEWSIZE" in given:
            given["before"] = self.sizes.get(given["ID"], 0)
        if size is not None and "ID" in given and given.get("OFF", 0) == 0 and not child:
            self.sizes[given["ID"]] = size
        return self._with_file(name, given, verb.insn(given)), verb.value != ""

    def operation(self, line: int, text: str) -> Operation:
        """What one line means."""
        words = text.split()
        insns: list[Insn] = []
        when = None
        if words[0] == "on":
            when, words, text = _when(words, text)
        if words[0] == "in":
            if len(words) < 3 or words[2] in NOT_IN_CHILDREN:
                raise _Problem(f"'in' takes K OPERATION, not {_quote(' '.join(words[1:])) if words[1:] else 'nothing'}")
            insns.append(VERBS["in"].insn({"K": _number("K", words[1])}))
            words = words[2:]
        if words[0] == "forkdo":
            if len(words) == 1 or words[1] in FORKS:
                raise _Problem(f"'forkdo' takes an operation, not {_quote(words[1]) if len(words) > 1 else 'nothing'}")
            insns.append(VERBS["forkdo"].insn({}))
            words = words[1:]
        insn, value = self.instruction(words, bool(insns))
        return Operation(line, text, (*insns, insn), value, when)


def _when(words: list[str], text: str) -> tuple[When, list[str], str]:
    """What `on T BEGIN END` says, and the rest of the line as words and as text."""
    if len(words) < 5 or words[4] in ("on", "file"):
        given = _quote(" ".join(words[1:])) if words[1:] else "nothing"
        raise _Problem(f"'on' takes T BEGIN END OPERATION, not {given}")
    thread, begin, end = (_number(name, word) for name, word in zip(("T", "BEGIN", "END"), words[1:4], strict=True))
    if end < begin:
        raise _Problem(f"END {end} comes before BEGIN {begin}")
    return When(thread, begin, end), words[4:], text.split(None, 4)[4]


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
    parser = _Parser()
    number = 1
    try:
        with _opened(name) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                if number > MOST_LINES or len(operations) >= MOST_OPERATIONS:
                    raise _Problem(f"the trace is longer than {MOST_OPERATIONS:,} operations, {MOST_LINES:,} lines")
                if text := _text(line):
                    operations.append(parser.operation(number, text))
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
        return Trace(operations, numbered, parser.files, tuple(parser.named.values()))
    raise TraceError(name, number, problem)


def parse_text(lines: list[str], name: str = "trace") -> Trace:
    """A trace from its lines, without comments or blank ones. Raises TraceError."""
    parser = _Parser()
    operations = []
    for number, text in enumerate(lines, 1):
        try:
            operations.append(parser.operation(number, text))
        except _Problem as problem:
            raise TraceError(name, number, str(problem)) from None
    return Trace(operations, False, parser.files, tuple(parser.named.values()))


def rows_of(trace: Trace, records: Any) -> list[str]:
    """The figures of each operation as text: with its line number if the trace is numbered, else with its line. What an
    operation finds is a column behind that.
    """
    rows = []
    for at, record in zip(trace.operations, records, strict=False):
        vmpte, rss = int(record["pgtables_bytes"]) // 1024, int(record["rss_anon"]) * (PAGE_SIZE // 1024)
        error = -EFAULT if record["error"] == -EBUS else int(record["error"])  # a signal is a signal
        figures = f"{vmpte}\t{rss}\t{int(record['minflt'])}\t{error}"
        row = f"{at.line}\t{figures}" if trace.numbered else f"{figures}\t{_child(record)}\t{at.text}"
        rows.append(f"{row}\t{_value(at, record)}" if at.value else row)
    return rows


def _value(at: Operation, record: Any) -> int:
    """What an operation has found: nothing if it failed, but the errno of what answers with a number of bytes."""
    value = int(record["value"]) if record["error"] == 0 or at.done.op == Op.ACCESS_VM else 0
    return -EFAULT if value == -EBUS else value


def _child(record: Any) -> str:
    """The figures of the child that an operation forked, or that did it, empty if there was none."""
    if not record["child"]:
        return ""
    rss = int(record["child_rss_anon"]) * (PAGE_SIZE // 1024)
    return f"{int(record['child_pgtables_bytes']) // 1024}:{rss}:{int(record['child_minflt'])}"
