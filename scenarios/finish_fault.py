"""finish-fault-deadlock: does a fault that allocates its page table under the page lock hang against write-back?

Write-back has marked page 0 and wants the lock of page 1, to write both at once. A fault holds the lock of page 1 and
needs a table. Its control group is at the limit, and reclaim waits until page 0 is written. Patch 1 allocates the table
before the page lock. With --knob pte-alloc-under-page-lock it does not: processes that run freely stop for good, and
the report names the cycle.

Source: Qi Zheng, "[PATCH 1/7] mm: fix the deadlock in finish_fault()", 2021-07-18; e4dc3489143f.
"""

from __future__ import annotations

from typing import Any

import click

from scenarios.session import options, report, session
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from scenarios.zoo.race import load_race
from scenarios.zoo.zoo import geometry

RACE = "pte-alloc-under-page-lock"
FIGURES = ("faults", "written", "tables_installed")


def measure(policy: str, seconds: float, record: Record, lab: options.Lab) -> dict[str, Any]:
    """Run the two programs under one policy for so long, or until they hang: the row."""
    from workers.machine import Machine

    race = load_race(RACE)
    programs = race.programs(lab.seed)
    with Machine(geometry(race, programs), policy, lab.instruments(len(programs)), patience=race.patience) as machine:
        machine.load_all(programs)
        machine.start()
        machine.run_for(seconds)
        machine.stop()
        counters = session.finish(machine, record, lab)
        started = int(machine.views["run"]["start_ns"][0])
        ended = int(machine.views["run"]["bug_ns"][0]) or int(machine.views["cpu"]["finished_ns"].max())
        names = ("faults", "written", "tables_installed", "alloc_stalls")
        figures = {name: counters[name] for name in names}
        return {
            "policy": policy,
            "engine": lab.engine,
            "hung": machine.frozen,
            **figures,
            "seconds": (ended - started) / 1e9,
        }


def run(record: Record, lab: options.Lab, seconds: float) -> None:
    """Every policy in turn, until one hangs."""
    with Progress("finish-fault-deadlock") as progress:
        for done, policy in enumerate(lab.policies):
            progress.update(done / len(lab.policies), policy)
            record.rows.append(measure(policy, seconds, record, lab))
            if record.violations:
                return


def show(record: Record, lab: options.Lab) -> None:
    """A line per policy."""
    where = "under" if RACE in lab.knobs else "before"
    report.write(f"finish-fault-deadlock: the table is allocated {where} the page lock; engine {lab.engine}\n")
    lines = []
    for row in record.rows:
        figures = [f"{row[name]:,}" for name in FIGURES]
        lines.append([row["policy"], *figures, f"{row['seconds']:.2f}", "hangs" if row["hung"] else "runs"])
    report.table(["policy", "faults", "pages written", "tables installed", "s", ""], lines)


@click.command("finish-fault-deadlock", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--seconds", default="2", metavar="N", callback=options.number(0.1, 10**6), help="How long each policy runs. [2]"
)
@options.shared_with(policies="none,refcount", checks="online")
def command(seconds: float, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    record = Record("finish-fault-deadlock", lab.seed)
    return session.conduct(record, lab, lambda: run(record, lab, seconds), lambda: show(record, lab))
