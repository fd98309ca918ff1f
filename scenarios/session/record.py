"""The record of a run: one object, shown as text and written by --json. docs/json.md describes it."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from emulator import engine
from emulator.mm_types import NR_PATHS
from scenarios.reports.extra import ReportError, missing
from scenarios.reports.long_form import csv_text
from scenarios.reports.reading import Run
from scenarios.session import errors
from scenarios.session.files import stdout_is_taken, write_file
from scenarios.session.style import style

SCHEMA = 1
SOURCES = ("emulator", "workers", "scenarios", "ptelab")
KEPT_SIGNALS = 64
VERDICTS = {
    "pass": errors.OK,
    "fail": errors.VIOLATION,
    "died": errors.INTERNAL,
    "interrupted": errors.INTERRUPTED,
    "inconclusive": errors.INCONCLUSIVE,
}
_PAGE = "ptelab.html"  # where the context of a command line keeps the file of --html
_PACKAGES = ("numpy", "numba", "llvmlite", "posix_ipc", "multiprocess")


def commit() -> str | None:
    """The commit of the working tree, with + if its sources were changed; None outside of a repository."""
    root = Path(__file__).resolve().parents[2]
    try:
        run = {"cwd": root, "capture_output": True, "text": True, "check": True, "timeout": 5}
        top = subprocess.run(["git", "rev-parse", "--show-toplevel", "HEAD"], **run).stdout.split()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain", "-uno", "--", *SOURCES], **run).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return top[1] + ("+" if changed else "") if Path(top[0]) == root else None


def processor_model() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def stolen() -> tuple[int, int]:
    """Ticks of all processors since the start of this machine, and those that its host gave to others."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return sum(ticks), ticks[7] if len(ticks) > 7 else 0


def machine_use(began: tuple[int, int]) -> dict[str, float]:
    """How busy the machine was since `began`, which `stolen` returned."""
    ticks, lost = (now - then for now, then in zip(stolen(), began, strict=True))
    return {"load_average": os.getloadavg()[0], "steal_percent": round(100 * lost / ticks, 2) if ticks else 0.0}


def environment(seed: int, began: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Where and with what a run was made, and how busy the machine was since `began`."""
    from importlib.metadata import version

    return {
        **machine_use(began),
        "processors": len(os.sched_getaffinity(0)),
        "processor_model": processor_model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "build": "debug" if engine.debug() else "plain",
        "commit": commit(),
        "seed": seed,
    }


def command_line() -> str:
    """The command that was given, as one would type it again."""
    return shlex.join(["ptelab", *sys.argv[1:]])


def in_use(record: Record) -> str:
    """How busy the machine was during a run, in words."""
    use = machine_use(record.began)
    return f"load {use['load_average']:.1f}, steal {use['steal_percent']:.1f} %"


@dataclass
class Record:
    """One run of a scenario.

    `checks` is name -> violations summed over all machines. `violations` is what the detectors stopped a machine for,
    Violation each (workers/telling). `ages` counts read sections by the age of the table they found, `paths` how often
    each path of emulator/watch/paths.py was taken (debug build). `stalls` says which process stood still at a point and
    went on. `signals` says which CPUs got a signal for an access: the first KEPT_SIGNALS of all machines,
    workers.signals.Signals each. `more_signals` is how many more did, `unreached` why a stop has not happened in the
    machines so far. `about` is what the thing that was run shows, in words, if that is more than its name. `found` is
    what the explorer found, `inconclusive` that it ran out of time. `line_ns` is how long a cache line took from
    processor to processor, each probe, and `rounds_again` how many rounds were repeated because that had changed.
    """

    scenario: str
    seed: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: dict[str, int] = field(default_factory=dict)
    violations: list[Any] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)
    signals: list[Any] = field(default_factory=list)
    more_signals: int = 0
    stalls: list[str] = field(default_factory=list)
    unreached: dict[int, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    inconclusive: bool = False
    about: str | None = None
    failure: str | None = None
    interrupted: int = 0
    line_ns: list[float] = field(default_factory=list)
    rounds_again: int = 0
    command: str = field(default_factory=command_line)
    began: tuple[int, int] = field(default_factory=stolen)

    def add_checks(self, checks: dict[str, int]) -> None:
        """Enter the audit of one machine."""
        for name, violations in checks.items():
            self.checks[name] = self.checks.get(name, 0) + violations

    def add_signals(self, signals: list[Any]) -> None:
        """Enter what one machine's CPUs got."""
        room = max(0, KEPT_SIGNALS - len(self.signals))
        self.signals += signals[:room]
        self.more_signals += len(signals[room:])

    def add_lines(self, latency: float | None) -> list[float]:
        """Enter how long a line takes between two processors, None if nobody knows: a list of one value, or of none."""
        probed = [] if latency is None else [latency]
        self.line_ns += probed
        return probed

    def add_ages(self, ages: Any) -> None:
        """Enter one machine's histogram of table ages (debug build with --checks online)."""
        self.ages = [int(a) + int(b) for a, b in zip(self.ages or [0] * len(ages), ages, strict=True)]

    def add_paths(self, taken: Any) -> None:
        """Enter how often one machine's CPUs took each path: a row of NR_PATHS words per CPU (debug build)."""
        from emulator.watch.paths import PATHS

        for name, times in zip(PATHS, taken.reshape(-1, NR_PATHS).sum(axis=0), strict=False):
            self.paths[name] = self.paths.get(name, 0) + int(times)

    def add_stops(self, stops: Any) -> list[str]:
        """Enter what one machine has to say of --kill and --stall (workers.stops.Stops); the stalls it went through."""
        for i, why in enumerate(stops.missed()):
            self.unreached[i] = "" if self.unreached.get(i) == "" else why
        self.stalls += stops.stalls()
        return stops.stalls()

    def missed(self) -> list[str]:
        """What to say of the stops that happened in no machine."""
        return [why for why in self.unreached.values() if why and self.failure is None]

    @property
    def verdict(self) -> str:
        """One word of VERDICTS."""
        if self.failure is not None:
            return "died"
        if self.violations or self.found or any(self.checks.values()):
            return "fail"
        if self.interrupted:
            return "interrupted"
        return "inconclusive" if self.inconclusive else "pass"

    @property
    def exit_status(self) -> int:
        """The exit status this run ends with."""
        verdict = self.verdict
        return self.interrupted if verdict == "interrupted" else VERDICTS[verdict]

    def as_json(self) -> dict[str, Any]:
        """The object that --json writes."""
        return {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "command": self.command,
            "about": self.about,
            "environment": environment(self.seed, self.began) | {"line_ns": self.line_ns},
            "rows": self.rows,
            "checks": self.checks,
            "bugs": [*(violation.headline() for violation in self.violations), *self.found],
            "violations": [violation.as_json() for violation in self.violations],
            "rcu_ages": self.ages,
            "paths": self.paths,
            "signals": [of.as_json() for of in self.signals],
            "stalls": self.stalls,
            "stops_missed": self.missed(),
            "failure": self.failure,
            "verdict": self.verdict,
        }

    def write(self, file: str | None) -> bool:
        """Write the JSON to a file, or to stdout for '-', the page of --html, and the lines of --format csv to stdout.

        True if stdout belongs to one of these, and nothing else may be printed. Raises UserError if it cannot.
        """
        html, as_csv = _page_file(), style().format == "csv"
        if file is None and html is None and not as_csv:
            return stdout_is_taken()
        data = json.loads(text := json.dumps(self.as_json(), indent=2) + "\n")
        if html is not None:
            write_page(html, self.scenario, data)
        if file is not None:
            write_file(file, text)
        if as_csv:
            write_file("-", csv_text([Run(self.scenario, data)]))
        return file == "-" or stdout_is_taken()


def prepare_page(file: str) -> None:
    """Before a run: --html asks for a page in this file. Raises UserError if no page can be made here."""
    if absent := missing():
        raise errors.UserError(f"--html: {absent}")
    click.get_current_context().meta[_PAGE] = file


def _page_file() -> str | None:
    """The file of --html, if this command was given it."""
    context = click.get_current_context(silent=True)
    found: str | None = context.meta.get(_PAGE) if context else None
    return found


def write_page(file: str, name: str, data: dict[str, Any]) -> None:
    """Write the page of a record. Raises UserError."""
    try:
        from scenarios.reports.page import page

        write_file(file, page([Run(name, data)]))
    except ReportError as error:
        raise errors.UserError(str(error)) from None
