"""campaign: run a plan of commands on all processors, of this machine or of many, and tell what came of them.

A plan is a TOML file: its tables are commands, their keys the options, and lists are multiplied (ptelab help
campaigns). Each task is a process of its own with a time limit. What it came to is a line in the results at once; a
campaign that was ended goes on with --resume. A task that crashes is a finding, and not run again.

Exit status: 0 all passed, 1 something was found, 2 usage, 3 no worker is left, 4 inconclusive.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from scenarios.campaign.exploration import Exploration
from scenarios.campaign.farm import opened
from scenarios.campaign.plan import Task, read_plan
from scenarios.campaign.results import Results, key_of
from scenarios.campaign.revision import revision
from scenarios.campaign.verdicts import USAGE, Verdicts, lost, result, show
from scenarios.reports.extra import missing
from scenarios.session import errors, options, report
from scenarios.session.files import input_file, kept_file
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.interrupts import Interrupted
from workers.processes import processors
from workers.telling.postmortem import MachineFailed
from workers.telling.whereabouts import many

HELP = (__doc__ or "").removeprefix("campaign: ")
HELP = HELP[0].upper() + HELP[1:]


class Campaign:
    """What is to be run, what was run, and where it is written."""

    def __init__(self, tasks: Iterable[Task], results: Results) -> None:
        self.results, self.verdicts = results, Verdicts()
        self.done = self.skipped = self.running = 0
        before: dict[Any, dict[str, Any]] = {}
        shards: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, line in results.before():
            if line["exploration"] and line["revision"] == revision():
                shards.setdefault(line["exploration"], []).append((number, line))
            else:
                before[key_of(line)] = line
        self.waiting: list[Task] = []
        self.explorations: dict[str, Exploration] = {}
        for task in tasks:
            found = before.get((revision(), task.command, task.seed))
            if task.shards:
                self._go_on(Exploration(task), shards.get(task.command, []))
            elif found is None:
                self.waiting.append(task)
            else:
                self.verdicts.add(found)
                self.skipped += 1
        self.waiting.reverse()

    def _go_on(self, exploration: Exploration, lines: Iterable[tuple[int, dict[str, Any]]]) -> None:
        """Take up an exploration where its lines have left it. Raises UserError."""
        for number, line in lines:
            try:
                exploration.replay(line)
            except (LookupError, TypeError, ValueError):
                raise self.results.refused(number) from None
            self.verdicts.add(line)
            self.skipped += 1
        self.explorations[exploration.task.command] = exploration
        self._tell(exploration)

    def _tell(self, exploration: Exploration) -> None:
        """Enter the verdict of an exploration that is over."""
        if exploration.is_over and (line := exploration.line()) is not None:
            self.verdicts.add(line)

    @property
    def left(self) -> int:
        """Tasks that wait or run; of explorations the prefixes, as far as they are known."""
        return self.running + len(self.waiting) + sum(len(one.waiting) for one in self.explorations.values())

    def run(self, farm: Any, progress: Progress) -> None:
        """Run what waits. Raises UserError if a command cannot be what it is."""
        while self.left:
            gone, unbegun = farm.look()
            for task in gone:
                self._enter(task, lost(task), {})
            for task in unbegun:
                self.running -= 1
                self._put_back(task)
            while (next_ := self._take()) is not None:
                if not farm.place(next_):
                    self._put_back(next_)
                    break
                self.running += 1
            for task, outcome, worker in farm.over():
                self._enter(task, result(task, outcome) if outcome is not None else lost(task), worker)
            total, found = self.done + self.left, len(self.verdicts.findings)
            progress.update(self.done / max(total, 1), f"{self.done:,} of {total:,} tasks, {found:,} findings")

    def _take(self) -> Task | None:
        """The next task; None if all that is left waits for others."""
        if self.waiting:
            return self.waiting.pop()
        return next((one.take() for one in self.explorations.values() if one.waiting), None)

    def _put_back(self, task: Task) -> None:
        if task.exploration:
            self.explorations[task.exploration].put_back(task)
        else:
            self.waiting.append(task)

    def _enter(self, task: Task, line: dict[str, Any], worker: Any) -> None:
        """Write the line of a task, and count it."""
        if line["verdict"] == USAGE:
            raise errors.UserError(f"{line['command']}: {line['stderr'].strip().removeprefix('ptelab: ')}")
        where = {"host": worker.get("host"), "machine": worker.get("machine")}
        self.results.add({"revision": revision(), **line, **where})
        self.verdicts.add(line)
        self.done += 1
        self.running -= 1
        if task.exploration:
            self.explorations[task.exploration].enter(line)
            self._tell(self.explorations[task.exploration])


def results_of(plan: str) -> str:
    """Where the results of a plan are, unless somebody says otherwise: beside it."""
    return str(Path(plan).with_suffix(".jsonl"))


@click.command("campaign", help=HELP)
@click.argument("plan", metavar="PLAN.toml")
@click.option("--scheduler", metavar="ADDRESS", help="Of dask scheduler, as HOST:8786. [a cluster of this machine]")
@click.option("--resume", is_flag=True, help="Go on: what has a result of this revision is not run again.")
@click.option(
    "--results", metavar="FILE", callback=kept_file, help="A line of JSON for each task. [the plan's name with .jsonl]"
)
@click.option("--list", "listed", is_flag=True, help="Print the commands of the plan, and run nothing.")
@click.option("--tls-ca-file", metavar="FILE", callback=input_file, help="For a scheduler at tls://: its authority,")
@click.option("--tls-cert", "tls_client_cert", metavar="FILE", callback=input_file, help="our certificate,")
@click.option("--tls-key", "tls_client_key", metavar="FILE", callback=input_file, help="and its key.")
@options.output_options
@click.pass_context
def command(
    context: click.Context,
    plan: str,
    scheduler: str | None,
    resume: bool,
    results: str | None,
    listed: bool,
    json_file: str | None,
    **tls: str | None,
) -> int:
    """Run it; the exit status."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    tasks = read_plan(plan, group, processors())
    if listed:
        for task in tasks:
            report.write(task.command)
        return errors.OK
    if absent := missing(("distributed",), "campaign"):
        raise errors.UserError(absent)
    most = max(task.processors for task in tasks)
    if scheduler is None and most > processors():
        raise errors.UserError(f"a task wants {most} processors, and this machine has {processors()}")
    files = {name: file for name, file in tls.items() if file}
    if files and scheduler is None:
        raise errors.UserError("--tls-... is for --scheduler tls://HOST:PORT; a cluster of this machine needs none")
    for file in files.values():
        if not os.access(file, os.R_OK):
            raise errors.UserError(f"cannot read {file}")
    if plan == "-" and results is None:
        raise errors.UserError("a plan from stdin has no name for its results; known: --results FILE")
    record, file = Record("campaign", 0), results or results_of(plan)
    kept = Results(file, resume)
    try:
        return _conduct(record, Campaign(tasks, kept), scheduler, files, most, json_file)
    finally:
        kept.close()


def _conduct(
    record: Record, campaign: Campaign, scheduler: str | None, tls: dict[str, str], most: int, json_file: str | None
) -> int:
    """Run a campaign, then show and write its record; the exit status."""
    began = time.monotonic()
    if campaign.skipped:
        note(f"{many(campaign.skipped, 'task')} done before, as {campaign.results.file} says; {campaign.left:,} left")
    try:
        if campaign.left:
            with opened(scheduler, tls, most) as farm, Progress("campaign") as progress:
                farm.check(most)
                campaign.run(farm, progress)
    except Interrupted as interrupt:
        record.interrupted = 128 + interrupt.number
    except MachineFailed as failure:
        record.failure = str(failure)
        note(str(failure))
    record.rows = campaign.verdicts.rows()
    record.found = campaign.verdicts.findings
    record.inconclusive = campaign.verdicts.inconclusive
    if not record.write(json_file):
        seconds = time.monotonic() - began
        before = f", {campaign.skipped:,} before" if campaign.skipped else ""
        left = f", {campaign.left:,} left" if campaign.left else ""
        ran = f"{many(campaign.done, 'task')} in {seconds:,.1f} s{before}{left}"
        report.prose(f"campaign: {ran}; results in {campaign.results.file}")
        show(record.rows)
        report.checks_and_verdict(record)
    return record.exit_status
