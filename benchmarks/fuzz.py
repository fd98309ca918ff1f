"""Hostile input: what parses traces, schedules, options and litmus files is given a corpus with pieces changed.

Each of them may refuse an input by its own exception, and do nothing else: no other exception, no hang, no more than a
gibibyte. An input is made from those of the corpus by edits that a seed names; a finding is told with the input.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import resource
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from scenarios.cli import ptelab
from scenarios.session.errors import UserError
from scenarios.traces.trace import TraceError, parse, parse_text
from workers.explorer import schedule
from workers.litmus import record
from workers.litmus.expression import BadTest

ROOT = Path(__file__).resolve().parent.parent
HANG_SECONDS = 10.0  # of one input
MOST_KB = 1 << 20  # of memory of the process that parses
KEPT = 5  # findings that are told
SHARE = 0.02  # of the traces that are read from a file, as bytes
PIECES = (
    "0",
    "-1",
    "1" * 5000,
    "0x",
    "9" * 19,
    "1e9",
    " ",
    "\t",
    ",",
    "@",
    ":",
    "=",
    "#",
    "\0",
    "é",
    "\ud800",
    "%s",
    "{}",
    "'",
    '"',
    "()",
    "[",
)


class Hang(Exception):
    """An input has taken HANG_SECONDS."""


@dataclass(frozen=True)
class Target:
    """A parser: how it is called, what it may raise, and the corpus its inputs are made from."""

    name: str
    parse: Callable[[str], Any]
    refuses: tuple[type[BaseException], ...]
    corpus: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """What became of the inputs of one target; `findings` are those that ended as they must not."""

    name: str
    inputs: int
    refused: int
    findings: list[str]
    peak_kb: int

    @property
    def failed(self) -> bool:
        """True if anything was found."""
        return bool(self.findings) or self.peak_kb > MOST_KB


def changed(rng: random.Random, corpus: Sequence[str]) -> str:
    """An input with a few edits, of single characters, words, lines, or pieces of another input."""
    text = rng.choice(corpus)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, until = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        until = min(until, at + rng.choice((0, 1, 4, 40)))
        other = rng.choice(corpus)
        start = rng.randrange(len(other) + 1)
        words = re.split(r"(\s+|[,@:=])", text)
        match rng.randrange(6):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[until:]
            case 1:
                text = text[:at] + text[until:]
            case 2:
                text = text[:at] + other[start : start + rng.choice((1, 8, 80))] + text[until:]
            case 3:
                words[rng.randrange(len(words))] = rng.choice(PIECES)
                text = "".join(words)
            case 4:
                text = text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0x3000)))) + text[until:]
            case _:
                text = text[:until] + text[at:until] * rng.choice((1, 2, 30)) + text[until:]
    return text


def _traces() -> Target:
    turn = random.Random(0)
    room = tempfile.NamedTemporaryFile(suffix=".trace")  # noqa: SIM115  # as long as the process

    def read(text: str) -> None:
        if turn.random() < SHARE:
            Path(room.name).write_bytes(text.encode(errors="surrogatepass"))
            parse(room.name)
        else:
            parse_text([line.strip() for line in text.splitlines() if line.strip()])

    files = sorted((ROOT / "tests" / "conformance" / "cases").glob("*.trace"))
    return Target("traces", read, (TraceError,), [path.read_text() for path in files])


def _schedules() -> Target:
    said = re.findall(r"`([^`]*@[^`]*/[^`]*=[^`]*)`", (ROOT / "docs" / "explore.md").read_text())
    return Target("schedules", schedule.parse, (schedule.DoesNotFit,), said or ["0@get/cpu.mm.1=1"])


def _litmus() -> Target:
    files = sorted((ROOT / "tests" / "workers" / "litmus").glob("*.jsonl"))
    lines = [line for path in files for line in path.read_text().splitlines()]
    return Target("litmus files", lambda text: record.read(text, "fuzz"), (BadTest,), lines)


def _options() -> Target:
    """A command line, its words on a line each: all is parsed, nothing is done."""

    def command_line(text: str) -> None:
        words = [word.replace("\0", "") for word in text.split("\n")]
        context = ptelab.make_context("ptelab", ["list"])
        group: click.Command = ptelab
        while isinstance(group, click.Group) and words:
            _, command, words = group.resolve_command(context, words)
            if command is None:
                return
            group = command
        with contextlib.redirect_stdout(io.StringIO()):  # --help
            group.make_context(group.name or "", words, parent=context)

    lines = [
        "run stress --seed 7 --policy none,refcount --cpus 4 --mms 2 --length 50 --perturb 8 --checks online",
        "run stress --kill 1@set_pte.locked:2 --stall 0@pmd_install.locked:0.5",
        "run multi-fault --cpus 1,8 --repeat 3 --seconds 1 --variant self --engine semaphore --knob no-flush",
        "run madvise-loop --size 50G --json -",
        "races --seeds 3",
        "explore race/no-flush --memory pso --bound 2 --executions 5",
        "replay FILE.trace --policy pt-reclaim",
        "litmus FILE --memory sc,tso",
        "agree --count 5 --seed 3",
    ]
    refuses = (UserError, click.ClickException, click.exceptions.Exit, click.Abort)
    return Target("options", command_line, refuses, [line.replace(" ", "\n") for line in lines])


TARGETS: dict[str, Callable[[], Target]] = {
    "traces": _traces,
    "schedules": _schedules,
    "litmus files": _litmus,
    "options": _options,
}


def _too_long(number: int, frame: Any) -> None:
    raise Hang(f"no end after {HANG_SECONDS:g} s")


def fuzzed(name: str, count: int, seed: int) -> Outcome:
    """Give `count` inputs to a target, in this process."""
    target, rng = TARGETS[name](), random.Random(f"{name} {seed}")
    refused, findings = 0, []
    before = signal.signal(signal.SIGALRM, _too_long)
    try:
        for _ in range(count):
            text = changed(rng, target.corpus)
            signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
            try:
                target.parse(text)
            except target.refuses:
                refused += 1
            except (Exception, SystemExit) as error:
                if len(findings) < KEPT:
                    findings.append(f"{type(error).__name__}: {str(error)[:80]} for {text[:200]!r}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return Outcome(name, count, refused, findings, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
