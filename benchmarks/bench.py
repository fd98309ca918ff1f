"""Measure what the project promises: every figure as a ratio or a difference within this one run.

Writes one JSON file (machine, versions, commit, figures with all their values) and prints a table; with --base the
change against an earlier file. Rounds of what is compared are interleaved, so a machine that slows down slows both.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.command import checked, end, json_option, names, read_json
from benchmarks.twin import TwinUnavailable, build_twin, twin_round
from emulator import engine
from emulator.mm_types import Geometry
from emulator.policy.policies import families_of
from scenarios import madvise_loop, multi_fault
from scenarios.session import report
from scenarios.session.files import input_file
from scenarios.session.options import Lab
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers import interrupts
from workers.host.fault_loop import measure_madvise_loop, measure_multi_fault
from workers.host.line_latency import disagree, probe, words
from workers.programs.program import STOP

ROUND = 0.5  # seconds of one round
PAIR, PAIRS = 0.15, 16  # seconds of each of two rounds that are compared, and how many pairs
ADDING = {  # what is measured for what it adds to a fault -> over which
    "none": "",
    "none-rcu": "",
    "refcount": "none",
    "refcount-transfer": "none",
    "pt-reclaim": "none-rcu",
}


class Figure:
    """One figure: its values over the rounds, its unit, and the bound it must meet, if one was promised."""

    def __init__(self, name: str, unit: str, bound: float | None, at_least: bool = True) -> None:
        self.name, self.unit, self.bound, self.at_least = name, unit, bound, at_least
        self.values: list[float] = []

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """True if the median keeps the promise, if there is one."""
        if self.bound is None:
            return True
        return self.median >= self.bound if self.at_least else self.median <= self.bound

    def as_json(self) -> dict[str, Any]:
        """The record of this figure."""
        return {"unit": self.unit, "bound": self.bound, "median": self.median, "met": self.met, "values": self.values}


class Worst(Figure):
    """One figure of many subjects: the worst is the one to quote."""

    @property
    def median(self) -> float:
        """The highest."""
        return max(self.values)


def fault_rate(policy: str, cpus: int, variant: str, record: Record, seconds: float = ROUND) -> dict[str, Any]:
    """One round of multi-fault."""
    figures = multi_fault.measure(policy, cpus, variant, seconds, 0, Lab(), record)
    if figures is None:
        raise SystemExit("bench: a violation stopped the machine")
    return figures


def host_rate(cpus: int, variant: str) -> float:
    """One round of the same loop on this host's kernel, pf/min."""
    return measure_multi_fault(cpus, variant, ROUND, multi_fault.WARM_UP).pf_per_min


def single_cpu(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """1 CPU: emulator over host, and what the count adds to a fault: a small difference, so many short rounds."""
    for _ in range(repeats):
        refcount = fault_rate("refcount", 1, "barrier", record)
        figures["emulator over host"].values.append(refcount["pf_per_min"] / host_rate(1, "barrier"))
    for _ in range(4 * repeats):
        ns = {policy: fault_rate(policy, 1, "barrier", record, ROUND / 3)["ns_per_fault"] for policy in ADDING}
        for policy, base in ADDING.items():
            if base:
                figures[f"{policy} per fault"].values.append(ns[policy] - ns[base])


def twin(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """1 CPU: the emulator over the same protocol in C, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            program = build_twin(Path(folder))
        except TwinUnavailable as reason:
            note(f"bench: no C twin to compare with: {reason}")
            return
        for _ in range(2 * repeats):
            for policy in ("none", "refcount"):
                in_c = twin_round(program, policy, ROUND)
                ours = fault_rate(policy, 1, "barrier", record)["ns_per_fault"]
                figures[f"emulator over C twin, {policy}"].values.append(ours / in_c)


def scaling(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """2 CPUs over 1 with an mm each; 16 over 2 with one mm, pairs of rounds in which lines stayed as fast."""
    for _ in range(2 * repeats):
        for policy, name in (("refcount", "2 CPUs over 1, processes"), ("none", "the same under none")):
            one, two = (fault_rate(policy, n, "processes", record, ROUND / 2)["pf_per_min"] for n in (1, 2))
            figures[name].values.append(two / one)
    for variant in ("barrier", "arrive"):
        unsteady = 0
        for _ in range(PAIRS * repeats // 7 or 1):
            probes, rates = record.add_lines(probe()), []
            for cpus in (2, 16):
                rates.append(fault_rate("refcount", cpus, variant, record, PAIR)["pf_per_min"])
                probes += record.add_lines(probe())
            if disagree(probes):
                unsteady += 1
            else:
                figures[f"16 CPUs over 2, {variant}"].values.append(rates[1] / rates[0])
        if unsteady:
            note(f"bench: {unsteady} pairs of 2 and 16 CPUs, {variant}, left out: {words(record.line_ns)}")


def sweep(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """madvise-loop at full size against the host."""
    setup: dict[str, Any] = {"size": 50 << 30, "piece": 2 << 20, "base_kb": 40, "lab": Lab()}
    for _ in range(repeats):
        with Progress("madvise-loop") as progress:
            madvise_loop.measure("refcount", setup, record, progress)
            host = measure_madvise_loop(setup["size"], setup["piece"], lambda share: progress.update(share, "host"))
        figures["madvise-loop over host"].values.append(host["seconds"] / record.rows[-1]["seconds"])


UNTIL_IT_STARTS = """
import os, sys
from scenarios.cli import command_line
from workers.machine import Machine
Machine.start = lambda machine: os._exit(0)
command_line(sys.argv[1:])
"""
TASKS = 60  # of a second each, of the campaign and of the loop in a shell


def wall(command: list[str]) -> float:
    """Seconds a command takes from outside."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def starts(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """What a user waits for: a run until its machine starts, --help, what is there, sixteen processes."""
    from workers.machine import Machine

    ptelab = [sys.executable, "-m", "scenarios"]
    run = [sys.executable, "-c", UNTIL_IT_STARTS, "run", "multi-fault"]
    wall(run)  # compiled, if it was not
    for _ in range(repeats):
        figures["ptelab run, until its machine starts"].values.append(wall(run))
        figures["ptelab --help"].values.append(wall([*ptelab, "--help"]))
        figures["ptelab list"].values.append(wall([*ptelab, "list"]))
        with Machine(Geometry(cpus=16), "refcount") as machine:
            machine.load_all([[STOP]] * 16)
            start = time.perf_counter()
            machine.start()
            figures["16 CPUs ready"].values.append(time.perf_counter() - start)
            machine.wait()


def campaign(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """Tasks of a second, one after another: by a campaign, and by a loop in a shell."""
    ptelab = [sys.executable, "-m", "scenarios"]
    task = f"{shlex.join(ptelab)} run stress --policy none --seconds 0.5 --seed $seed --json /dev/null"
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.toml"
        seeds = f"0-{TASKS - 1}"
        plan.write_text(f'[[run]]\nscenario = "stress"\npolicy = "none"\nseconds = 0.5\nseed = "{seeds}"\n')
        loop = wall(["sh", "-c", f"for seed in $(seq 0 {TASKS - 1}); do {task}; done"])
        figures["campaign over a shell loop"].values.append(wall([*ptelab, "campaign", str(plan)]) / loop)


def checked_ns(checks: str) -> float:
    """Nanoseconds per fault of one CPU with these checks, in a process of its own: each build needs one."""
    ptelab = [sys.executable, "-m", "scenarios", "run", "multi-fault", "--cpus", "1"]
    options = ["--policy", "refcount", "--repeat", "1", "--seconds", str(ROUND), "--no-host", "--checks", checks]
    run = subprocess.run([*ptelab, *options, "--json", "-"], check=True, capture_output=True, text=True)
    return float(json.loads(run.stdout)["rows"][0]["ns_per_fault"][0])


def checks(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """What the detectors cost: the debug build with --checks online over the plain one."""
    for _ in range(repeats):
        plain, online = checked_ns("audit"), checked_ns("online")
        figures["--checks online over plain"].values.append(online / plain)


def measured_by_explorer(*words: str) -> dict[str, Any]:
    """What benchmarks.explore prints, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.explore", *words]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def explorer(figures: dict[str, Figure], record: Record, repeats: int) -> None:
    """Steps per second; the reduction, whose verdicts must be those of the plain search; the zoo found and shrunk."""
    speed = measured_by_explorer("speed")
    figures["explore: steps per second"].values += speed["steps_per_second"]
    found = speed["executions"]
    figures["explore: executions, reduced over plain"].values.append(found["reduced"][1] / found["plain"][1])
    same = found["reduced"][0].startswith("pass") and found["plain"][0] != "fail"
    record.add_checks({"explorer_verdicts": int(not same or found["twin, reduced"][0] != found["twin, plain"][0])})
    zoo = measured_by_explorer("zoo", "--seeds", str(10 if repeats > 1 else 1))
    for race in zoo.values():
        figures["explore: slowest median of a race"].values.append(statistics.median(race["seconds"]))
        missed = [p for p in race["preemptions"] if p is None]
        figures["explore: most preemptions of a race"].values.append(99 if missed else max(race["preemptions"]))


PARTS: tuple[tuple[str, Callable[[dict[str, Figure], Record, int], None]], ...] = (
    ("1 CPU", single_cpu),
    ("C twin", twin),
    ("scaling", scaling),
    ("madvise-loop", sweep),
    ("starts", starts),
    ("campaign", campaign),
    ("checks", checks),
    ("explorer", explorer),
)


def promised() -> dict[str, Figure]:
    """Every figure, without values yet."""
    figures = [
        Figure("emulator over host", "x", 15, True),
        Figure("2 CPUs over 1, processes", "x", 1.9, True),
        Figure("the same under none", "x", 1.9, True),
        Figure("16 CPUs over 2, barrier", "x", 0.9, True),
        Figure("16 CPUs over 2, arrive", "x", 0.93, True),
        Figure("refcount per fault", "ns", 15, False),
        Figure("refcount-transfer per fault", "ns", 7, False),
        Figure("pt-reclaim per fault", "ns", 1, False),
        Figure("emulator over C twin, none", "x", 1.10, False),
        Figure("emulator over C twin, refcount", "x", 1.08, False),
        Figure("madvise-loop over host", "x", 10, True),
        Figure("ptelab run, until its machine starts", "s", 0.5, False),
        Figure("ptelab --help", "s", 0.1, False),
        Figure("ptelab list", "s", 0.15, False),
        Figure("16 CPUs ready", "s", 0.5, False),
        Figure("campaign over a shell loop", "x", 1.05, False),
        Figure("--checks online over plain", "x", None),
        Figure("explore: steps per second", "/s", 200_000, True),
        Figure("explore: executions, reduced over plain", "x", 0.1, False),
        Worst("explore: slowest median of a race", "s", 10, False),
        Worst("explore: most preemptions of a race", "", 4, False),
    ]
    return {figure.name: figure for figure in figures}


def missed(figures: dict[str, Figure]) -> list[str]:
    """The promises that what was measured does not keep."""
    return [
        f"{figure.name}: {figure.median:.2f} {figure.unit} is not {'>=' if figure.at_least else '<='} {figure.bound:g}"
        for figure in figures.values()
        if figure.values and figure.bound is not None and not figure.met
    ]


def show(figures: dict[str, Figure], base: dict[str, Any]) -> None:
    """One line per figure: median, spread, bound, and the change against the base file."""
    lines = []
    for figure in figures.values():
        if not figure.values:
            continue
        old = base.get("figures", {}).get(figure.name)
        lines.append(
            [
                figure.name,
                f"{figure.median:.2f} {figure.unit}",
                f"{min(figure.values):.2f} .. {max(figure.values):.2f}",
                "-" if figure.bound is None else f"{'>=' if figure.at_least else '<='} {figure.bound:g}",
                "" if figure.bound is None else "ok" if figure.met else "MISSED",
                f"{100 * (figure.median / old['median'] - 1):+.1f} %" if old and old["median"] else "",
            ]
        )
    report.table(["figure", "median", "lowest .. highest", "promised", "", "change" if base else ""], lines)


@click.command()
@click.option("--base", metavar="FILE", callback=checked(input_file), help="An earlier file to compare with.")
@json_option("bench.json")
@click.option(
    "--only",
    default="",
    metavar="NAME,...",
    callback=names("part", [name for name, _ in PARTS]),
    help="Parts of it. [all]",
)
@click.option("--repeat", default=7, type=click.IntRange(1, 100), help="Rounds of the short figures. [7]")
def main(base: str | None, target: str, only: list[str], repeat: int) -> None:
    """Measure every promised figure; the exit status is 1 if a promise is missed."""
    interrupts.install()
    engine.choose("native", families=families_of(ADDING))
    old = read_json(base) if base else {}
    if base and not isinstance(old.get("figures") if isinstance(old, dict) else None, dict):
        raise click.UsageError(
            f"{base} has no figures; known: a file that bench has written (ptelab compare for others)"
        )
    record, figures = Record("bench", 0), promised()
    try:
        for name, part in PARTS:
            if only and name not in only:
                continue
            note(f"bench: {name}")
            part(figures, record, 3 if part is sweep else repeat)
    except interrupts.Interrupted as interrupt:
        record.interrupted = 128 + interrupt.number
    record.found += missed(figures)
    measured = {figure.name: figure.as_json() for figure in figures.values() if figure.values}
    end(record, target, {"figures": measured, "checks": record.checks}, lambda: show(figures, old))


if __name__ == "__main__":
    main()
