"""What the commands of this folder share: each is one of its own, outside of `ptelab`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scenarios.session import report
from scenarios.session.errors import UserError
from scenarios.session.files import output_file, write_file
from scenarios.session.options import names_of
from scenarios.session.progress import note
from scenarios.session.record import Record, environment

RESULTS = Path("results")


def checked(check: Callable[[click.Context, click.Parameter, Any], Any]) -> Callable[..., Any]:
    """A click callback as it is for ptelab; its errors become click's."""

    @functools.wraps(check)
    def checking(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return check(context, parameter, value)
        except (OSError, UserError) as error:
            raise click.UsageError(str(error)) from None

    return checking


def names(kind: str, known: Any) -> Callable[..., list[str]]:
    """A click callback for some names of a kind."""
    return checked(lambda context, parameter, value: names_of(kind, known, value))


def json_option(default: str | None = None) -> Callable[..., Any]:
    """--json FILE, which the command gets as `target`, tried before anything is measured; - is stdout.

    Without it that is `default`, in the folder of results.
    """
    known = str(RESULTS / default) if default else None

    @checked
    def target(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is None and known:
            RESULTS.mkdir(exist_ok=True)
        return output_file(context, parameter, value or known)

    return click.option(
        "--json", "target", metavar="FILE", callback=target, help=f"Where to write; - is stdout. [{known or 'nowhere'}]"
    )


def read_json(file: str) -> Any:
    """What write_json has written. Raises ClickException."""
    try:
        return json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} cannot be read: {error}") from None


def write_json(target: str, data: Any) -> None:
    """Write what was measured, and say where."""
    write_file(target, json.dumps(data, indent=2) + "\n")
    if target != "-":
        note(f"written to {target}")


def end(record: Record, target: str, measured: dict[str, Any], show: Callable[[], None]) -> None:
    """Show what was measured and say the verdict, write both beside what every record has, and exit with its status.

    With - the file is all that stdout gets.
    """
    if target != "-":
        show()
        report.checks_and_verdict(record)
    stamp = {"schema": 1, "environment": environment(0) | {"line_ns": record.line_ns}}
    write_json(target, {**stamp, **measured, "verdict": record.verdict})
    sys.exit(record.exit_status)
