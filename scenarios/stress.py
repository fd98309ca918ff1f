"""stress: does the protocol survive random programs of every instruction?

A seed names the programs of all CPUs (workers/programs/random_programs.py), which share few tables and meet at
barriers. Every policy runs them to their end on a fresh machine, under the detectors, and the audit looks at what is
left. Before that it runs programs of CPUs that are alone in their mm, whose every answer is known beforehand
(foretold.py). With --seconds the seeds that follow come next, until the time is over. Without --cpus, --mms and
--length a seed chooses a small machine itself, and how much is delayed at random.
"""

from __future__ import annotations

import dataclasses
import random
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from emulator import engine
from emulator.policy.policies import POLICIES
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from workers.programs.foretold import foretold_workload
from workers.programs.random_programs import Workload, random_workload

SOUND = [name for name, policy in POLICIES.items() if policy.sound]  # the others have a race of their own
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
NOTICED, MUTANTS, SCORE_SECONDS = 152, 257, 6  # what docs/judged.md says of this command
FORETOLD_CALLS = 250  # of each CPU whose answers are known, at most
SHOWN_WRONG = 5  # of its wrong answers
LOOK_SECONDS = 0.005  # between two looks at what a machine holds, which runs for some tenths of a second
MACHINES: tuple[dict[str, int], ...] = (  # settings: each machine is lawful
    {},
    {},
    {"flush_ceiling": 1 << 20},
    {"vma_locks": 1},
    {"one_ptl": 1},
    {"zap_batch": 7},
    {"no_gather_batch": 1},
)
SHAPES = (2, 2, 3, 4), (1, 1, 2), (100, 200, 400, 800), (8, 8, 64, 0)  # CPUs, mms, instructions, --perturb


@dataclasses.dataclass(frozen=True)
class Setup:
    """What one run of random programs needs beside its policy and the lab's seed. None: as the seed says."""

    lab: options.Lab
    cpus: int | None = None
    mms: int | None = None
    length: int | None = None

    def at(self, seed: int, perturb: int | None = None) -> Setup:
        """The same with another seed, and another perturbation if given."""
        perturb = self.lab.perturb if perturb is None else perturb
        return dataclasses.replace(self, lab=dataclasses.replace(self.lab, seed=seed, perturb=perturb))

    @property
    def drawn(self) -> bool:
        """True if the seed says everything."""
        return self.cpus is self.mms is self.length is None

    def shape(self) -> tuple[int, int, int, int]:
        """CPUs, mms, instructions and perturbation of the lab's seed."""
        cpus, mms, length, perturb = map(random.Random(f"shape {self.lab.seed}").choice, SHAPES)
        cpus = self.cpus or max(cpus, self.mms or 1)
        mms = self.mms or min(mms, cpus)
        drawn = self.drawn and self.lab.checks == "online"  # the plain build delays nothing
        return cpus, mms, self.length or length, self.lab.perturb or (perturb if drawn else 0)

    def instruments(self, cpus: int, policy: str) -> Any:
        """Those of the lab, on one of the lawful machines; with detectors translations are compared with the tables."""
        tools = dataclasses.replace(self.lab.instruments(cpus), perturb=self.shape()[3])
        if self.lab.checks != "online":
            return tools
        settings = random.Random(f"setting {self.lab.seed} {policy}").choice(MACHINES)
        return dataclasses.replace(tools, exact=True, settings=settings)

    def command(self, policy: str) -> str:
        """The command that runs this again."""
        lab, (cpus, mms, length, perturb) = self.lab, self.shape()
        words = ["ptelab", "run", "stress", "--seed", lab.seed, "--policy", policy, "--cpus", cpus]
        words += ["--mms", mms, "--length", length, "--engine", lab.engine, "--checks", lab.checks]
        if perturb:
            words += ["--perturb", perturb]
        if lab.knobs:
            words += ["--knob", ",".join(lab.knobs)]
        return shlex.join(str(word) for word in words)


def geometry(cpus: int, mms: int, length: int) -> Any:
    """The largest machine a run may need: the programs of a seed differ a little in length."""
    program = random_workload(0, 1, 1, length).programs[0]
    return Workload([[*program, *program]] * cpus, [cpu % mms for cpu in range(cpus)]).geometry()


def run_foretold(policy: str, setup: Setup, record: Record) -> bool:
    """One policy, one seed: the programs whose answers are known. True if all is as foretold."""
    from workers.machine import Machine

    seed, calls = setup.lab.seed, min(FORETOLD_CALLS, setup.shape()[2])
    workload = foretold_workload(seed * len(POLICIES) + list(POLICIES).index(policy), calls)
    cpus = len(workload.programs)
    instruments = setup.instruments(cpus, policy)
    with Machine(workload.geometry(), policy, instruments, workload.mm_of_cpu) as machine:
        machine.load_all(workload.programs)
        machine.start()
        machine.wait()
        session.finish(machine, record, setup.lab, setup.command(policy))
        wrong = [] if record.violations else workload.wrong(machine.views)
    record.add_checks({"foretold": len(wrong)})
    record.found += wrong[:SHOWN_WRONG]
    return not record.violations and not any(record.checks.values())


def run_once(policy: str, setup: Setup, record: Record) -> dict[str, Any]:
    """One policy, one seed, on a machine of its own: its counters, with grace periods, seconds, and what it held."""
    from workers.machine import Machine

    cpus, mms, length, _ = setup.shape()
    workload = random_workload(setup.lab.seed, cpus, mms, length)
    with Machine(workload.geometry(), policy, setup.instruments(cpus, policy), workload.mm_of_cpu) as machine:
        machine.load_all(workload.programs)
        began = time.perf_counter()
        machine.start()
        samples = session.wait_sampled(machine, every=LOOK_SECONDS)
        seconds = time.perf_counter() - began
        counters = session.finish(machine, record, setup.lab, setup.command(policy))
        grace_periods = int(machine.views["rcu"]["gp_completed"][0])
        return {**counters, "grace_periods": grace_periods, "seconds": seconds, "samples": samples}


def failures(policy: str, setup: Setup, taken: Counter[str] | None = None) -> list[str]:
    """What one run has found, with the command that runs it again; nothing if the protocol held. For tests.

    The paths it took are added to `taken`.
    """
    record = Record("stress", setup.lab.seed)
    if run_foretold(policy, setup, record):
        run_once(policy, setup, record)
    if taken is not None:
        taken.update(record.paths)
    found = [violation.headline() for violation in record.violations]
    found += [f"check {name}: {count} violations" for name, count in record.checks.items() if count] + record.found
    return [*found, f"again: {setup.command(policy)}"] if found else []


def run(record: Record, setup: Setup, seconds: float, again: list[str]) -> None:
    """Seed after seed, every policy, until the time is over or something was found: `again` says how to find it."""
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
                    if setup.lab.stops or run_foretold(policy, setup.at(seed), record):
                        _add(rows[policy], run_once(policy, setup.at(seed), record))
                    if record.violations or any(record.checks.values()):
                        again.append(f"again: {setup.at(seed).command(policy)}\n")
                        return
                    if seconds and time.perf_counter() - began >= seconds:
                        return
                seed += 1
                if not seconds:
                    return
    finally:
        record.rows.extend(row for row in rows.values() if row["seeds"] or again)


def _row(policy: str, setup: Setup) -> dict[str, Any]:
    row: dict[str, Any] = {"policy": policy, "engine": setup.lab.engine, "cpus": setup.cpus, "mms": setup.mms}
    row |= {"length": setup.length, "perturb": setup.lab.perturb, "first_seed": setup.lab.seed, "seeds": 0}
    return row | dict.fromkeys(FIGURES, 0)


def _add(row: dict[str, Any], counters: dict[str, Any]) -> None:
    row["seeds"] += 1
    row.setdefault("samples", counters["samples"])  # of the first seed: a timeline, and not a sum
    for name in FIGURES:
        row[name] += counters[name]


def worth() -> str:
    """What PASS says, and what it does not."""
    noticed = f"of {MUTANTS} changes of the kernel {NOTICED} were noticed, in {SCORE_SECONDS} s each"
    return (
        f"PASS is worth this: {noticed}\n(docs/judged.md); what needs luck, or weaker memory, ptelab explore shows.\n"
    )


def show(record: Record, setup: Setup, again: Sequence[str]) -> None:
    """A line per policy, what was not as foretold, and how to repeat a run that failed."""
    lab = setup.lab
    cpus, mms, length, perturb = setup.shape()
    shape = f"{cpus} CPUs in {mms} mms, programs of {length} instructions"
    if setup.drawn:
        shape, perturb = f"{min(SHAPES[0])} to {max(SHAPES[0])} CPUs in 1 or 2 mms, as each seed says", lab.perturb
    instruments = f", one point in {perturb} delayed" if perturb else ""
    report.write(f"stress: {shape}, engine {lab.engine}, checks {lab.checks}{instruments}\n")
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
    for line in [*record.found, *again]:
        report.write(line)
    if record.verdict == "pass":
        report.write(worth())
    if record.signals:
        report.write("signals are expected: random programs touch what another CPU has unmapped\n")


@click.command("stress", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--cpus", metavar="N", callback=options.number(1, options.MAX_CPUS, whole=True), help="CPUs. [as the seed says]"
)
@click.option(
    "--mms", metavar="N", callback=options.number(1, 64, whole=True), help="Address spaces. [as the seed says]"
)
@click.option(
    "--length",
    metavar="N",
    callback=options.number(1, 10**6, whole=True),
    help="Instructions per CPU. [as the seed says]",
)
@click.option(
    "--seconds",
    default="0",
    metavar="N",
    callback=options.number(0, 10**7),
    help="Seconds to go on with seed after seed. [one seed]",
)
@options.shared_with(policies=",".join(SOUND), checks="online")
def command(cpus: int | None, mms: int | None, length: int | None, seconds: float, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    if cpus is not None and mms is not None and mms > cpus:
        raise UserError(f"--mms {mms} needs as many CPUs; known: 1 to --cpus {cpus}")
    if lab.stops:  # it is in one machine that somebody stops
        cpus, length = cpus or 4, length or 3000
        mms = mms or min(2, cpus)
    most = max(cpus or max(SHAPES[0]), mms or 1)
    session.check_fits("--cpus", most, mms or 1, lambda n: geometry(n, mms or 1, length or max(SHAPES[2])))
    setup, record, again = Setup(lab, cpus, mms, length), Record("stress", lab.seed), list[str]()
    return session.conduct(record, lab, lambda: run(record, setup, seconds, again), lambda: show(record, setup, again))
