"""What is wrong, posted and merged, each defect shown: `ptelab findings` writes docs/findings.md.

A defect names a race of the zoo, whose knob puts the posted behaviour back. The explorer makes its schedule short and
tells it, and says how far the same scene is clean with the piece in place. Real processes then show how soon they meet
it. A loss is a defect that needs no piece removed: the protocol has it, and a scenario measures it.
"""

from __future__ import annotations

import textwrap
from typing import Any

import click

from scenarios.proofs.defects import ABOUT, DEFECTS, IDS, LOSSES, REST, Defect, Loss
from scenarios.proofs.finding import Finding, Plan, enter, explore
from scenarios.proofs.subject import subject
from scenarios.session import report, session
from scenarios.session.child import run_ptelab
from scenarios.session.files import output_file, write_file
from scenarios.session.options import Lab, number, output_options, some_of
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.telling.columns import hanging
from workers.telling.story import story_of, story_text

SEARCH, PROOF = 60.0, 6.0  # seconds to find one race, and to show its scene clean
HEADER = (
    "finding",
    "where",
    "in",
    "seen as",
    "preemptions, steps",
    "processes: caught",
    "piece in place",
    "fixed",
)


def show_defect(defect: Defect, seeds: int, seconds: float) -> tuple[Finding, Finding, dict[str, Any]]:
    """The defect found by the explorer, its scene with the piece in place, and the row of real processes."""
    of = subject(f"race/{defect.race}")
    found = explore(of, Plan(True, of.memory, of.bound, seconds=seconds, targets=() if of.schedule else defect.near))
    clean = explore(of, Plan(False, of.memory, of.bound, seconds=PROOF))
    _, record = run_ptelab("races", "--only", defect.race, "--seeds", str(seeds))
    return found, clean, record["rows"][0]


def _cells(defect: Defect, found: Finding, clean: Finding, row: dict[str, Any]) -> list[str]:
    example = found.example
    short = f"{example.preemptions}, {len(example.choices)}" if example is not None else "not met"
    caught = f"{row['caught']} of {row['seeds']}"
    seen = found.what or row["detector"] or "-"
    return [defect.id, defect.where, defect.versions, seen, short, caught, clean.verdict.word, defect.fixed]


def section(defect: Defect, found: Finding, clean: Finding, row: dict[str, Any]) -> list[str]:
    """The lines of one defect in the page."""
    lines = [f"## {defect.id}: {defect.title}", "", *_wrapped(f"{defect.where} ({defect.versions}). {defect.effect}")]
    lines += ["", *_wrapped(f"Fixed: {defect.fixed}. {defect.known}"), ""]
    if found.by_hand:
        lines += ["No search of a minute comes to it; the schedule is written by hand:", ""]
    if found.example is not None:
        lines += [f"    $ {found.trace.command}", ""]
        told = [part for line in found.lines for part in hanging(line)]
        lines += [f"    {line}".rstrip() for line in [*told, "", *story_text(story_of(found.trace))]]
    else:
        lines.append("The explorer has not met it in its time: its scene is too long.")
    text = f"With the piece in place, `ptelab explore race/{defect.race} --fixed`: {clean.verdict.word}, "
    text += f"{_proved(clean)}. Real processes, `ptelab run race/{defect.race}`: caught with "
    text += f"{row['caught']} of {row['seeds']} seeds as {row['detector']}."
    return [*lines, "", *_wrapped(text), ""]


def _proved(clean: Finding) -> str:
    """How much was run of what does not depend on the machine's speed."""
    verdict = clean.verdict
    done = verdict.differ or (verdict.bounds[verdict.completed] if verdict.completed >= 0 else 0)
    return f"{done:,} executions"


def _wrapped(text: str) -> list[str]:
    """A paragraph of the page."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def measured(loss: Loss) -> tuple[list[str], list[dict[str, Any]]]:
    """What the scenario of a loss printed, without the checks that hold, and its rows."""
    printed, record = run_ptelab("run", *loss.scenario)
    return [line for line in printed.splitlines() if not line.endswith(" ok")], record["rows"]


def loss_section(loss: Loss, lines: list[str]) -> list[str]:
    """The lines of one loss in the page."""
    said = ["", f"    $ ptelab run {' '.join(loss.scenario)}", "", *(f"    {line}".rstrip() for line in lines), ""]
    return [f"## {loss.id}: {loss.title}", "", *_wrapped(loss.text), *said]


def page(told: list[tuple[Defect, Finding, Finding, dict[str, Any]]], losses: list[tuple[Loss, list[str]]]) -> str:
    """docs/findings.md."""
    table = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    table += ["| " + " | ".join(_cells(*one)) + " |" for one in told]
    sections = [line for one in told for line in section(*one)]
    sections += [line for one in losses for line in loss_section(*one)]
    return "\n".join([ABOUT, *table, "", *sections, REST])


@click.command("findings")
@click.option(
    "--only",
    default="",
    **some_of("finding", IDS),
    help="Findings, separated by commas. [all]",
)
@click.option(
    "--seeds", default="5", metavar="N", callback=number(1, 10_000, whole=True), help="Hunts with real processes. [5]"
)
@click.option(
    "--seconds",
    default=str(SEARCH),
    metavar="N",
    callback=number(1, 86_400),
    help="Seconds for each defect. [60]",
)
@click.option("--write", metavar="FILE", callback=output_file, help="Write the page (docs/findings.md).")
@output_options
def command(only: list[str], seeds: int, seconds: float, write: str | None, json_file: str | None) -> int:
    """Show each defect: its shortest schedule, and how soon real processes meet it."""
    named = set(only) or set(IDS)
    chosen = [defect for defect in DEFECTS if defect.id in named]
    lab = Lab(engine="explore", json_file=json_file, checks="online")
    lab.choose_engine()
    record = Record("findings", 0)
    told: list[tuple[Defect, Finding, Finding, dict[str, Any]]] = []
    losses: list[tuple[Loss, list[str]]] = []

    def body() -> None:
        with Progress("findings") as progress:
            for done, defect in enumerate(chosen):
                progress.update(done / len(chosen), f"{defect.id}, {defect.race}")
                told.append((defect, *show_defect(defect, int(seeds), seconds)))
                _enter(record, *told[-1])
            for loss in LOSSES:
                if loss.id in named:
                    progress.update(1.0, f"{loss.id}, {loss.scenario[0]}")
                    lines, rows = measured(loss)
                    losses.append((loss, lines))
                    record.rows += [{"finding": loss.id, **row} for row in rows]
        if write is not None and (record.found or record.inconclusive):
            note("the page is not written: not all is as expected")
        elif write is not None:
            write_file(write, page(told, losses))

    return session.conduct(record, lab, body, lambda: _show(told, losses))


def _enter(record: Record, defect: Defect, found: Finding, clean: Finding, row: dict[str, Any]) -> None:
    """The rows of one defect. What is found is expected; not to find it anywhere, or in the clean scene, is not."""
    scratch = Record("", 0)
    enter(scratch, found)
    enter(scratch, clean)
    record.rows += [{"finding": defect.id, **one} for one in [*scratch.rows, row]]
    if found.example is None and not row["caught"]:
        record.found.append(f"{defect.id}: not shown, neither by the explorer nor by processes")
    if not clean.verdict.passed and clean.what is None:
        record.inconclusive = True
    elif not clean.verdict.passed:
        record.found.append(f"{defect.id}: {clean.what or clean.verdict.word} with the piece in place")


def _show(told: list[tuple[Defect, Finding, Finding, dict[str, Any]]], losses: list[tuple[Loss, list[str]]]) -> None:
    shown = [0, 3, 4, 5, 6]  # the others are long, and in the page
    report.table([HEADER[i] for i in shown], [[_cells(*one)[i] for i in shown] for one in told])
    for defect, found, *_ in told:
        report.write(f"{defect.id}  {defect.title}")
        if found.trace is not None:
            report.write(f"    {found.trace.command}")
    for loss, lines in losses:
        report.write("\n".join([f"{loss.id}  {loss.title}", *(f"    {line}".rstrip() for line in lines)]))
    report.write()
