"""Records as they are read again: from the JSON of --json, or from an HTML report, which holds its records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios.reports.extra import ReportError

SCHEMA = 1
KEYS = {"schema": int, "scenario": str, "command": str, "environment": dict, "rows": list, "verdict": str}


@dataclass(frozen=True)
class Run:
    """One record, and the name of the file it came from."""

    name: str
    data: dict[str, Any]

    @property
    def scenario(self) -> str:
        """What was run."""
        return str(self.data["scenario"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its results."""
        rows: list[dict[str, Any]] = self.data["rows"]
        return rows

    @property
    def commit(self) -> str:
        """The commit it was made with, short."""
        known = str(self.data["environment"].get("commit") or "unknown")
        return known[:12] + ("+" if known.endswith("+") else "")

    @property
    def machine(self) -> str:
        """Where it was made."""
        env = self.data["environment"]
        return f"{env.get('processors', '?')} x {env.get('processor_model', '?')}, Linux {env.get('kernel', '?')}"


def embedded(runs: Sequence[Run]) -> str:
    """The records as JSON that may stand in a script element, whatever it says."""
    text = json.dumps([{"name": run.name, "record": run.data} for run in runs], separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _checked(name: str, data: Any) -> Run:
    """A record that has what every record has. Raises ReportError."""
    if not isinstance(data, dict):
        raise ReportError(f"{name} is not a record of ptelab: no object; known: what --json or a report wrote")
    for key, kind in KEYS.items():
        if not isinstance(data.get(key), kind):
            raise ReportError(f"{name} is not a record of ptelab: no '{key}'; known: what --json or a report wrote")
    if data["schema"] != SCHEMA:
        raise ReportError(f"{name} has schema {data['schema']}; known: {SCHEMA}")
    if not all(isinstance(row, dict) for row in data["rows"]):
        raise ReportError(f"{name} is not a record of ptelab: a row is no object")
    return Run(name, data)


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except OSError as error:
        raise ReportError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ReportError(f"{file} is not text; known: what --json or a report wrote") from None


def read_runs(file: str) -> list[Run]:
    """The records of a file. Raises ReportError."""
    text, name = _text_of(file), Path(file).name
    if text.lstrip()[:1] == "<":
        from scenarios.reports.embedded import records_in

        text = records_in(text)
        if not text:
            raise ReportError(f"{file} is no report of ptelab: it holds no records")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ReportError(f"{file} is not JSON: {error}") from None
    if isinstance(data, list):
        if not data or not all(isinstance(one, dict) and "record" in one for one in data):
            raise ReportError(f"{file} is not a record of ptelab: a list; known: what --json or a report wrote")
        return [_checked(str(one.get("name", name)), one["record"]) for one in data]
    return [_checked(name, data)]
