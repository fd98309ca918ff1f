"""Options that several scenarios share, checked where they enter: a bad one is one line that says what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from emulator.engine import ENGINES
from emulator.policy import KNOBS, POLICIES
from scenarios.errors import UserError

MAX_CPUS = 256
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def one_of(kind: str, known: Any) -> Callable[..., str]:
    """A click callback that accepts one name of `known`."""

    def check(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if value not in known:
            raise UserError(f"unknown {kind} '{value}'; known: {', '.join(known)}")
        return value

    return check


def some_of(kind: str, known: Any) -> Callable[..., list[str]]:
    """A click callback that accepts a comma-separated list of names of `known`, none twice."""

    def check(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
        names = [name.strip() for name in value.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise UserError(f"unknown {kind} '{name}'; known: {', '.join(known)}")
        return list(dict.fromkeys(names))

    return check


def some_policies(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """A click callback for one policy or more."""
    names = some_of("policy", POLICIES)(context, parameter, value)
    if not names:
        raise UserError(f"no policy given; known: {', '.join(POLICIES)}")
    return names


def cpu_counts(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """A click callback for a comma-separated list of CPU counts."""
    counts = []
    for word in value.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= MAX_CPUS:
            raise UserError(
                f"--cpus '{word.strip()}' is not a number of CPUs; known: 1 to {MAX_CPUS}, separated by commas"
            )
        counts.append(int(word))
    return list(dict.fromkeys(counts))


def number(low: float, high: float, whole: bool = False) -> Callable[..., float]:
    """A click callback for a number in [low, high]."""

    def check(context: click.Context, parameter: click.Parameter, value: str | float) -> float:
        try:
            result = int(value) if whole else float(value)
        except ValueError:
            result = float("nan")
        if not low <= result <= high:
            kind = "a whole number" if whole else "a number"
            raise UserError(f"{parameter.opts[0]} '{value}' is out of range; known: {kind} from {low:g} to {high:g}")
        return result

    return check


def size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """A click callback for a size in bytes with an optional K, M, G or T."""
    text = str(value).strip().upper().removesuffix("B").removesuffix("I")
    digits, unit = (text[:-1], text[-1]) if text and text[-1] in "KMGT" else (text, "")
    if not digits.isdecimal() or int(digits) == 0:
        raise UserError(f"{parameter.opts[0]} '{value}' is not a size; known: a number with K, M, G or T")
    return int(digits) * _UNITS[unit]


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --policy, --knob, --engine, --seed and --json to a scenario."""
    for option in (
        click.option("--json", "json_file", metavar="FILE", help="Write the results as JSON; - is stdout."),
        click.option("--seed", default="0", callback=number(0, 2**62, whole=True), help="Names the run. [0]"),
        click.option(
            "--engine", default=ENGINES[0], callback=one_of("engine", ENGINES), help=f"{' or '.join(ENGINES)}. [native]"
        ),
        click.option(
            "--knob", default="", callback=some_of("knob", KNOBS), help="Leave out pieces of the protocol (see list)."
        ),
        click.option(
            "--policy", default="none,refcount", callback=some_policies, help="Compared in turn. [none,refcount]"
        ),
    ):
        function = option(function)
    return function
