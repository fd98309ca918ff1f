"""arena: every policy on every workload: what does each give back, what does it cost, and how late?

Rounds of the policies are interleaved: every policy runs a workload before the next repeat begins. Memory is exact;
times are medians over the instructions of a run, and over the repeats.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from emulator import engine
from emulator.mm_types import Geometry
from emulator.policy.policies import POLICIES
from scenarios.arena import figures, tables
from scenarios.arena.measure import run_job
from scenarios.arena.page import written
from scenarios.arena.workloads import CHUNKS, WORKLOADS, Job, Workload
from scenarios.reports.comparing import HEADER, Change, compared, of_policy, regressions, tables_of
from scenarios.reports.extra import ReportError
from scenarios.reports.reading import Run, read_runs
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.files import input_file, kept_file, write_file
from scenarios.session.options import Lab
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record

CPUS, SCALE, REPEAT = "1,2,8,16", 16, 3


@dataclass(frozen=True)
class Setup:
    """What is to be run: (workload, CPUs) in order, each under every policy of the lab.

    `repeat` times; a workload whose costs nobody asks for once, unless it was `said` how often.
    """

    lab: Lab
    cases: tuple[tuple[str, int], ...]
    scale: int
    repeat: int
    said: bool

    def steps(self) -> list[tuple[int, tuple[str, int], str]]:
        """Repeat, workload with its CPUs, and policy, in their order."""
        return [
            (repeat, case, policy)
            for repeat in range(self.repeat)
            for case in self.cases
            for policy in self.lab.policies
            if repeat == 0 or self.said or WORKLOADS[case[0]].timed
        ]

    def command(self, workload: str, cpus: int, policy: str) -> str:
        """The command that runs one row again."""
        words = ["ptelab", "arena", "--workload", workload, "--policy", policy, "--seed", str(self.lab.seed)]
        words += ["--engine", self.lab.engine, "--checks", self.lab.checks]
        words += ["--knob", ",".join(self.lab.knobs)] if self.lab.knobs else []
        words += ["--scale", str(self.scale)] if WORKLOADS[workload].sized else []
        words += ["--cpus", str(cpus)] if WORKLOADS[workload].many else []
        return shlex.join(words)


def run(record: Record, setup: Setup) -> None:
    """All rounds, repeat by repeat; what a policy was measured with stands beside it in its row."""
    engine.prepare()
    rows: dict[tuple[str, int, str], figures.Row] = {}
    steps = setup.steps()
    try:
        with Progress("arena") as progress:
            for done, (repeat, (workload, cpus), policy) in enumerate(steps):
                progress.update(done / len(steps), f"repeat {repeat + 1}, {workload}, {policy}")
                of = WORKLOADS[workload]
                chunks = of.chunks(setup.scale)
                job = of.build(chunks, cpus, setup.lab.seed)
                one = run_job(job, policy, setup.lab, record, setup.command(workload, cpus, policy))
                if one is None:
                    return  # what is measured from here on is not the protocol
                row = rows.setdefault((workload, cpus, policy), new_row(workload, cpus, policy, setup))
                for name, value in one.items():
                    row[name].append(value)
    finally:
        record.rows.extend(rows.values())


def new_row(workload: str, cpus: int, policy: str, setup: Setup) -> figures.Row:
    """A row with nothing measured."""
    row: figures.Row = {"workload": workload, "policy": policy, "cpus": cpus, "engine": setup.lab.engine}
    row |= {"chunks": WORKLOADS[workload].chunks(setup.scale)}
    row |= {"table_bytes": POLICIES[policy].table_bytes, "cpu_bytes": POLICIES[policy].cpu_bytes}
    return row | {name: [] for name in figures.FIGURES}


def show(record: Record, setup: Setup) -> None:
    """The tables."""
    processors = len(os.sched_getaffinity(0))
    report.write(
        f"arena: engine {setup.lab.engine}, scale {setup.scale}, {setup.repeat} repeats, {processors} processors"
    )
    report.write("VmPTE in kB; times are medians, +- is the standard deviation of the mean over the repeats\n")
    tables.show(record.rows)


def choose(workloads: list[str], cpus: list[int] | None) -> tuple[tuple[str, int], ...]:
    """Each workload with the numbers of CPUs it runs on. Raises UserError."""
    names = workloads or list(WORKLOADS)
    if cpus is not None and not any(WORKLOADS[name].many for name in names):
        many = ", ".join(name for name, of in WORKLOADS.items() if of.many)
        raise UserError(f"--cpus says nothing to {', '.join(names)}, which run on one; known for it: {many}")
    counts = cpus or [int(word) for word in CPUS.split(",")]
    return tuple((name, n) for name in names for n in (counts if WORKLOADS[name].many else [1]))


def check_fits(cases: tuple[tuple[str, int], ...], scale: int, policies: Sequence[str]) -> None:
    """Refuse what does not fit into memory under each of the policies. Raises UserError."""
    for name, cpus in cases:
        of = WORKLOADS[name]
        if of.sized:
            sizes, spell = partial(_geometry_of_chunks, of, policies), partial(_scale_of, name)
            session.check_fits("--scale", of.chunks(scale), 1, sizes, spell)
        else:
            session.check_fits("--cpus", cpus, 1, partial(_geometry_of_cpus, of, policies))


def _geometry_of_cpus(of: Workload, policies: Sequence[str], cpus: int) -> Geometry:
    return roomy(of.build(0, cpus, 0), policies)


def _geometry_of_chunks(of: Workload, policies: Sequence[str], chunks: int) -> Geometry:
    return roomy(of.build(chunks, 1, 0), policies)


def roomy(job: Job, policies: Sequence[str]) -> Geometry:
    """The machine that a job needs under the policy that keeps most on each CPU."""
    return max((POLICIES[policy].room_for(job.geometry) for policy in policies), key=lambda of: of.cpu_words)


def _scale_of(name: str, chunks: int) -> str:
    return f"{-(-CHUNKS // chunks)} ({name})"


def read_page(file: str, setup: Setup) -> str:
    """The page that is to be written, checked for its places. Raises UserError."""
    if {name for name, _ in setup.cases} != set(WORKLOADS) or setup.lab.policies != tuple(POLICIES):
        raise UserError("--write needs all workloads and policies; known: without --workload and --policy")
    try:
        page = Path(file).read_text()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    written(page, [], setup.scale, setup.repeat)
    return page


def read_before(file: str) -> list[Run]:
    """An earlier record, with the arena's rows. Raises UserError."""
    try:
        runs = [run for run in read_runs(file) if run.scenario == "arena"]
    except ReportError as error:
        raise UserError(f"--gate: {error}") from None
    if not runs:
        raise UserError(f"--gate {file} holds no run of the arena; known: what ptelab arena --json wrote")
    return runs


def now(record: Record) -> list[Run]:
    """The record of this run."""
    return [Run("this run", record.as_json())]


def changes(old: list[Run], new: list[Run]) -> list[Change]:
    """What changed. Raises UserError if nothing can be compared."""
    try:
        return compared(old, new)
    except ReportError as error:
        raise UserError(str(error)) from None


def show_against(runs: list[Run], old: str, new: str) -> None:
    """Two policies beside each other, as `ptelab compare --policy OLD,NEW` prints them."""
    report.write(f"{old} -> {new}\n")
    for title, lines in tables_of(changes(of_policy(runs, old), of_policy(runs, new)), False).items():
        report.table(HEADER, lines, title, (0, 4))


@click.command("arena", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--workload", default="", **options.some_of("workload", WORKLOADS), help="Workloads, separated by commas. [all]"
)
@click.option("--cpus", default=None, metavar="N,...", help=f"CPUs of the workloads that run on many. [{CPUS}]")
@click.option(
    "--scale",
    default=str(SCALE),
    metavar="N",
    callback=options.number(1, CHUNKS, whole=True),
    help=f"Divide 50 GiB by N. [{SCALE}]",
)
@click.option(
    "--repeat",
    default=str(REPEAT),
    metavar="N",
    callback=options.number(1, 1000, whole=True),
    help=f"Rounds. [{REPEAT}; 1 if no time is asked]",
)
@click.option("--write", metavar="FILE", callback=kept_file, help="Write the tables of the page (docs/arena.md).")
@click.option(
    "--gate", metavar="FILE", callback=input_file, help="Fail where it is worse than this record, beyond its spread."
)
@click.option("--against", **options.one_of("policy", POLICIES, optional=True), help="Set the others beside this one.")
@options.shared_with(policies=",".join(POLICIES))
@click.pass_context
def command(
    context: click.Context,
    workload: list[str],
    cpus: str | None,
    scale: int,
    repeat: int,
    write: str | None,
    gate: str | None,
    against: str | None,
    lab: Lab,
) -> int:
    """Run it; the exit status."""
    counts = options.cpu_counts(context, context.command.params[0], cpus) if cpus is not None else None
    cases = choose(workload, counts)
    if context.get_parameter_source("scale") != ParameterSource.DEFAULT and not any(
        WORKLOADS[n].sized for n, _ in cases
    ):
        raise UserError(f"--scale says nothing to {', '.join(workload)}; known: it divides the 50 GiB of the others")
    lab.check_stops(min(cpus for _, cpus in cases))
    check_fits(cases, scale, lab.policies)
    said = context.get_parameter_source("repeat") != ParameterSource.DEFAULT
    setup = Setup(lab, cases, scale, repeat, said)
    page = read_page(write, setup) if write else ""
    before = read_before(gate) if gate else []
    if against and (against not in lab.policies or len(lab.policies) < 2):
        raise UserError(
            f"--against {against} is for a run of it and of others; this one is of {','.join(lab.policies)}"
        )
    record = Record("arena", lab.seed)

    def body() -> None:
        run(record, setup)
        if gate and record.verdict == "pass":
            record.found += regressions(changes(before, now(record)), 0.0)
        if write and record.verdict == "pass":
            write_file(write, written(page, record.rows, scale, repeat))
        elif write:
            note("the page is not written: not all is as expected")

    def shown() -> None:
        show(record, setup)
        if against and record.verdict != "died":
            runs = now(record)
            for policy in lab.policies:
                if policy != against:
                    show_against(runs, against, policy)
        for text in record.found:
            report.write(f"worse   {text}")

    return session.conduct(record, lab, body, shown)
