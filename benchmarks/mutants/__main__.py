"""make mutants: which small changes of the kernel are noticed, by what, how soon.

    python -m benchmarks.mutants [--seconds 5] [--kind flushing] [--count 20] [--only NAME,...] [--json FILE]

A copy of the project is made under build/, with every mutant behind a switch, and compiled once. There each mutant is
attacked by `ptelab run stress --seconds N`; the tests of its module and the explorer come for what that did not notice.
The copy without a mutant comes first: it must be sound, or nothing here means anything.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click

from benchmarks.mutants import attack
from benchmarks.mutants.attack import Kill
from benchmarks.mutants.listed import KIND_OF, KINDS, MUTANTS
from benchmarks.mutants.tree import build
from scenarios.session import report
from scenarios.session.files import output_file, write_file
from scenarios.session.progress import Progress

PREPARING_SECONDS = 1200.0  # of the run that compiles


def chosen(kind: str | None, only: str, count: int, seed: int) -> list[str]:
    """The names of the mutants to attack. Raises UsageError."""
    names = [name for name in MUTANTS if kind in (None, KIND_OF[name])]
    if only:
        names = only.split(",")
        if unknown := [name for name in names if name not in MUTANTS]:
            raise click.UsageError(f"unknown mutant '{unknown[0]}'; known: {', '.join(MUTANTS)}")
    return names if count == 0 else random.Random(seed).sample(names, min(count, len(names)))


def attacked(name: str, seconds: float, stress_alone: bool) -> Kill:
    """What notices a mutant first."""
    killed = attack.stress(name, seconds)
    if killed is None and not stress_alone and not MUTANTS[name].equivalent:
        killed = attack.explorer(name) or attack.tests(name)
    return killed or Kill()


def score(kills: dict[str, Kill], names: Iterable[str], by: Sequence[str]) -> tuple[int, int]:
    """How many of the mutants that are not equivalent were noticed by these attackers, and how many there are."""
    counted = [name for name in names if not MUTANTS[name].equivalent]
    return sum(kills[name].by in by for name in counted), len(counted)


def show(kills: dict[str, Kill]) -> None:
    """A line per mutant, then one per kind."""
    lines = []
    for name, kill in kills.items():
        equivalent = MUTANTS[name].equivalent and "equivalent"
        lines.append([KIND_OF[name], name, kill.by or equivalent or "survives", kill.saw, f"{kill.seconds:.1f}"])
    report.table(["kind", "mutant", "noticed by", "what it saw", "s"], lines, left=(0, 1, 2, 3))
    rows = []
    everybody = (attack.STRESS, attack.TESTS, attack.EXPLORER)
    for kind in (*KINDS, "all"):
        names = [name for name in kills if kind in (KIND_OF[name], "all")]
        noticed, of = score(kills, names, everybody)
        by_stress = score(kills, names, (attack.STRESS,))[0]
        if of:
            shares = [f"{100 * part / of:.0f} %" for part in (by_stress, noticed)]
            rows.append([kind, str(len(names)), str(len(names) - of), str(by_stress), str(noticed), *shares])
    report.table(["kind", "mutants", "equivalent", "stress", "noticed", "stress %", "noticed %"], rows)


def equivalents(kills: dict[str, Kill]) -> list[str]:
    """Mutants that are said to be equivalent, and were noticed all the same."""
    return [name for name, kill in kills.items() if MUTANTS[name].equivalent and kill.by]


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--seconds", default=5.0, show_default=True, help="Of stress for each mutant.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="One kind of mutants.")
@click.option("--only", default="", help="Mutants by name, separated by commas.")
@click.option("--count", default=0, help="So many, chosen by --seed. [all]")
@click.option("--seed", default=0, help="Chooses those.")
@click.option("--stress-alone", is_flag=True, help="No tests, no explorer.")
@click.option(
    "--json", "json_file", metavar="FILE", callback=output_file, help="Write what was noticed as JSON; - is stdout."
)
def main(
    seconds: float, kind: str | None, only: str, count: int, seed: int, stress_alone: bool, json_file: str | None
) -> None:
    """Attack mutants; exit status 1 if the kernel itself is not sound, or an equivalent mutant was noticed."""
    names = chosen(kind, only, count, seed)
    build()
    kills: dict[str, Kill] = {}
    with Progress("mutants") as progress:
        progress.update(0.0, "compiling the copy")
        if (broken := attack.stress(None, seconds, PREPARING_SECONDS)) is not None:
            raise click.ClickException(f"without a mutant the stress fails: {broken.saw}")
        for done, name in enumerate(names):
            progress.update(done / len(names), name)
            kills[name] = attacked(name, seconds, stress_alone)
    wrong = equivalents(kills)
    if json_file:
        write_file(json_file, json.dumps({name: asdict(kill) for name, kill in kills.items()}, indent=2) + "\n")
    if json_file != "-":
        show(kills)
        if wrong:
            report.write(f"said to be equivalent, and noticed: {', '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
