"""What a task came to, as titles: a table of them says how often each was met, first where, and what shows it best."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scenarios.campaign.plan import MUTANTS, Task
from scenarios.session import errors, report

PASS, FAIL, DIED, INCONCLUSIVE, USAGE, HUNG, LOST = "pass", "fail", "died", "inconclusive", "usage", "hung", "lost"
OF_STATUS = {errors.OK: PASS, errors.VIOLATION: FAIL, errors.USAGE: USAGE, errors.INCONCLUSIVE: INCONCLUSIVE}
WELL = (PASS, INCONCLUSIVE)
SHOWN = 60  # characters of what a process that died has said


def result(task: Task, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a task: what was run, where, and what came of it. `outcome` is what its worker says."""
    status, record = outcome["status"], outcome["record"]
    verdict = HUNG if status is None else OF_STATUS.get(status, DIED)
    return {
        "command": task.command,
        "seed": task.seed,
        "verdict": verdict,
        "titles": list(_titles(task, verdict, status, record, outcome["stderr"])),
        "again": _again(task, record),
        "exploration": task.exploration,
        "prefixes": task.prefixes,
        "size": _size(record),
        "seconds": round(outcome["seconds"], 3),
        "status": status,
        "stderr": outcome["stderr"] if verdict != PASS else "",
        "record": record,
    }


def lost(task: Task) -> dict[str, Any]:
    """The line of a task whose worker is gone."""
    titles = [named(task, "worker lost")]
    none = {"size": None, "seconds": None, "status": None, "stderr": "", "record": None}
    return {
        "command": task.command, "seed": task.seed, "verdict": LOST, "titles": titles, "again": task.command,
        "exploration": task.exploration, "prefixes": task.prefixes, **none,
    }  # fmt: skip


def _titles(task: Task, verdict: str, status: int | None, record: dict[str, Any] | None, stderr: str) -> Iterator[str]:
    if record is not None and task.module.endswith(MUTANTS):
        for kill in record.values():
            yield f"mutant noticed by {kill['by']}" if kill["by"] else "mutant survives"
    elif verdict in WELL:
        yield from () if task.prefixes else (verdict,)  # the exploration has a verdict, not each of its shards
    elif verdict == HUNG:
        yield named(task, f"no end within {task.limit:g} s")
    elif verdict == FAIL and record is not None:
        yield from dict.fromkeys(named(task, what) for what in _found(record))
    elif status is not None and status < 0:
        yield named(task, f"killed by {signal.Signals(-status).name}")
    else:
        said = str((record or {}).get("failure") or stderr).strip().splitlines() or ["no word"]
        words = (said[0] if record else said[-1]).removeprefix("ptelab: ").partition("; see ")[0]
        alike = re.sub(r"\d+", "N", words)[:SHOWN]  # numbers differ from one to the next
        yield named(task, f"{verdict}: {alike}")


def _found(record: Mapping[str, Any]) -> Iterator[str]:
    """Detectors, checks, and what an exploration has found."""
    yield from (violation["detector"] for violation in record["violations"])
    yield from (f"check {name}" for name, count in record["checks"].items() if count)
    if not record["violations"] and not any(record["checks"].values()):
        yield from (bug.partition(": ")[2] or bug for bug in record["bugs"])


def named(task: Task, what: str) -> str:
    """What was seen, and of what: the same of two policies is two things."""
    return ", ".join(filter(None, (what, task.subject, task.policy)))


def _again(task: Task, record: Mapping[str, Any] | None) -> str:
    """The command that shows it again, as short as it is known."""
    if record is None or "schema" not in record:
        return task.command
    rows = record["rows"]
    if len(rows) == 1 and rows[0].get("schedule"):
        return shlex.join([*shlex.split(task.exploration or task.command), "--schedule", rows[0]["schedule"]])
    return str(next((one["command"] for one in record["violations"] if one["command"]), task.command)).partition(
        " --json "
    )[0]


def _size(record: Mapping[str, Any] | None) -> int | None:
    """Steps of the schedule, where there is one."""
    steps = [row["schedule_steps"] for row in (record or {}).get("rows", []) if row.get("schedule_steps")]
    return min(steps, default=None)


@dataclass
class _Seen:
    """One line of the table."""

    title: str
    verdict: str
    count: int
    first_seed: int | None
    first: str
    again: str
    smallest: tuple[float, float]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Its row of the record."""
        told = ("title", "verdict", "count", "first_seed", "first", "again", "seconds")
        return {name: getattr(self, name) for name in told}


class Verdicts:
    """The distinct verdicts so far, in the order in which they were met."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """Enter the line of a task."""
        size = (float("inf") if line["size"] is None else line["size"], line["seconds"] or 0.0)
        for title in line["titles"]:
            seen = self._seen.get(title)
            if seen is None:
                seen = _Seen(title, line["verdict"], 0, line["seed"], line["command"], line["again"], size, 0.0)
                self._seen[title] = seen
            seen.count += 1
            seen.seconds += line["seconds"] or 0.0
            if size < seen.smallest:
                seen.again, seen.smallest = line["again"], size

    @property
    def findings(self) -> list[str]:
        """The titles of what is wrong."""
        return [seen.title for seen in self._seen.values() if seen.verdict not in WELL]

    @property
    def inconclusive(self) -> bool:
        """True if a task had not the time it needed."""
        return any(seen.verdict == INCONCLUSIVE for seen in self._seen.values())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the record: what went well first."""
        seen = sorted(self._seen.values(), key=lambda one: (one.verdict not in WELL, -one.count))
        return [one.as_json() for one in seen]


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """The table, then a command for each finding."""
    rows = list(rows)
    lines = [
        [row["title"], f"{row['count']:,}", "-" if row["first_seed"] is None else str(row["first_seed"])]
        + [f"{row['seconds']:,.1f}"]
        for row in rows
    ]
    report.table(["verdict", "tasks", "first seed", "s"], lines)
    for row in rows:
        if row["verdict"] not in WELL:
            report.write(f"{row['title']}\nagain: {row['again']}\n")
