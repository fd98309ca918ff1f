"""agree: do random traces of the whole language give on this host's kernel what they give in the emulator?

Each trace is recorded and replayed. A difference that is not explained by what is known of the host is shrunk to the
smallest trace that still differs. That is shown with both figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from scenarios.session import errors, report, session
from scenarios.session.options import engine_options, number, some_of
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from scenarios.traces.agreement import Difference, differences, host_policy, largest
from scenarios.traces.random_trace import NEVER, random_lines
from scenarios.traces.recorder import NotTheSame, record
from scenarios.traces.trace import Trace, TraceError, parse_text
from scenarios.traces.verbs import FORKS, VERBS, WORDS
from workers.host.fault_loop import HostUnavailable
from workers.host.kernel_facts import has_protection_keys
from workers.telling.postmortem import MachineFailed

SHRINK_TRIES = 200
ERRNO_COLUMN, VALUE_COLUMN = 3, 6


@dataclass
class Outcome:
    """One trace on both sides: its rows there and here, and where they differ; why it was not compared, if so."""

    lines: list[str]
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    different: list[Difference] = field(default_factory=list)
    skipped: str = ""

    @property
    def unexplained(self) -> bool:
        """True if something differs that depends on nothing known."""
        return any(not difference.known for difference in self.different)


def compare(lines: list[str], policy: str) -> Outcome:
    """One trace, recorded and replayed. Raises HostUnavailable if nothing can be recorded at all."""
    try:
        trace = parse_text(lines)
    except TraceError as error:
        return Outcome(lines, skipped=str(error))
    try:
        ours = _replayed(trace, policy)
        theirs = record(trace, 1)
        different = differences(trace, ours, theirs, policy)
        if any(not one.known for one in different):  # is it the host's own doing?
            theirs = record(trace, 3)
            different = differences(trace, ours, theirs, policy)
    except (NotTheSame, HostUnavailable, MachineFailed) as error:
        return Outcome(lines, skipped=str(error))
    return Outcome(lines, ours, theirs, different)


def _replayed(trace: Trace, policy: str) -> list[str]:
    """The rows of a replay; a machine that was not sound has one more, which no host has."""
    from scenarios.traces.replay import replay_trace

    result = replay_trace(trace, policy, protection_keys=has_protection_keys())
    broken = [f"check {name}: {count} violations" for name, count in result.checks.items() if count]
    if result.violation is not None:
        broken.append(f"violation: {result.violation}")
    return [*result.rows, *broken]


def shrink(lines: list[str], fails: Callable[[list[str]], bool], tries: int = SHRINK_TRIES) -> list[str]:
    """The smallest trace that still fails, by leaving out lines, then by making what a child does the parent's."""
    size = max(1, len(lines) // 2)
    while size and tries > 0:
        at = 0
        while at < len(lines) and tries > 0:
            candidate = lines[:at] + lines[at + size :]
            tries -= 1
            if candidate and fails(candidate):
                lines = candidate
            else:
                at += size
        size //= 2
    for at, line in enumerate(lines):
        shorter = (
            line.removeprefix("forkdo ") if line.startswith("forkdo ") else line.partition(" ")[2].partition(" ")[2]
        )
        if line.startswith(("forkdo ", "in ")) and tries > 0:
            tries -= 1
            candidate = [*lines[:at], shorter, *lines[at + 1 :]]
            if fails(candidate):
                lines = candidate
    return lines


class Coverage:
    """Which verbs, words and errnos the traces have had."""

    def __init__(self) -> None:
        self.verbs: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.errnos: Counter[int] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one trace."""
        for line in outcome.lines:
            for name, *rest in _verbs(line.split()):
                self.verbs[name] += 1
                self.words.update(f"{operand} {word}" for operand, word in _words(name, rest))
        for row in outcome.theirs:
            self.errnos[-int(row.split("\t")[ERRNO_COLUMN])] += 1

    def never(self) -> list[str]:
        """What none of them had."""
        words = [f"{operand} {word}" for operand, known in WORDS.items() for word in known]
        return [
            *(verb for verb in VERBS if not self.verbs[verb] and verb not in NEVER[1:]),
            *(word for word in words if not self.words[word]),
        ]

    def as_json(self) -> dict[str, dict[str, int]]:
        """All counts."""
        return {
            "verbs": dict(self.verbs),
            "words": dict(self.words),
            "errnos": {str(errno): count for errno, count in sorted(self.errnos.items())},
        }


def _verbs(words: list[str]) -> Iterator[list[str]]:
    """The verb of a line with its operands, and those that it leads to."""
    yield words
    inner = words[2:] if words[0] == "in" else words[1:] if words[0] == "forkdo" else []
    if inner:
        yield from _verbs(inner)


def _words(name: str, operands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The operands of a verb that are words."""
    if name in ("in", *(() if name not in FORKS else ("forkdo",))):
        return
    for operand, text in zip(VERBS[name].operands, operands, strict=False):
        if operand in WORDS:
            yield from ((operand, word) for word in text.split(","))


def run(rec: Record, count: int, verbs: Sequence[str], seed: int, policy: str) -> None:
    """Compare `count` traces. The record gets a row for each that differs, and in the end one with the sums."""
    outcomes: list[Outcome] = []
    coverage = Coverage()
    differ = 0
    try:
        with Progress("agree") as progress:
            for i in range(count):
                outcome = compare(random_lines(seed, i, verbs), policy)
                coverage.add(outcome)
                outcomes.append(outcome)
                rec.rows += [_row(i, outcome, policy)] if outcome.different else []
                differ += bool(outcome.unexplained)
                progress.update((i + 1) / count, f"{differ} differ")
    finally:
        rec.add_checks({"differs": sum(outcome.unexplained for outcome in outcomes)})
        covered = {"coverage": coverage.as_json(), "never": coverage.never()}
        rec.rows.append({**_sums(outcomes), "policy": policy, **covered})


def _sums(outcomes: list[Outcome]) -> dict[str, int]:
    """How many traces and lines there were, and how many agree."""
    compared = [outcome for outcome in outcomes if not outcome.skipped]
    lines = sum(len(outcome.theirs) for outcome in compared)
    different = sum(len(outcome.different) for outcome in compared)
    return {
        "traces": len(outcomes),
        "not_compared": len(outcomes) - len(compared),
        "agree": sum(not outcome.different for outcome in compared),
        "explained": sum(bool(outcome.different) and not outcome.unexplained for outcome in compared),
        "differ": sum(outcome.unexplained for outcome in compared),
        "lines": lines,
        "lines_agree": lines - different,
    }


def _row(at: int, outcome: Outcome, policy: str) -> dict[str, Any]:
    """What is told of a trace that differs; if nothing explains that, the smallest that does."""
    if outcome.unexplained:
        smallest = compare(shrink(outcome.lines, lambda lines: compare(lines, policy).unexplained), policy)
        outcome = smallest if smallest.unexplained else outcome
    first = next((one for one in outcome.different if not one.known), outcome.different[0])
    return {
        "trace": at,
        "lines": outcome.lines,
        "line": first.row + 1,
        "host": first.theirs,
        "ptelab": first.ours,
        "known": first.known,
        "differing_lines": len(outcome.different),
        "largest_difference": largest(outcome.different),
    }


def show(rec: Record) -> None:
    """Print the differences, what was covered, and the sums."""
    *rows, sums = rec.rows
    for row in rows:
        if row["known"]:
            continue
        report.write(f"trace {row['trace']} differs in {row['differing_lines']} lines, {row['largest_difference']}:")
        for i, line in enumerate(row["lines"], 1):
            report.write(f"  {'>' if i == row['line'] else ' '} {line}")
        report.write(f"    this host  {row['host']}")
        report.write(f"    ptelab     {row['ptelab']}")
        report.write()
    covered = sums["coverage"]
    report.write(
        f"{sums['traces']:,} traces: {sums['agree']:,} agree on every line, {sums['explained']:,} but for what is known"
        f" of the host, {sums['differ']:,} differ, {sums['not_compared']:,} not compared"
    )
    report.write(f"{sums['lines']:,} lines: {sums['lines_agree']:,} agree, under {sums['policy']}")
    report.write(f"covered: {len(covered['verbs'])} of {len(VERBS)} verbs, {len(covered['words'])} words of operands")
    report.prose("errnos:  " + ", ".join(f"{errno} {count:,} x" for errno, count in covered["errnos"].items()))
    if sums["never"]:
        report.prose(f"never:   {', '.join(sums['never'])}")


@click.command("agree")
@click.option("--count", default="1000", metavar="N", callback=number(1, 10_000_000, True), help="Traces. [1000]")
@click.option("--verbs", default="", **some_of("verb", VERBS), help="Only these verbs, separated by commas. [all]")
@engine_options
def command(count: float, verbs: list[str], lab: Any) -> int:
    """Random memory traces on this host's kernel and in the emulator: where do they differ?"""
    policy = host_policy()
    try:
        record(parse_text(["mark"]), 1)
    except HostUnavailable as error:
        raise errors.UserError(str(error)) from None

    rec = Record("agree", lab.seed)
    return session.conduct(rec, lab, lambda: run(rec, int(count), verbs, lab.seed, policy), lambda: show(rec))
