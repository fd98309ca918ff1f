"""What is wrong with the posted series, each defect shown: `ptelab findings` writes docs/findings.md.

A defect names a race of the zoo, whose knob puts the posted behaviour back. The explorer makes its schedule short and
tells it, and says how far the same scene is clean with the piece in place; real processes then show how soon they meet
it. A loss is a defect that needs no piece removed: the protocol has it, and a scenario measures it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import scenarios
from scenarios.proofs.finding import Finding, Plan, enter, explore
from scenarios.proofs.subject import subject
from scenarios.session import errors, report, session
from scenarios.session.options import Lab, number, some_of
from scenarios.session.progress import Progress
from scenarios.session.record import Record, check_writable, write_file

SEARCH, PROOF = 60.0, 6.0  # seconds to find one race, and to show its scene clean
HEADER = (
    "finding",
    "where",
    "in",
    "seen as",
    "preemptions, steps",
    "processes: caught, median",
    "piece in place",
    "fixed",
)
ABOUT = """# What is wrong with the posted series

`make findings` writes this page. Each defect stands in the series as posted (v1, 2021-07-18, unless said otherwise) and
is shown here twice: the explorer runs the smallest scene that has it, makes the schedule short and tells it, and real
processes race until they meet it. "piece in place" is the same scene without the defect: every interleaving up to that
many preemptions was run and is clean. The posted behaviour is a knob of the same name, so each line can be repeated by
the command beside it. What the maintainers said, and what is analysis of this project alone, is kept apart.
"""


@dataclass(frozen=True)
class Defect:
    """One defect: its id in the literature of this project, the race that shows it, and what is known of it."""

    id: str
    race: str
    title: str
    where: str
    versions: str
    effect: str
    fixed: str
    known: str
    near: tuple[str, ...] = ()  # functions in which the explorer preempts, where the scene is too long for all of them


@dataclass(frozen=True)
class Loss:
    """What the protocol as such gives away: the scenario that measures it, with its options."""

    id: str
    title: str
    scenario: tuple[str, ...]
    text: str


LOSSES = (
    Loss(
        "A1",
        "an mremap that runs out of memory half-way loses pages",
        ("mremap-oom", "--policy", "none,refcount-lock,refcount-rcu,refcount"),
        "Patch 5, move_ptes (v1, v2, v3). When move_page_tables cannot get a table for the target, move_vma moves "
        "back what has moved, and relies on it that the source tables are still there. Where tables are counted the "
        "last entry that moved away took its table along. Moving back then needs memory, of which there is none: "
        "what does not go back is unmapped with the target, and the program is told -ENOMEM, as if nothing had "
        "happened. A limit of the memory control group is enough, for tables are charged to it. Under refcount-lock "
        "the table goes to the list of the CPU that moves, where it is found again. Not known to be fixed; analysis "
        "of this project. A reference kept on each source table until the move is over would do.",
    ),
)
DEFECTS = (
    Defect(
        "D1",
        "publish-before-init",
        "a table is published before its count is set",
        "patch 5, pte_install",
        "v1, v2",
        "pmd_populate comes first, pte_ref_init(.., 1) second. Under patch 5 nobody can look in between, for visitors "
        "take pmd_lock; patch 6 takes that lock away, and a visitor raises whatever the word held before. The "
        "installer's store then wipes the visitor's reference out: the table goes while an entry is set.",
        "v3, which has the order turned round and does not say why",
        "The order in v3 is posted; that it is a race from patch 6 on is analysis of this project. No barrier helps: "
        "it needs no weak memory.",
    ),
    Defect(
        "D2",
        "count-late",
        "fault-around counts its entries after it has dropped the ptl",
        "patch 5, filemap_map_pages",
        "v1, v2, v3",
        "n entries are visible and not counted. A MADV_DONTNEED in between takes n references that nobody has given "
        "yet; with two entries and two visitors the count meets zero exactly, and the table is freed under both.",
        "never in the series; here entries are counted under the ptl",
        "Analysis of this project; the text of v1 to v3 has the order.",
    ),
    Defect(
        "D3",
        "put-without-get",
        "fault-around that got no table puts a reference all the same",
        "patch 5, filemap_map_pages",
        "v1",
        "The exit of a fault-around that found no table to map into leads through the put. The count falls below what "
        "its holders own, or the put finds no pmd.",
        "v2, which puts before the label",
        "The change in v2 is posted.",
        ("pte_prealloc", "filemap_map_pmd", "mmap_read_lock", "clear_pmd"),
    ),
    Defect(
        "D4",
        "advanced-address",
        "a put with the address the walk has reached flushes the next 2 MiB",
        "patch 5, page_vma_mapped_walk, munlock, insert_pages",
        "v1",
        "free_pte_table clears the right pmd, which it is given, and flushes addr & PMD_MASK, one slice too far when "
        "addr is the end of the range. The freed table stays in paging-structure caches.",
        "for some fifteen walkers in v1 itself, by a variable `start`; these were missed",
        "Analysis of this project. x86 hides it, because a flush of 2 MiB exceeds tlb_single_page_flush_ceiling and "
        "empties everything; hardware that flushes by address does not (setting flush_ceiling).",
    ),
    Defect(
        "D5",
        "one-put-for-all",
        "insert_pages takes a reference per table and drops one",
        "patch 5, insert_pages",
        "v1",
        "pte_alloc_try_get stands in the loop over tables, pte_put behind it, and the error exits have none. Each "
        "table but the last keeps a visitor for good; at exit free_pte_range finds it, which is a BUG().",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D6",
        "wait-after-put",
        "slow GUP waits for a migration in a table that it has put",
        "patch 5, follow_page_pte",
        "v1",
        "follow_page_pte puts its reference and then calls migration_entry_wait, which reads the pmd again and takes "
        "the ptl of the table that it finds. The page may have moved by then and its range may have been zapped: the "
        "pmd is none, or names another table.",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D7",
        "null-prealloc",
        "fault-around installs a table it has not",
        "patch 5, do_fault_around and filemap_map_pmd",
        "v1",
        "Only a none pmd makes do_fault_around allocate. If the pmd named a table then, and that is freed before "
        "filemap_map_pmd looks, the pmd is none and the preallocated table is NULL: before the series a table, once "
        "there, stayed, and the question could not arise.",
        "not known",
        "Analysis of this project.",
        ("pte_prealloc", "filemap_map_pmd", "mmap_read_unlock"),
    ),
    Defect(
        "D9",
        "put-to-last-table",
        "an rmap walk puts for all it cleared in the table where it ends",
        "patch 5, try_to_unmap_one",
        "v1",
        "The walk adds up the entries that became none and puts for them behind its loop, to the pmd it has reached. A "
        "huge page that was split and moved to an odd address has its PTEs in two tables: the second falls below what "
        "its holders own, the first is never freed. Here the run of pages is what is left of such a page after "
        "MADV_FREE, or any that lie side by side.",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D10",
        "pmd-recheck-only",
        "the freer looks whether a table is at the pmd, not which",
        "free_user_pte of the percpu_ref RFC",
        "RFC of 2022-04-29",
        "Two CPUs see the count at zero. One frees the table and a fault installs another; the other one finds a table "
        "under pmd_lock, takes it for the dead one, and clears the pmd of a table that is in use (ABA).",
        "the RFC was not continued",
        "Analysis of this project. v1 to v3 do not have it: there only who made the count zero frees.",
    ),
    Defect(
        "A2",
        "collapse-stale-scan",
        "collapse takes a table out that reclaim has just freed",
        "patch 5, collapse_huge_page",
        "v1",
        "collapse looks at the pmd under mmap_lock and then waits for the anon_vma lock, which rmap walkers hold. "
        "Before the series they emptied a table at most. Now one that discards the last page of a table, which "
        "MADV_FREE gave up, puts the last reference and frees it: collapse comes back to a pmd that is none, or to a "
        "dying table.",
        "not known; here the pmd is looked at again under the anon_vma lock",
        "Analysis of this project, confirmed by nobody: v1 changes the scan of khugepaged, and leaves these two looks "
        "of 5.13's collapse_huge_page as they are. Random programs of the emulator met it.",
    ),
)
IDS = [one.id for one in (*DEFECTS, *LOSSES)]
REST = """## Looked at, and not shown

- **D8**: the frees of patches 5 and 6 outside of a gather use flush_tlb_range, which on x86 said `freed_tables = false`
  until 2025: CPUs in lazy-TLB mode got no IPI and might walk the freed table speculatively. Here a lazy CPU walks
  nothing, nor does it speculate; the flush is made as one that freed tables.
- **D11**: do_fault gives SIGBUS when pte_try_get fails in a VMA without a fault handler. That is right, not spurious: a
  dying table is empty, so the entry is none, and before the series a none entry of such a VMA was a SIGBUS as well. An
  entry that is cleared for a moment under the ptl, which do_fault's second look is there for, keeps its reference
  meanwhile: its table is not dying.
"""


def run_ptelab(*arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """Run a command in a process of its own, for its engine is another: what it printed, and its rows.

    Raises UserError unless it passed or found a violation.
    """
    here = [str(Path(scenarios.__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(here)}
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-P", "-m", "scenarios", *arguments, "--json", file.name]
        status, printed, said = _watched(command, environment, f"ptelab {' '.join(arguments)}")
        if status not in (errors.OK, errors.VIOLATION):
            raise errors.UserError(f"ptelab {' '.join(arguments)}: {said.strip()}")
        rows: list[dict[str, Any]] = json.load(file)["rows"]
    return printed, rows


def _watched(command: list[str], environment: dict[str, str], name: str) -> tuple[int, str, str]:
    """Run a command: its status, stdout and stderr. Raises MachineFailed, which names who stands still."""
    from workers.vigil import LOOK_SECONDS, Vigil

    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        vigil = Vigil({process.pid: name})
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    printed, said = process.communicate(timeout=LOOK_SECONDS)
                    return process.returncode, printed, said
                vigil.look()
        finally:
            process.kill()


def show_defect(defect: Defect, seeds: int, seconds: float) -> tuple[Finding, Finding, dict[str, Any]]:
    """The defect found by the explorer, its scene with the piece in place, and the row of real processes."""
    of = subject(f"race/{defect.race}")
    found = explore(of, Plan(True, of.memory, of.bound, seconds=seconds, targets=defect.near))
    clean = explore(of, Plan(False, of.memory, of.bound, seconds=PROOF))
    _, rows = run_ptelab("races", "--only", defect.race, "--seeds", str(seeds))
    return found, clean, rows[0]


def _cells(defect: Defect, found: Finding, clean: Finding, row: dict[str, Any]) -> list[str]:
    example = found.example
    short = f"{example.preemptions}, {len(example.choices)}" if example is not None else "not met"
    caught = f"{row['caught']} of {row['seeds']}{_median(row)}"
    seen = found.what or row["detector"] or "-"
    return [defect.id, defect.where, defect.versions, seen, short, caught, clean.verdict.word, defect.fixed]


def section(defect: Defect, found: Finding, clean: Finding, row: dict[str, Any]) -> list[str]:
    """The lines of one defect in the page."""
    from workers.telling.story import story_of, story_text

    lines = [f"## {defect.id}: {defect.title}", "", *_wrapped(f"{defect.where} ({defect.versions}). {defect.effect}")]
    lines += ["", *_wrapped(f"Fixed: {defect.fixed}. {defect.known}"), ""]
    if found.by_hand:
        lines += ["No search of a minute comes to it; the schedule is written by hand:", ""]
    if found.example is not None:
        lines += [f"    $ {found.trace.command}", ""]
        lines += [f"    {line}".rstrip() for line in [*found.lines, "", *story_text(story_of(found.trace))]]
    else:
        lines.append(f"The explorer has not met it in {found.verdict.seconds:.0f} s: its scene is too long.")
    text = f"With the piece in place, `ptelab explore race/{defect.race} --fixed`: {clean.verdict.word}, "
    text += f"{clean.verdict.executions:,} executions. Real processes, `ptelab run race/{defect.race}`: caught with "
    text += f"{row['caught']} of {row['seeds']} seeds as {row['detector']}{_median(row)}."
    return [*lines, "", *_wrapped(text), ""]


def _median(row: dict[str, Any]) -> str:
    return f", median {row['median_seconds']:.2g} s" if row["caught"] else ""


def _wrapped(text: str) -> list[str]:
    """A paragraph of the page."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def measured(loss: Loss) -> tuple[list[str], list[dict[str, Any]]]:
    """What the scenario of a loss printed, without the checks that hold, and its rows."""
    printed, rows = run_ptelab("run", *loss.scenario)
    return [line for line in printed.splitlines() if not line.endswith(" ok")], rows


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


@click.command("findings", short_help="What is wrong with the posted series, each defect shown.")
@click.option("--only", default="", callback=some_of("finding", IDS), help="Findings, separated by commas. [all]")
@click.option("--seeds", default="5", callback=number(1, 10_000, whole=True), help="Hunts with real processes. [5]")
@click.option("--seconds", default=str(SEARCH), callback=number(1, 86_400), help="Search so long for each. [60]")
@click.option("--write", default=None, metavar="FILE", help="Write the page (docs/findings.md).")
@click.option("--json", "json_file", metavar="FILE", help="Write the results as JSON; - is stdout.")
def command(only: list[str], seeds: int, seconds: float, write: str | None, json_file: str | None) -> int:
    """Show each defect of the posted series: its shortest schedule, and how soon real processes meet it."""
    named = set(only) or set(IDS)
    chosen = [defect for defect in DEFECTS if defect.id in named]
    check_writable(write)
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
        if write is not None:
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
    if not clean.verdict.passed:
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
