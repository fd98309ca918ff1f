"""The zoo: run one race until its violation is seen, or all of them, and say how long it took.

A hunt is one machine with one seed: its programs go round until a detector fires or the time is over. With --perturb
points are delayed at random and the race's windows are steered onto each other; without it the processes race as they
are. With the piece in place the same hunt must find nothing.
"""

from __future__ import annotations

import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from emulator.checks import audit
from emulator.mm_types import PCP_ROOM, Geometry
from scenarios.session import errors, options, report, session
from scenarios.session.files import kept_file, write_file
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from scenarios.session.style import default_width
from scenarios.zoo.race import RACES, Race, load_race
from scenarios.zoo.tables import written
from workers.instruments import Instruments, Steer
from workers.telling.columns import history_lines
from workers.telling.violation import violation_of
from workers.telling.whereabouts import many

PERTURB = 16  # one point in so many is delayed
HUNT_SECONDS = 10.0
BARE_SECONDS, BARE_SEEDS = 1.0, 5  # without perturbation: the gain is shown, not waited for
CLEAN_SECONDS = 0.25


@dataclass(frozen=True)
class Hunt:
    """What came of one: the violation or None, seconds and operations (instructions) until then, the audit."""

    violation: Any
    seconds: float
    operations: int
    checks: dict[str, int]

    @property
    def violations(self) -> int:
        """How much was found, by detectors and audit."""
        return (self.violation is not None) + sum(self.checks.values())


def geometry(race: Race, programs: Any) -> Any:
    """A machine for the programs of a race: small, so that memory is used again at once."""
    return Geometry(
        cpus=len(programs),
        mms=2,  # one for a child
        insns=sum(len(program) for program in programs),
        frames=1 + 1024 + len(programs) * 2 * PCP_ROOM,
        tables=1024 + len(programs) * 256,
        files=1,
        memcg_limit=race.scene.memcg_limit,
        swap_pages=race.scene.swap_pages,
    )


def instruments(race: Race, seed: int, perturb: int, fixed: bool) -> Any:
    """What a hunt asks of the machine."""
    return Instruments(
        online=True,
        knobs=() if fixed else (race.knob,),
        settings=race.settings,
        perturb=perturb,
        seed=seed,
        steer=tuple(Steer(*steer) for steer in race.steer) if perturb else (),
    )


def hunt(name: str, seed: int, perturb: int = PERTURB, fixed: bool = False, seconds: float = HUNT_SECONDS) -> Hunt:
    """Run a race on real processes until a violation is seen, or for `seconds`."""
    from workers.machine import Machine

    race = load_race(name)
    if "no-progress" in race.detectors and not fixed:
        seconds = max(seconds, 4 * race.patience)  # or it is stopped before it is seen to stand still
    programs = race.programs(seed)
    tools = instruments(race, seed, perturb, fixed)
    with Machine(geometry(race, programs), race.policy, tools, tick_us=race.tick_us, patience=race.patience) as machine:
        machine.load_all(programs)
        machine.start()
        machine.run_for(seconds)
        machine.stop()
        operations = int(machine.views["cpu"]["insns"].sum())
        violation = violation_of(machine.views, machine.geometry)
        if violation is None:
            return Hunt(None, seconds, operations, audit(machine.views, machine.geometry))
        violation.command = command_for(name, seed, perturb, fixed)
        return Hunt(violation, violation.ns / 1e9, operations, {})


def command_for(name: str, seed: int, perturb: int, fixed: bool) -> str:
    """The command that runs a hunt again."""
    words = ["ptelab", "run", f"race/{name}", "--seed", str(seed)]
    words += ["--no-perturb"] if not perturb else []
    words += ["--fixed"] if fixed else []
    return shlex.join(words)


# --- one race -------------------------------------------------------------------------------------------------------


def race_command(name: str) -> click.Command:
    """The command `run race/NAME`."""
    race = load_race(name)

    first, _, history = race.text.partition("\n\n")
    history_text = "\n".join(history_lines(history, default_width() - 2))
    kept = "\n\n".join(f"\b\n{part}" for part in history_text.split("\n\n"))  # click would wrap the columns

    @click.command(f"race/{name}", help=f"{first}\n\n{kept}")
    @click.option("--fixed", is_flag=True, help="Leave the piece of the protocol in place.")
    @click.option("--perturb/--no-perturb", default=True, help="Delay and steer, or race bare. [perturb]")
    @click.option(
        "--seconds",
        default="10",
        metavar="N",
        callback=options.number(0.01, 3600),
        help="Seconds of a hunt. [10]",
    )
    @click.option("--repeat", default="1", metavar="N", callback=options.number(1, 1000, whole=True), help="Hunts. [1]")
    @click.option(
        "--seed",
        default="0",
        metavar="N",
        callback=options.number(0, 2**62, whole=True),
        help="Seed of what is random. [0]",
    )
    @options.output_options
    def command(fixed: bool, perturb: bool, seconds: float, repeat: int, seed: int, json_file: str | None) -> int:
        lab = options.Lab(seed=seed, json_file=json_file, checks="online", policies=(race.policy,))
        record = Record(f"race/{name}", seed, about=race.text)
        hunts: list[Hunt] = []

        def body() -> None:
            with Progress(f"race/{name}") as progress:
                for done in range(repeat):
                    progress.update(done / repeat)
                    hunts.append(hunt(name, seed, PERTURB if perturb else 0, fixed, seconds))
                    enter(record, hunts[-1])
            record.rows.append(row_of(name, fixed, hunts))

        return session.conduct(record, lab, body, lambda: show_one(race, record, hunts))

    return command


def enter(record: Record, one: Hunt) -> None:
    """Enter a hunt into the record: of several violations the first is kept."""
    record.add_checks(one.checks)
    if one.violation is not None and not record.violations:
        record.violations.append(one.violation)


def row_of(name: str, fixed: bool, hunts: list[Hunt]) -> dict[str, Any]:
    """The JSON row of one race."""
    caught = [one for one in hunts if one.violation is not None]
    found = [one.violation.detector for one in caught]
    return {
        "race": name,
        "knob": None if fixed else name,
        "detector": max(set(found), key=found.count) if found else None,
        "seeds": len(hunts),
        "caught": len(caught),
        "caught_seconds": [one.seconds for one in caught],
        "caught_operations": [one.operations for one in caught],
        "median_seconds": statistics.median(one.seconds for one in caught) if caught else None,
        "median_operations": statistics.median(one.operations for one in caught) if caught else None,
    }


def show_one(race: Race, record: Record, hunts: list[Hunt]) -> None:
    """The history of the race, and how often it was caught."""
    report.history(race.text + "\n")
    report.write(f"source: {race.source}")
    caught = sum(one.violation is not None for one in hunts)
    operations = sum(one.operations for one in hunts)
    report.write(f"caught in {caught} of {len(hunts)} runs, {operations:,} operations\n")


# --- all of them ----------------------------------------------------------------------------------------------------


def measure(name: str, seeds: int, progress: Progress, share: float) -> tuple[dict[str, Any], list[Hunt]]:
    """Hunt one race with and without perturbation, and with its piece in place; its row and all clean hunts."""
    race = load_race(name)
    hunts, clean = [], []
    for seed in range(seeds):
        progress.update(share, f"{name}, seed {seed}")
        hunts.append(hunt(name, seed))
        clean.append(hunt(name, seed, fixed=True, seconds=CLEAN_SECONDS))
    bare = [hunt(name, seed, perturb=0, seconds=BARE_SECONDS) for seed in range(min(seeds, BARE_SEEDS))]
    bare_caught = [one.seconds if one.violation else BARE_SECONDS for one in bare]
    row = row_of(name, False, hunts)
    expected = [one for one in hunts if one.violation and one.violation.detector in race.detectors]
    return {
        **row,
        "unexpected": row["caught"] - len(expected),
        "bare_seeds": len(bare),
        "bare_caught": sum(one.violation is not None for one in bare),
        "bare_median_seconds": statistics.median(bare_caught),
        "bare_limit_seconds": BARE_SECONDS,
        "clean_operations": sum(one.operations for one in clean),
        "clean_violations": sum(one.violations for one in clean),
    }, clean


def run_all(record: Record, names: list[str], seeds: int) -> None:
    """Every race in turn. What a race finds is expected; a violation of the record is one in a clean run."""
    with Progress("races") as progress:
        for done, name in enumerate(names):
            row, clean = measure(name, seeds, progress, done / len(names))
            record.rows.append(row)
            for one in clean:
                enter(record, one)
            record.add_checks({"races_not_caught": int(row["caught"] == 0)})


def show_all(record: Record, seeds: int) -> None:
    """The table: race, detector, time and operations until caught, the gain of perturbation, clean operations."""
    hunts, bare = many(seeds, "seed"), many(min(seeds, BARE_SEEDS), "seed")
    report.write(
        f"races: each piece left out by its knob, {hunts}, at most {HUNT_SECONDS:g} s each; perturbed, steered"
    )
    report.write(f"bare: as they are, {bare}, at most {BARE_SECONDS:g} s each\n")
    lines = []
    for row in record.rows:
        seconds, operations = row["median_seconds"], row["median_operations"]
        alone, limit = row["bare_median_seconds"], row["bare_limit_seconds"]
        gain = "-" if seconds is None else f"{'>' if alone >= limit else ''}{alone / seconds:,.1f} x"
        lines.append(
            [
                row["race"],
                row["detector"] or "-",
                f"{row['caught']}/{row['seeds']}",
                "-" if seconds is None else f"{seconds * 1000:,.1f} ms",
                "-" if operations is None else f"{operations:,.0f}",
                f"{row['bare_caught']}/{row['bare_seeds']}",
                f"> {limit:g} s" if alone >= limit else f"{alone * 1000:,.1f} ms",
                gain,
                f"{row['clean_operations']:,}",
                str(row["clean_violations"]),
            ]
        )
    header = ["race (piece removed)", "detector", "caught", "median", "operations", "bare caught", "median", "gain"]
    report.table([*header, "clean operations", "violations"], lines)


def write_tables(document: Path) -> int:
    """Bring the tables of a document up to date. Raises UserError if it cannot be read or written."""
    try:
        text = document.read_text()
    except OSError as error:
        raise errors.UserError(f"cannot write {document}: {error.strerror}") from None
    write_file(document, written(text))
    return errors.OK


@click.command("races", help=__doc__)
@click.option(
    "--seeds", default="20", metavar="N", callback=options.number(1, 10_000, whole=True), help="Hunts per race. [20]"
)
@click.option(
    "--only",
    default="",
    **options.some_of("race", RACES),
    help="Races, separated by commas. [all]",
)
@options.output_options
@click.option(
    "--tables", "document", metavar="FILE", callback=kept_file, help="Write the tables of docs/races.md, hunt nothing."
)
def races_command(seeds: int, only: list[str], json_file: str | None, document: str | None) -> int:
    """Run the zoo; the exit status: 0 if every race was caught and every clean run was clean."""
    if document is not None:
        return write_tables(Path(document))
    lab = options.Lab(json_file=json_file, checks="online")
    record = Record("races", 0)
    return session.conduct(
        record, lab, lambda: run_all(record, only or list(RACES), seeds), lambda: show_all(record, seeds)
    )
