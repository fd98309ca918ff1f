"""What the commands of this folder share: each is one of its own, outside of `ptelab`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from scenarios.session.errors import UserError
from scenarios.session.options import names_of

RESULTS = Path("results")


def names(kind: str, known: Any) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A click callback for some names of a kind."""

    def chosen(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
        try:
            return names_of(kind, known, value)
        except UserError as error:
            raise click.UsageError(str(error)) from None

    return chosen
