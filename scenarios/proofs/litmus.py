"""Litmus tests of memory models, run by the explorer and held to the verdicts of their owners.

    ptelab litmus FILE...              every test of the files under sc, tso, pso, arm
    ptelab litmus FILE --memory tso    under one model

What a verdict forbids must not be reached under a model that is stronger than its owner's; what x86-TSO allows must be
reached under tso. What another owner allows and is not reached is coverage, counted by reason.

Exit status: 0 all verdicts hold, 1 one does not, 2 usage, 3 internal, 4 a test needs more executions than --executions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from emulator import engine
from emulator.engines.access_log import TooManyTasks
from scenarios.session import errors, options, report, session
from scenarios.session.files import input_file
from scenarios.session.options import MODELS
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from workers.litmus.expression import BadTest
from workers.litmus.record import read

MOST = 100_000
LARGEST = 256 << 20  # bytes of a file
SHOWN = 20  # verdicts that do not hold
HELP = str(__doc__).replace("\n\n    ptelab", "\n\n\b\n    ptelab")  # click keeps such lines as they are
# what a stronger model lacks, by the first weaker one that shows the end
LACKS = {
    "tso": "a store is never delayed",
    "pso": "stores stay in order",
    "arm": "loads stay in order, in front of stores behind them",
}
# why no model shows it: what the test uses, and what is promised of it here
STRONGER = {
    "plain": "plain accesses are made as they stand, by no compiler",
    "rcu-gp": "a read section orders the accesses in it",
    "srcu": "a read section orders the accesses in it",
    "spinlock": "taking a lock is a full barrier",
}
ONE_MEMORY = "all CPUs see a store at once"


def lines_of(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line that is not blank with where it stands. Raises UserError."""
    for file in files:
        try:
            with Path(file).open("rb") as opened:
                text = opened.read(LARGEST + 1)
        except OSError as error:
            raise errors.UserError(f"cannot read {file}: {error.strerror}") from None
        if len(text) > LARGEST:
            raise errors.UserError(f"{file} has more than {LARGEST >> 20} MiB")
        for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
            if line.strip():
                yield line, f"{file}:{number}"


def tests_of(files: Sequence[str]) -> list[Any]:
    """The tests of some files. Raises UserError: for the first line that is no test, for files without any."""
    try:
        tests = [read(line, source) for line, source in lines_of(files)]
    except BadTest as error:
        raise errors.UserError(str(error)) from None
    if not tests:
        raise errors.UserError(f"no litmus test in {', '.join(files)}")
    return tests


def run_all(tests: Sequence[Any], memories: Sequence[str], most: int, record: Record) -> list[Any]:
    """Run every test under every model; enter the rows and what does not hold. Raises UserError."""
    from workers.litmus.judge import run

    results = []
    with Progress("litmus") as bar:
        for done, test in enumerate(tests):
            for memory in memories:
                try:
                    result = run(test, memory, most)
                except (BadTest, TooManyTasks) as error:
                    raise errors.UserError(f"{test.source}: {test.name} under {memory}: {error}") from None
                results.append(result)
                record.rows.append(result.row())
                record.inconclusive |= not result.complete
                if result.agrees is False:
                    record.found.append(f"{test.name} under {memory} ({test.source}): {result.why}")
            bar.update((done + 1) / len(tests), test.name)
    return results


def missing(results: Sequence[Any]) -> dict[str, Counter[str]]:
    """Per model: ends that a verdict allows and that are not reached, by what the model lacks for them."""
    shown = {(one.test.source, one.memory) for one in results if one.reachable}
    models = list(dict.fromkeys(one.memory for one in results))
    why: dict[str, Counter[str]] = {memory: Counter() for memory in models}
    for one in results:
        if one.test.expected and one.reachable is False and one.agrees is not None:
            weaker = [memory for memory in MODELS[MODELS.index(one.memory) + 1 :] if memory in models]
            first = next((memory for memory in weaker if (one.test.source, memory) in shown), None)
            used = (text for name, text in STRONGER.items() if name in one.test.uses)
            why[one.memory][LACKS[first] if first else next(used, ONE_MEMORY)] += 1
    return why


def _row(owner: str, memory: str, mine: Sequence[Any]) -> list[str]:
    """One line of the table: the tests of one owner under one model."""
    judged = [one for one in mine if one.agrees is not None]
    allowed = [one for one in judged if one.test.expected]
    reached = sum(one.reachable is True for one in allowed)
    share = f"{100 * reached / len(allowed):.1f} %" if allowed else "-"
    wrong = sum(one.agrees is False for one in judged)
    counts = (len(mine), len(judged) - len(allowed), len(allowed), reached)
    work = (sum(len(one.ends) for one in mine), sum(one.executions for one in mine))
    return [f"{owner or '-'}, {memory}", *(f"{n:,}" for n in counts), share, str(wrong), *(f"{n:,}" for n in work)]


def show(results: Sequence[Any], record: Record) -> None:
    """The tables: verdicts by owner and model, then what is allowed and not reached, by reason."""
    header = ["verdict, model", "tests", "forbidden", "allowed", "reached", "coverage", "wrong", "ends", "executions"]
    groups = [(owner, memory) for owner in dict.fromkeys(one.test.model for one in results) for memory in MODELS]
    mine = {of: [one for one in results if (one.test.model, one.memory) == of] for of in groups}
    report.table(header, [_row(*of, found) for of, found in mine.items() if found])
    why = missing(results)
    if reasons := sorted({reason for counts in why.values() for reason in counts}):
        rows = [[reason, *(f"{why[memory][reason]:,}" for memory in why)] for reason in reasons]
        report.table(["allowed and not reached, since here", *why], rows)
    for text in record.found[:SHOWN]:
        report.write(f"WRONG  {text}")
    if len(record.found) > SHOWN:
        report.write(f"       and {len(record.found) - SHOWN:,} more (--json has them)")


@click.command("litmus", help=HELP, short_help="Hold the explorer to published verdicts on memory models.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", callback=input_file)
@click.option(
    "--memory",
    "memories",
    default=",".join(MODELS),
    **options.some_of("memory model", MODELS),
    help="The models to run under. [all]",
)
@click.option(
    "--executions", default=str(MOST), metavar="N", callback=options.number(1, 1 << 60, whole=True),
    help=f"Executions of a test under a model, at most. [{MOST}]",
)  # fmt: skip
@options.output_options
def litmus_command(files: tuple[str, ...], memories: list[str], executions: int, json_file: str | None) -> int:
    """Run it; the exit status."""
    if not memories:
        raise errors.UserError(f"no memory model given; known: {', '.join(MODELS)}")
    lab = options.Lab(engine="explore", json_file=json_file, checks="online")
    lab.choose_engine()
    tests = tests_of(files)
    record = Record("litmus", 0)
    results: list[Any] = []

    def body() -> None:
        engine.prepare()
        results.extend(run_all(tests, memories, int(executions), record))

    return session.conduct(record, lab, body, lambda: show(results, record))
