"""make judge: the outside judges, one after another, and one table of what they said.

    python -m benchmarks.judge [--count N] [--json FILE]

Fuzzed inputs of the parsers (benchmarks/fuzz.py), the public litmus tests, mutants of the kernel, and random traces on
this host's kernel. All of it takes about an hour; --count 1000 is for trying out.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import fuzz
from benchmarks.command import json_option, write_json
from scenarios.session import report
from scenarios.session.progress import Progress
from workers.jobs import in_processes

ROOT = Path(__file__).resolve().parent.parent
INPUTS = 1_000_000  # of all targets together
EXPECTED = {"ptelab litmus": 3600.0, "mutants": 7200.0, "ptelab agree": 3600.0}  # seconds that each may take


@dataclass(frozen=True)
class Verdict:
    """One line of the table: a judge, what it had, what it found, and how long that took."""

    judge: str
    asked: str
    said: str
    good: bool
    seconds: float


def fuzzing(count: int, seed: int) -> list[Verdict]:
    """Each target in a process of its own: what is measured of its memory is its own."""
    verdicts = []
    for name in fuzz.TARGETS:
        began = time.perf_counter()
        tasks = [(name, count // len(fuzz.TARGETS), seed)]
        (outcome,) = in_processes(lambda task: fuzz.fuzzed(*task), tasks, 1, lambda task: f"the fuzzing of {task[0]}")
        said = f"{outcome.refused:,} refused, {len(outcome.findings)} findings, {outcome.peak_kb >> 10} MiB"
        asked = f"{outcome.inputs:,} inputs"
        verdicts.append(Verdict(f"fuzz, {name}", asked, said, not outcome.failed, time.perf_counter() - began))
        for finding in outcome.findings:
            report.write(f"fuzz, {name}: {finding}")
    return verdicts


def command(judge: str, asked: str, words: Sequence[str]) -> Verdict:
    """Run a command; its last line is what it says, and its exit status the verdict."""
    began = time.perf_counter()
    try:
        run = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=EXPECTED[judge]
        )
        said, good = (
            (run.stdout.strip().splitlines() or run.stderr.strip().splitlines() or [""])[-1],
            run.returncode == 0,
        )
    except subprocess.TimeoutExpired:
        said, good = f"no end after {EXPECTED[judge]:g} s", False
    return Verdict(judge, asked, " ".join(said.split())[:60], good, time.perf_counter() - began)


def commands(count: int) -> list[tuple[str, str, list[str]]]:
    """The judges that are commands: name, what they are asked, and their words, for so many fuzzed inputs."""
    litmus = [str(path) for path in sorted((ROOT / "tests" / "workers" / "litmus").glob("*.jsonl"))]
    mutants, traces = (0, 10_000) if count >= INPUTS else (max(1, count // 1000), max(1, count // 100))
    return [
        ("ptelab litmus", f"{len(litmus)} files", ["scenarios", "litmus", *litmus]),
        ("mutants", f"{mutants or 'all'}", ["benchmarks.mutants", "--count", str(mutants)]),
        ("ptelab agree", f"{traces:,} traces", ["scenarios", "agree", "--count", str(traces)]),
    ]


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--count", default=INPUTS, show_default=True, help="Fuzzed inputs; the other judges get as much less.")
@click.option("--seed", default=0, show_default=True, help="Names the fuzzed inputs.")
@json_option()
def main(count: int, seed: int, target: str | None) -> None:
    """Ask every judge; exit status 1 if one of them found something."""
    with Progress("judge") as progress:
        progress.update(0.0, "fuzzing")
        verdicts = fuzzing(count, seed)
        rest = commands(count)
        for done, (judge, asked, words) in enumerate(rest):
            progress.update((1 + done) / (1 + len(rest)), judge)
            verdicts.append(command(judge, asked, words))
    lines = [[v.judge, v.asked, v.said, "ok" if v.good else "FAIL", f"{v.seconds:,.0f}"] for v in verdicts]
    if target != "-":
        report.table(["judge", "asked", "said", "verdict", "s"], lines, left=(0, 1, 2, 3))
    if target:
        write_json(target, [vars(v) for v in verdicts])
    sys.exit(0 if all(v.good for v in verdicts) else 1)


if __name__ == "__main__":
    main()
