"""Records as one table, a line for each measurement, as pandas, R and spreadsheets want it.

A number that is no name of its row becomes a line. `figure` is its key, `value` the number; of a list each element is a
line, and `round` its place. An object of numbers gives figures called KEY.SUBKEY. What names the row (IDENTITY), and
every text and truth value, stands in a column of its own on each of its lines. Lists of objects and of texts are left
to the JSON.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scenarios.reports.comparing import IDENTITY as COMPARED
from scenarios.reports.reading import Run

IDENTITY = (*COMPARED, "pid")
FIRST, LAST = ("record", "scenario", "commit", "seed", "row_number"), ("figure", "round", "value")


def is_number(value: Any) -> bool:
    """True for what is measured."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """What stands on each line of a row."""
    scalar = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
    return {name: value for name, value in scalar.items() if name in IDENTITY or not is_number(value)}


def _measured(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | str, float]]:
    """Figure, round and value of each measurement of a row."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _measured(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from ((prefix + name, at, one) for at, one in enumerate(value) if is_number(one))
        elif is_number(value) and (prefix or name not in IDENTITY):
            yield prefix + name, "", value


def long_form(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A dictionary for each measurement of these records."""
    found = []
    for run in runs:
        environment = run.data["environment"]
        of = {"record": run.name, "scenario": run.scenario}
        of |= {name: environment.get(name) for name in ("commit", "seed")}
        for at, row in enumerate(run.rows):
            named = {**of, **_named(row), "row_number": at}
            found += [{**named, "figure": f, "round": i, "value": value} for f, i, value in _measured(row)]
    return found


def csv_text(runs: Sequence[Run]) -> str:
    """The same as CSV, with a header; empty cells are what a row does not have."""
    lines = long_form(runs)
    names = dict.fromkeys(name for line in lines for name in line)
    columns = [*FIRST, *(name for name in names if name not in (*FIRST, *LAST)), *LAST]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
