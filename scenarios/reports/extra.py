"""Libraries that only some commands need: imported when they are used, named when they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

PAGE = ("jinja2", "matplotlib")  # what a page needs


class ReportError(Exception):
    """What is read is no record, or a library is not there: one line for the user."""


def library(module: str) -> Any:
    """A module of the extra `report`. Raises ReportError if it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        if missing.name and missing.name.partition(".")[0] != package:
            package = f"{package}, and {missing.name} for it,"
        raise ReportError(f"this needs {package} {_how('report')}") from None


def _how(extra: str) -> str:
    return f"of the extra '{extra}': pip install 'ptelab[{extra}]', or make setup in a clone"


def missing(modules: tuple[str, ...] = PAGE, extra: str = "report") -> str:
    """What is not installed of these, and how to get it; empty if all is there. Imports nothing."""
    absent = [module for module in modules if not find_spec(module)]
    return f"this needs {', '.join(absent)} {_how(extra)}" if absent else ""
