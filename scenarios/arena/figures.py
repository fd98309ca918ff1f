"""The figures of a row, and what can be said of two: better, worse, or within the spread.

A row is one workload under one policy; each figure is a list, a value for each repeat. Lower is better, but for
pf_per_min.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from scenarios.reports.throughput import error_of_mean

BASELINE = "none-rcu"  # the kernel before any of them: what a policy adds is over this
MEMORY = ("left_kb", "later_kb", "peak_kb", "limbo_tables")
TIMES = ("ns_per_fault", "ns_per_zap", "reuse_median_us", "reuse_p99_us")
COUNTS = ("needed_kb", "tables_freed", "tables_reused", "flushes", "ipis", "grace_periods")
FIGURES = ("pf_per_min", *TIMES, *MEMORY, *COUNTS)
NOISE = 0.05  # a time is another one if it differs by more than this, and its repeats all lie on one side

Row = dict[str, Any]


def key(row: Row) -> tuple[str, int]:
    """What a row measured: the workload and its CPUs."""
    return row["workload"], row["cpus"]


def values(row: Row, figure: str) -> list[float]:
    """The repeats of a figure; empty where it does not apply."""
    return [value for value in row[figure] if value is not None]


def median(row: Row, figure: str) -> float | None:
    """The figure to quote, None where it does not apply."""
    found = values(row, figure)
    return statistics.median(found) if found else None


def spread(found: Sequence[float]) -> float:
    """The standard deviation of the mean, in per cent of it; 0 of a single value."""
    mean = statistics.fmean(found)
    return 100 * error_of_mean(found) / abs(mean) if mean else 0.0


def exceeds(one: Sequence[float], other: Sequence[float], noise: float) -> bool:
    """True if each repeat of `one` is above each of the other, and the medians differ by more than a share `noise`."""
    if not one or not other or min(one) <= max(other):
        return False
    return statistics.median(one) > statistics.median(other) * (1 + noise)


def worse(one: Row, other: Row, figure: str) -> bool:
    """True if a figure of `one` is worse than that of the other beyond its spread."""
    noise = 0.0 if figure in MEMORY else NOISE
    return exceeds(values(one, figure), values(other, figure), noise)


def rows_by_policy(rows: Iterable[Row]) -> dict[str, dict[tuple[str, int], Row]]:
    """The rows of each policy, by what they measured."""
    found: dict[str, dict[tuple[str, int], Row]] = {}
    for row in rows:
        found.setdefault(row["policy"], {})[key(row)] = row
    return found


def beats(one: dict[tuple[str, int], Row], other: dict[tuple[str, int], Row]) -> bool:
    """True if `one` is nowhere worse than the other, in memory, time and bytes beside a table, and better somewhere."""
    better = False
    for measured in other.keys() & one.keys():
        a, b = one[measured], other[measured]
        if any(worse(a, b, figure) for figure in (*MEMORY, *TIMES)):
            return False
        if any(a[size] > b[size] for size in ("table_bytes", "cpu_bytes")):
            return False
        better = better or any(worse(b, a, figure) for figure in (*MEMORY, *TIMES))
        better = better or any(a[size] < b[size] for size in ("table_bytes", "cpu_bytes"))
    return better


def beaten_by(rows: Iterable[Row]) -> dict[str, list[str]]:
    """For each policy, those that beat it."""
    policies = rows_by_policy(rows)
    return {
        name: [other for other in policies if other != name and beats(policies[other], mine)]
        for name, mine in policies.items()
    }


def added_ns(row: Row, base: Row) -> list[float]:
    """Nanoseconds per fault that a row adds to the baseline, repeat by repeat."""
    return [a - b for a, b in zip(values(row, "ns_per_fault"), values(base, "ns_per_fault"), strict=False)]


def given_back(row: Row, base: Row) -> float | None:
    """Per cent of the tables that the baseline has and the policy does not need, that the row does not have.

    None if there are none. A policy that takes tables of the zero page needs fewer than the baseline does.
    """
    held, left, needed = (
        float(median(of, figure) or 0) for of, figure in ((base, "later_kb"), (row, "later_kb"), (row, "needed_kb"))
    )
    return 100 * (held - left) / (held - needed) if held > needed else None
