"""Bars and curves for a terminal: they fit its width, and are plain where it shows no more than ASCII."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.reports.reading import Run
from scenarios.reports.throughput import spread_text

COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan")
STEPS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"  # of a curve, for a terminal that knows them, and for others
FULL = "█", "#"


@dataclass(frozen=True)
class Bars:
    """Named values as bars; `log` counts from 1 in powers, as sizes that differ by orders need."""

    title: str
    rows: Sequence[tuple[str, float, str]]  # name, value, what is written behind the bar
    log: bool = False


@dataclass(frozen=True)
class Curves:
    """Values over a program, on one log scale, each on a line of its own."""

    title: str
    rows: Sequence[tuple[str, Sequence[float], str]]


def pictures(run: Run) -> list[Bars | Curves]:
    """What can be drawn of a record in a terminal."""
    found: list[Bars | Curves] = []
    rows = run.rows
    if throughput := [row for row in rows if row.get("pf_per_min") and "workload" not in row]:
        bars = [
            (f"{row['cpus']} {row['policy']}", statistics.fmean(row["pf_per_min"]), spread_text(row["pf_per_min"], 1e6))
            for row in throughput
        ]
        found.append(Bars("million page faults a minute, by threads and policy", bars))
    if held := [row for row in rows if "vmpte_kb" in row and "virt_kb" in row]:
        sizes = [(str(row["policy"]), row["vmpte_kb"], f"{row['vmpte_kb']:,} kB") for row in held]
        found.append(Bars("VmPTE at the end, log scale", sizes, log=True))
    if caught := [row for row in rows if "race" in row and row.get("median_seconds")]:
        times = [(str(row["race"]), 1e6 * row["median_seconds"], f"{row['median_seconds']:.3g} s") for row in caught]
        found.append(Bars("time until the race is caught, median, log scale", times, log=True))
    curves = [(str(row["policy"]), row["curve_kb"]) for row in rows if row.get("curve_kb")]
    if run.scenario == "replay":
        for policy in dict.fromkeys(str(row["policy"]) for row in rows):
            curves.append((policy, [row["vmpte_kb"] for row in rows if str(row["policy"]) == policy]))
    if curves:
        told = [(name, kb, f"peak {max(kb):,} kB, end {kb[-1]:,} kB") for name, kb in curves]
        found.append(Curves("VmPTE over the program, log scale", told))
    return found


def _share(value: float, top: float, log: bool) -> float:
    """How much of the room a value takes, 0 to 1."""
    if value <= 0 or top <= 0:
        return 0.0
    return min(1.0, math.log1p(value) / math.log1p(top) if log else value / top)


def _sampled(values: Sequence[float], room: int) -> list[float]:
    """The highest value of each of `room` equal pieces."""
    starts = [i * len(values) // room for i in range(room + 1)]
    return [max(values[first : max(end, first + 1)]) for first, end in itertools.pairwise(starts)]


def _cut(text: str, room: int) -> str:
    """A name in so many columns; what is left out is in its middle."""
    if len(text) <= room:
        return f"{text:<{room}}"
    return f"{text[: room // 2 - 1]}..{text[len(text) - (room - room // 2 - 1) :]}"


def spelled(text: str, plain: bool) -> str:
    """A text with its signs, or for a terminal that knows ASCII alone; equally long."""
    return text.replace(" \N{PLUS-MINUS SIGN}", "+-") if plain else text


def is_plain(encoding: str | None) -> bool:
    """True if a terminal knows ASCII alone, as far as can be told."""
    return not (encoding or "").lower().replace("-", "").startswith("utf")


def drawn(picture: Bars | Curves, width: int, plain: bool) -> list[tuple[str, str, str]]:
    """The lines of a picture, each as name, picture, and what is said behind; together at most `width` columns."""
    said = max(len(row[2]) for row in picture.rows)
    names = min(max(len(row[0]) for row in picture.rows), max(8, width // 3))
    room = width - names - said - 4
    if room < 8:  # too narrow for what is said: the picture alone
        said, room = 0, width - names - 2
    lines = []
    if isinstance(picture, Bars):
        top = max(value for _, value, _ in picture.rows)
        for name, value, text in picture.rows:
            bar = FULL[plain] * round(room * _share(value, top, picture.log))
            lines.append((_cut(name, names), f"{bar:<{room}}", text if said else ""))
        return lines
    top = max(max(values) for _, values, _ in picture.rows)
    for name, values, text in picture.rows:
        steps = STEPS[plain]
        curve = "".join(steps[math.ceil((len(steps) - 1) * _share(v, top, True))] for v in _sampled(values, room))
        lines.append((_cut(name, names), curve, text if said else ""))
    return lines
