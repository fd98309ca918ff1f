"""The explorer's figures, in a process of its own since an engine is chosen once per process: JSON on stdout.

python -m benchmarks.explore speed                steps per second, executions with and without the reduction
python -m benchmarks.explore zoo --seeds 10       seconds until each race is found, preemptions of its schedule
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import click

from emulator import engine

engine.choose("explore", debug=True)

from emulator.atomic import write_once  # noqa: E402
from emulator.engines.explore import NEVER  # noqa: E402
from emulator.pgtable import pgtable_of, pmd_lookup, pte_offset  # noqa: E402
from emulator.policy.pte_ref import pte_put, pte_try_get  # noqa: E402
from scenarios.proofs.claims import freed_once  # noqa: E402
from scenarios.proofs.finding import Plan, explore, machine_for  # noqa: E402
from scenarios.proofs.subject import subject  # noqa: E402
from scenarios.session.progress import note  # noqa: E402
from scenarios.zoo.bodies import BASE, ONE_ENTRY, at_once  # noqa: E402
from scenarios.zoo.race import RACES  # noqa: E402
from workers.explorer.explored_machine import ExploredMachine  # noqa: E402
from workers.explorer.hunt import Budget, search  # noqa: E402
from workers.explorer.search import Search  # noqa: E402
from workers.instruments import Instruments  # noqa: E402

SECONDS = 2.0


def steps_per_second() -> float:
    """Of the systematic search of one race as it is, in this process."""
    machine = machine_for(subject("race/publish-before-init"), Plan(False, "sc", races=False))
    search(machine, lambda: Search(2), Budget(0.5))
    verdict = search(machine, lambda: Search(2), Budget(SECONDS))
    return verdict.steps / verdict.seconds


def pin_and_put(m: Any, cpu: int) -> None:
    """A walker."""
    pmd = pmd_lookup(m, 0, BASE)
    if pte_try_get(m, cpu, pmd) != 0:
        pte_put(m, cpu, 0, pmd, BASE)


def last_put(m: Any, cpu: int) -> None:
    """Clear the only entry and drop its reference."""
    pmd = pmd_lookup(m, 0, BASE)
    table = pgtable_of(m.entry[pmd])
    write_once(m.entry, pte_offset(table, BASE), 0)
    pte_put(m, cpu, 0, pmd, BASE)


TWO_WALKERS = at_once(ONE_ENTRY, pin_and_put, pin_and_put, last_put, end=freed_once)


def executions(knobs: tuple[str, ...], reduce: bool, most: int = NEVER) -> tuple[str, int]:
    """Verdict of the search over two walkers against the last put, and how many executions it took."""
    machine = ExploredMachine(TWO_WALKERS, "refcount", Instruments(online=False, knobs=knobs))
    verdict = search(machine, lambda: Search(reduce=reduce), Budget(300, most))
    return verdict.word, verdict.executions


@click.group()
def main() -> None:
    """Measure the explorer."""


@main.command()
def speed() -> None:
    """Steps per second; executions of the reduced and of the plain search, which ends at 20 times as many."""
    whole = executions((), True)
    found = {
        "reduced": whole,
        "plain": executions((), False, 20 * whole[1]),
        "twin, reduced": executions(("plain-count",), True),
        "twin, plain": executions(("plain-count",), False),
    }
    rates = [steps_per_second() for _ in range(5)]
    click.echo(json.dumps({"steps_per_second": rates, "executions": found}))


@main.command()
@click.option("--seeds", default=10, type=click.IntRange(1, 100))
def zoo(seeds: int) -> None:
    """Per race: seconds until it is found, for each seed; preemptions of each schedule."""
    found: dict[str, Any] = {}
    for name in RACES:
        of, seconds, preemptions = subject(f"race/{name}"), [], []
        for seed in range(seeds):
            began = time.monotonic()
            finding = explore(of, Plan(True, "sc", seconds=60, seed=seed))
            seconds.append(finding.verdict.seconds if finding.example is not None else time.monotonic() - began)
            preemptions.append(finding.example.preemptions if finding.example is not None else None)
        note(f"{name}: {statistics.median(seconds):.2f} s, preemptions {preemptions}")
        found[name] = {"seconds": seconds, "preemptions": preemptions}
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
