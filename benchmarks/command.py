"""What the commands of this folder share: each is one of its own, outside of `ptelab`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scenarios.session import report
from scenarios.session.errors import UserError
from scenarios.session.options import names_of
from scenarios.session.progress import note
from scenarios.session.record import Record, check_writable, environment

RESULTS = Path("results")


def names(kind: str, known: Any) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A click callback for some names of a kind."""

    def chosen(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
        try:
            return names_of(kind, known, value)
        except UserError as error:
            raise click.UsageError(str(error)) from None

    return chosen


def json_option(default: str) -> Any:
    """--json FILE, which is tried before anything is measured; else it is `default`, in the folder of results."""

    def writable(context: click.Context, parameter: click.Parameter, value: str | None) -> Path:
        target = Path(value) if value else RESULTS / default
        try:
            if value is None:
                RESULTS.mkdir(exist_ok=True)
            check_writable(str(target))
        except (OSError, UserError) as error:
            raise click.UsageError(str(error)) from None
        return target

    return click.option("--json", "target", callback=writable, help=f"Where to write. [{RESULTS / default}]")


def end(record: Record, target: Path, measured: dict[str, Any]) -> None:
    """Say the verdict, write what was measured beside what every record has, and exit with its status."""
    report.checks_and_verdict(record)
    stamp = {"schema": 1, "environment": environment(0) | {"line_ns": record.line_ns}}
    target.write_text(json.dumps({**stamp, **measured, "verdict": record.verdict}, indent=2) + "\n")
    note(f"{record.scenario}: written to {target}")
    sys.exit(record.exit_status)
