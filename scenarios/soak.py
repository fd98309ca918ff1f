"""soak: does the full protocol stay clean for ten thousand million page faults?

Rounds of a few seconds, each on a fresh machine, under every counting policy in turn. They are random programs, and the
loops of multi-fault on two CPUs: one mm, released by each CPU or by one, or an mm each. Each round is audited. The
first violation ends the run. The total is kept in a state file after every round, so a run can be interrupted and taken
up again. A total belongs to the sources of the emulated kernel it was reached with.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import click

from emulator import engine
from emulator.policy.policies import POLICIES
from scenarios import multi_fault, stress
from scenarios.session import errors, options, report, session
from scenarios.session.files import kept_file
from scenarios.session.progress import Progress
from scenarios.session.record import Record, commit
from workers.interrupts import held_back

SCHEMA = 1
COUNTED = [name for name, policy in POLICIES.items() if policy.counted][::-1]
KINDS = (*multi_fault.VARIANTS, "stress")
CPUS = 2  # of the loops: as many as run at once nearly everywhere, so nearly all the time goes into faults
ROUND_SECONDS, MIN_SECONDS = 5.0, 0.01
FIRST_SECONDS = 0.2  # of the first round, which tells the rate
SHAPES = ((4, 2), (3, 1), (8, 3), (2, 1), (16, 3))  # CPUs and mms of the random programs, in turn
LENGTH = 2000
COUNTERS = ("insns", "faults", "zapped", "tables_freed", "flushes_local", "flushes_remote", "ipis")


def protocol() -> str:
    """A hash of the emulated kernel's sources, less those of other engines: what a total was reached with."""
    digest = hashlib.sha256()
    others = {f"{name}.py" for name in engine.ALL_ENGINES if name != engine.name()}
    for path in sorted(Path(engine.__file__).parent.rglob("*.py")):
        if path.parent.name == "engines" and path.name in others:
            continue
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class State:
    """The totals so far: one per protocol, checks and engine. `file` is None if they are not to be kept."""

    def __init__(self, file: str | None, lab: options.Lab) -> None:
        from importlib.metadata import version

        self.file = Path(file) if file else None
        self.protocol = protocol()
        self.totals: list[dict[str, Any]] = self._read()
        mine: dict[str, Any] = {"protocol": self.protocol, "checks": lab.checks, "engine": lab.engine}
        found = [total for total in self.totals if mine.items() <= total.items()]
        self.mine = found[0] if found else mine | dict.fromkeys(("rounds", *COUNTERS), 0)
        self.mine |= {"version": version("ptelab"), "commit": commit()}
        if not found:
            self.mine |= {"seconds": 0.0, "faults_of": {}, "violations": []}
            self.totals.append(self.mine)

    def _read(self) -> list[dict[str, Any]]:
        if self.file is None or not self.file.exists():
            return []
        try:
            state = json.loads(self.file.read_text())
            if state["schema"] == SCHEMA:
                return list(state["totals"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise errors.UserError(f"{self.file} is not a state of ptelab soak; give another --state")

    @property
    def same(self) -> list[dict[str, Any]]:
        """The totals of this protocol."""
        return [total for total in self.totals if total["protocol"] == self.protocol]

    @property
    def faults(self) -> int:
        """Faults of this protocol, under whatever checks."""
        return sum(total["faults"] for total in self.same)

    @property
    def violations(self) -> list[str]:
        """What was found in this protocol."""
        return [violation for total in self.same for violation in total["violations"]]

    def add(self, name: str, counters: dict[str, Any], seconds: float) -> None:
        """Enter one round."""
        self.mine["rounds"] += 1
        self.mine["seconds"] += seconds
        self.mine["faults_of"][name] = self.mine["faults_of"].get(name, 0) + counters["faults"]
        for counter in COUNTERS:
            self.mine[counter] += counters[counter]

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self.file is None:
            return
        with held_back():
            new = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            new.write_text(json.dumps({"schema": SCHEMA, "totals": self.totals}, indent=2) + "\n")
            new.replace(self.file)


def loop_round(variant: str, policy: str, seconds: float, lab: options.Lab, record: Record) -> dict[str, Any]:
    """The loops of multi-fault for a while, then the audit: the counters."""
    from workers.machine import Machine

    command = f"ptelab run multi-fault --cpus {CPUS} --variant {variant} --policy {policy} --repeat 1 --no-host "
    command += f"--seconds {max(seconds, ROUND_SECONDS):g} --seed {lab.seed} --engine {lab.engine} "
    command += f"--checks {lab.checks}" + (f" --knob {','.join(lab.knobs)}" if lab.knobs else "")
    mm_of_cpu = range(CPUS) if variant == "processes" else None
    with Machine(multi_fault.geometry(CPUS, variant), policy, lab.instruments(CPUS), mm_of_cpu) as machine:
        machine.load_all(multi_fault.programs(CPUS, variant, lab.seed))
        machine.start()
        machine.run_for(seconds)
        machine.stop()
        return session.finish(machine, record, lab, command)


def one_round(number: int, seconds: float, lab: options.Lab, record: Record) -> tuple[str, dict[str, Any]]:
    """Round `number`: its name and counters. Every other one of random programs is perturbed, in the debug build."""
    kind = KINDS[number % len(KINDS)]
    turn = number // len(KINDS)
    policy = COUNTED[turn % len(COUNTED)]
    perturb = options.PERTURB if kind == "stress" and lab.checks == "online" and turn % 2 else None
    setup = stress.Setup(lab, *SHAPES[turn % len(SHAPES)], LENGTH).at(lab.seed + number, perturb)
    if kind != "stress":
        return f"{policy} {kind}", loop_round(kind, policy, seconds, setup.lab, record)
    return f"{policy} stress", stress.run_once(policy, setup, record)


def run(record: Record, lab: options.Lab, state: State, faults: int, seconds: float) -> None:
    """Round after round until the state holds so many faults, the time is over, or something was found."""
    engine.prepare()  # compiling is not part of the time
    began, before = time.perf_counter(), state.faults
    with Progress("soak") as progress:
        while state.faults < faults and not state.violations:
            spent = time.perf_counter() - began
            rate = (state.faults - before) / spent
            left = (faults - state.faults) / rate if rate else FIRST_SECONDS
            progress.update(state.faults / faults, progress_text(state.faults, faults, rate))
            if seconds <= spent:
                break
            length = max(MIN_SECONDS, min(ROUND_SECONDS, left, seconds - spent))
            start = time.perf_counter()
            name, counters = one_round(state.mine["rounds"], length, lab, record)
            state.add(name, counters, time.perf_counter() - start)
            state.mine["violations"] += [f"{one.headline()}; again: {one.command}" for one in record.violations]
            state.mine["violations"] += [f"check {check}, in {name}" for check, count in record.checks.items() if count]
            state.save()


def progress_text(done: int, faults: int, rate: float) -> str:
    """How far, how fast, how long still."""
    if not rate:
        return f"{done:.4g} of {faults:.4g} faults"
    seconds = (faults - done) / rate
    left = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{done:.4g} of {faults:.4g} faults, {rate / 1e6:.2f} million/s, {left} left"


def show(record: Record, state: State, faults: int) -> None:
    """The totals of this protocol, and what is left to do."""
    lines = [
        [
            f"{total['checks']}, {total['engine']}",
            *(f"{total[name]:,}" for name in ("rounds", "faults", "tables_freed", "flushes_remote", "ipis")),
            f"{total['seconds']:,.0f}",
            f"{total['faults'] / total['seconds']:,.0f}" if total["seconds"] else "-",
            str(len(total["violations"])),
        ]
        for total in state.same
    ]
    header = ["checks, engine", "rounds", "faults", "tables freed", "flushes remote", "IPIs", "s", "faults/s"]
    report.table([*header, "violations"], lines, f"soak: {', '.join(COUNTED)}; protocol {state.protocol}")
    kept = f", kept in {state.file}" if state.file else ""
    share = 100 * state.faults / faults
    report.write(f"total   {state.faults:,} faults, {min(share, 100):.4g} % of {faults:,}{kept}")
    for violation in state.violations:
        text, _, again = violation.partition("; again: ")
        report.write(f"found   {text}")
        if again:
            report.write(f"again: {again}")
    report.write()


@click.command(
    "soak",
    help=(__doc__ or "").split("\n\n")[1],
)
@click.option(
    "--faults",
    default="1e10",
    metavar="N",
    callback=options.number(1, 1e18),
    help="Stop after N page faults. [1e10]",
)
@click.option(
    "--state", "state_file", metavar="FILE", callback=kept_file, help="Keep the total there, and go on from it."
)
@click.option(
    "--seconds", default="1e9", metavar="N", callback=options.number(0, 1e9), help="Stop after N seconds. [no limit]"
)
@functools.partial(options.engine_options, default_checks="online")
def command(faults: float, state_file: str | None, seconds: float, lab: options.Lab) -> int:
    """Run it; the exit status."""
    state = State(state_file, lab)
    record = Record("soak", lab.seed, rows=state.same)
    if state.violations:  # of an earlier run: this protocol's total is not clean any more
        show(record, state, int(faults))
        return errors.VIOLATION
    return session.conduct(
        record,
        lab,
        lambda: run(record, lab, state, int(faults), seconds),
        lambda: show(record, state, int(faults)),
    )
