"""stress: does the protocol survive random programs of every instruction?

A seed names the programs of all CPUs (workers/programs/random_programs.py), which share few tables and meet at
barriers. Every policy runs them to their end on a fresh machine, under the detectors, and the audit looks at what is
left. With --seconds the seeds that follow come next, until the time is over.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections import Counter
from typing import Any

import click

from emulator import engine
from emulator.policy.policies import POLICIES
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from workers.programs.random_programs import Workload, random_workload

COUNTERS = (
    "insns",
    "accesses",
    "faults",
    "zapped",
    "tables_freed",
    "flushes_local",
    "flushes_remote",
    "ipis",
    "errors",
)
SIGNALS = ("sigsegv", "sigbus", "oom_kills")
FIGURES = (*COUNTERS, *SIGNALS, "grace_periods", "seconds")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What one run of random programs needs beside its policy and the lab's seed."""

    lab: options.Lab
    cpus: int = 4
    mms: int = 2
    length: int = 3000

    def at(self, seed: int, perturb: int | None = None) -> Setup:
        """The same with another seed, and another perturbation if given."""
        perturb = self.lab.perturb if perturb is None else perturb
        return dataclasses.replace(self, lab=dataclasses.replace(self.lab, seed=seed, perturb=perturb))

    def command(self, policy: str) -> str:
        """The command that runs this again."""
        lab = self.lab
        words = ["ptelab", "run", "stress", "--seed", lab.seed, "--policy", policy, "--cpus", self.cpus]
        words += ["--mms", self.mms, "--length", self.length, "--engine", lab.engine, "--checks", lab.checks]
        if lab.perturb:
            words += ["--perturb", lab.perturb]
        if lab.knobs:
            words += ["--knob", ",".join(lab.knobs)]
        return shlex.join(str(word) for word in words)


def geometry(cpus: int, mms: int, length: int) -> Any:
    """The largest machine a run may need: the programs of a seed differ a little in length."""
    program = random_workload(0, 1, 1, length).programs[0]
    return Workload([[*program, *program]] * cpus, [cpu % mms for cpu in range(cpus)]).geometry()


def run_once(policy: str, setup: Setup, record: Record) -> dict[str, Any]:
    """One policy, one seed, on a machine of its own: its counters, with grace periods and seconds."""
    from workers.machine import Machine

    workload = random_workload(setup.lab.seed, setup.cpus, setup.mms, setup.length)
    instruments = setup.lab.instruments(setup.cpus)
    with Machine(workload.geometry(), policy, instruments, workload.mm_of_cpu) as machine:
        machine.load_all(workload.programs)
        began = time.perf_counter()
        machine.start()
        machine.wait()
        seconds = time.perf_counter() - began
        counters = session.finish(machine, record, setup.lab, setup.command(policy))
        return {**counters, "grace_periods": int(machine.views["rcu"]["gp_completed"][0]), "seconds": seconds}


def failures(policy: str, setup: Setup, taken: Counter[str] | None = None) -> list[str]:
    """What one run has found, with the command that runs it again; nothing if the protocol held. For tests.

    The paths it took are added to `taken`.
    """
    record = Record("stress", setup.lab.seed)
    run_once(policy, setup, record)
    if taken is not None:
        taken.update(record.paths)
    found = [violation.headline() for violation in record.violations]
    found += [f"check {name}: {count} violations" for name, count in record.checks.items() if count]
    return [*found, f"again: {setup.command(policy)}"] if found else []


def run(record: Record, setup: Setup, seconds: float) -> None:
    """Seed after seed, every policy, until the time is over or something was found."""
    engine.prepare()  # compiling is not part of the seconds
    rows = {policy: _row(policy, setup) for policy in setup.lab.policies}
    began = time.perf_counter()
    seed = setup.lab.seed
    try:
        with Progress("stress") as progress:
            while True:
                for done, policy in enumerate(setup.lab.policies):
                    spent = time.perf_counter() - began
                    share = spent / seconds if seconds else done / len(rows)
                    progress.update(min(1.0, share), f"seed {seed}, {policy}")
                    counters = run_once(policy, setup.at(seed), record)
                    _add(rows[policy], counters)
                    if record.violations or any(record.checks.values()):
                        return
                seed += 1
                if time.perf_counter() - began >= seconds:
                    return
    finally:
        record.rows.extend(row for row in rows.values() if row["seeds"])


def _row(policy: str, setup: Setup) -> dict[str, Any]:
    row: dict[str, Any] = {"policy": policy, "engine": setup.lab.engine, "cpus": setup.cpus, "mms": setup.mms}
    row |= {"length": setup.length, "perturb": setup.lab.perturb, "first_seed": setup.lab.seed, "seeds": 0}
    return row | dict.fromkeys(FIGURES, 0)


def _add(row: dict[str, Any], counters: dict[str, Any]) -> None:
    row["seeds"] += 1
    for name in FIGURES:
        row[name] += counters[name]


def show(record: Record, setup: Setup) -> None:
    """A line per policy, and how to repeat a run whose audit failed."""
    lab = setup.lab
    instruments = f", one point in {lab.perturb} delayed" if lab.perturb else ""
    report.write(
        f"stress: {setup.cpus} CPUs in {setup.mms} mms, programs of {setup.length} instructions, "
        f"engine {lab.engine}, checks {lab.checks}{instruments}"
    )
    report.write()
    names = (
        "instructions",
        "accesses",
        "faults",
        "zaps",
        "tables freed",
        "flushes local",
        "remote",
        "IPIs",
        "errors",
        "signals",
    )
    lines = []
    for row in record.rows:
        seeds = str(row["first_seed"]) + (f" - {row['first_seed'] + row['seeds'] - 1}" if row["seeds"] > 1 else "")
        signals = sum(row[name] for name in SIGNALS)
        figures = [f"{figure:,}" for figure in (*(row[name] for name in COUNTERS), signals, row["grace_periods"])]
        lines.append([row["policy"], seeds, *figures, f"{row['seconds']:.2f}"])
    report.table(["policy", "seeds", *names, "grace periods", "s"], lines)
    if record.paths:
        report.write("\n".join([*report.paths(record.paths), ""]))
    if any(record.checks.values()):
        row = record.rows[-1]
        report.write(f"again: {setup.at(row['first_seed'] + row['seeds'] - 1).command(row['policy'])}\n")


@click.command("stress", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--cpus", default="4", metavar="N", callback=options.number(1, options.MAX_CPUS, whole=True), help="CPUs. [4]"
)
@click.option("--mms", default="2", metavar="N", callback=options.number(1, 64, whole=True), help="Address spaces. [2]")
@click.option(
    "--length",
    default="3000",
    metavar="N",
    callback=options.number(1, 10**6, whole=True),
    help="Instructions per CPU. [3000]",
)
@click.option(
    "--seconds",
    default="0",
    metavar="N",
    callback=options.number(0, 10**7),
    help="Seconds to go on with seed after seed. [one seed]",
)
@options.shared_with(policies=",".join(POLICIES), checks="online")
def command(cpus: int, mms: int, length: int, seconds: float, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    if mms > cpus:
        raise UserError(f"--mms {mms} needs as many CPUs; known: 1 to --cpus {cpus}")
    session.check_fits("--cpus", cpus, mms, lambda n: geometry(n, mms, length))
    setup = Setup(lab, cpus, mms, length)
    record = Record("stress", lab.seed)
    return session.conduct(record, lab, lambda: run(record, setup, seconds), lambda: show(record, setup))
