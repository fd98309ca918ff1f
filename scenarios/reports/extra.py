"""Libraries that only pictures and comparisons need: imported when they are used, named when they are missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

HOW = "pip install 'ptelab[report]', or make setup in a clone"


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
        raise ReportError(f"this needs {package} of the extra 'report': {HOW}") from None


def missing(modules: tuple[str, ...] = PAGE) -> str:
    """What is not installed of these, and how to get it; empty if all is there. Imports nothing."""
    absent = [module for module in modules if not find_spec(module)]
    return f"this needs {', '.join(absent)} of the extra 'report': {HOW}" if absent else ""
