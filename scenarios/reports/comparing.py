"""Two records beside each other: what changed, by how much, and whether the rounds can tell.

A figure with several rounds has changed if the bootstrap interval of its change leaves 0 out and Welch's test agrees.
With few rounds the bootstrap is too sure of itself. Sizes in kB without any spread are exact, and each difference
counts. Of a single round nothing can be said.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scenarios.reports.extra import ReportError, library
from scenarios.reports.reading import Run

# what tells one row from another; everything else is measured
IDENTITY = (
    *("scenario", "workload", "race", "subject", "name", "operation", "line", "protocol", "policy", "knob", "memory"),
    *("cpus", "mms", "variant", "engine", "scale", "chunks", "length", "perturb"),
)
HIGHER = {"pf_per_min", "pf_per_min_own_processor"}  # is better; lower is for everything in LOWER
LOWER = ("ns_per_", "coordinator_ns", "vmpte_kb", "peak_kb", "end_kb", "at_rest_kb", "mean_kb", "left_kb", "later_kb")
LOWER_ALSO = ("reuse_", "limbo_", "median_seconds")
NOT_A_FIGURE = {"gp_histogram", "curve_kb", "executions_by_bound", "first_seed", "seeds", "curve_step", "table_bytes"}
NOT_A_FIGURE |= {"cpu_bytes", "peak_operation", "minflt", "error", "value"}
RESAMPLES, LEVEL = 2000, 0.95
HEADER = ("figure", "%stddev", "%change", "%stddev", "", "95 % interval")
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Change:
    """One figure of one row in both records.

    `percent` is the change of the mean, `low` and `high` its interval (NaN for a single round). `sure` says whether the
    rounds show that it is not 0. `worse` is the same change counted so that more is worse, 0 if neither is better.
    """

    key: Key
    figure: str
    old: Sequence[float]
    new: Sequence[float]
    percent: float
    low: float
    high: float
    sure: bool

    @property
    def known(self) -> bool:
        """True if it has an interval that can be drawn."""
        return math.isfinite(self.percent) and math.isfinite(self.low)

    @property
    def worse(self) -> float:
        """By how many per cent it got worse."""
        if self.figure in HIGHER:
            return -self.percent
        return self.percent if self.figure.startswith((*LOWER, *LOWER_ALSO)) else 0.0

    @property
    def judgement(self) -> str:
        """What may be said of it in a word or two."""
        if self.percent == 0:
            return "same"
        if not self.sure:
            return "1 round" if min(len(self.old), len(self.new)) < 2 else "n.s."
        return "worse" if self.worse > 0 else "better" if self.worse < 0 else "other"

    def title(self) -> str:
        """The row, in words."""
        return ", ".join(f"{value} CPU{'s' * (value != '1')}" if name == "cpus" else value for name, value in self.key)

    def as_json(self) -> dict[str, Any]:
        """A row of the record."""
        return {
            **dict(self.key),
            "figure": self.figure,
            "old": list(self.old),
            "new": list(self.new),
            "change_percent": _finite(self.percent),
            "low_percent": _finite(self.low),
            "high_percent": _finite(self.high),
            "judgement": self.judgement,
        }


def change_from(row: Mapping[str, Any]) -> Change:
    """The change that a row of a record tells of."""
    key = tuple((name, row[name]) for name in IDENTITY if row.get(name) is not None)
    percent = math.inf if row["change_percent"] is None else row["change_percent"]
    low, high = (math.nan if row[name] is None else row[name] for name in ("low_percent", "high_percent"))
    sure = row["judgement"] in ("worse", "better", "other")
    return Change(key, row["figure"], row["old"], row["new"], percent, low, high, sure)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, list[float]]]:
    """The measured figures of a row, each with its rounds."""
    for name, value in row.items():
        if name in IDENTITY or name in NOT_A_FIGURE or isinstance(value, bool):
            continue
        values = value if isinstance(value, list) else [value]
        numbers = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
        if numbers and len(numbers) == len([one for one in values if one is not None]):
            yield name, numbers


def gathered(runs: Sequence[Run], identity: Sequence[str] = IDENTITY) -> dict[tuple[Key, str], list[float]]:
    """The figures of all rows of these records; rows that measured the same thing are rounds of one."""
    found: dict[tuple[Key, str], list[float]] = {}
    for run in runs:
        for row in run.rows:
            whole = {"scenario": run.scenario, **row}
            key = tuple((name, str(whole[name])) for name in identity if whole.get(name) is not None)
            for name, values in _figures(row):
                found.setdefault((key, name), []).extend(values)
    return found


def of_policy(runs: Sequence[Run], policy: str) -> list[Run]:
    """The same records with the rows of one policy. Raises ReportError if there are none."""
    known = list(dict.fromkeys(str(row["policy"]) for run in runs for row in run.rows if "policy" in row))
    if policy not in known:
        raise ReportError(f"no row of policy {policy}; known: {', '.join(known)}")
    rows = [[row for row in run.rows if row.get("policy") == policy] for run in runs]
    return [replace(run, data={**run.data, "rows": mine}) for run, mine in zip(runs, rows, strict=True)]


def _identity(old: Sequence[Run], new: Sequence[Run]) -> Sequence[str]:
    """What tells rows apart: not the policy, where each side has one and they differ, for then that is the question."""
    policies = [{row.get("policy") for run in runs for row in run.rows} for runs in (old, new)]
    if all(len(names) == 1 for names in policies) and policies[0] != policies[1]:
        return [name for name in IDENTITY if name != "policy"]
    return IDENTITY


def interval(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """The bootstrap interval of the change of the mean, per cent."""
    numpy, stats = library("numpy"), library("scipy.stats")

    def change(a: Any, b: Any, axis: int = -1) -> Any:
        return 100 * (numpy.mean(b, axis=axis) / numpy.mean(a, axis=axis) - 1)

    found = stats.bootstrap(
        (old, new), change, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


def change_of(key: Key, figure: str, old: Sequence[float], new: Sequence[float]) -> Change:
    """Compare the rounds of one figure."""
    before, after = statistics.fmean(old), statistics.fmean(new)
    percent = 100 * (after / before - 1) if before else (0.0 if after == before else math.copysign(math.inf, after))
    if figure.endswith("_kb") and len({*old}) == len({*new}) == 1:
        return Change(key, figure, old, new, percent, percent, percent, percent != 0)
    if min(len(old), len(new)) < 2 or not before or percent == 0:
        return Change(key, figure, old, new, percent, math.nan, math.nan, False)
    stats = library("scipy.stats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples without spread
        low, high = interval(old, new)
        p = float(stats.ttest_ind(old, new, equal_var=False).pvalue)
    return Change(key, figure, old, new, percent, low, high, (low > 0 or high < 0) and p <= 1 - LEVEL)


def compared(old: Sequence[Run], new: Sequence[Run]) -> list[Change]:
    """Every figure that both have. Raises ReportError if there is none."""
    before, after = (gathered(runs, _identity(old, new)) for runs in (old, new))
    both = {at: (before[at], values) for at, values in after.items() if at in before}
    changes = [change_of(key, name, *rounds) for (key, name), rounds in both.items()]
    if not changes:
        told = [", ".join(dict.fromkeys(run.scenario for run in runs)) for runs in (old, new)]
        raise ReportError(f"nothing to compare: no row of the one ({told[0]}) is in the other ({told[1]})")
    return changes


def regressions(changes: Sequence[Change], gate: float) -> list[str]:
    """What is said of those that are surely worse, by more than the gate, per cent."""
    worse = [change for change in changes if change.sure and change.worse > gate]
    return [f"{change.title()}: {change.figure} is worse by {change.worse:.1f} %" for change in worse]


def _short(value: float) -> str:
    """A number of at most seven characters or so."""
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= factor:
            return f"{value / factor:,.2f}{unit}"
    return f"{value:,.0f}" if abs(value) >= 10_000 or value == int(value) else f"{value:,.2f}"


def _spread(values: Sequence[float]) -> str:
    """The mean and the standard deviation in per cent of it, as LKP prints them."""
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    spread = f" \N{PLUS-MINUS SIGN}{100 * deviation / abs(mean):3.0f}%" if mean and deviation else " " * 6
    return f"{_short(mean)}{spread}"


def tables_of(changes: Sequence[Change], everything: bool) -> dict[str, list[list[str]]]:
    """For each row that was measured twice, a line of HEADER for each figure, as LKP prints it.

    Without `everything` a figure for which neither direction is better is left out, and so is what stayed the same.
    """
    tables: dict[str, list[list[str]]] = {}
    for change in changes:
        if not everything and (change.worse == 0 or change.judgement == "same"):
            continue
        percent = f"{change.percent:+.{1 if abs(change.percent) < 1000 else 0}f}%"
        percent = percent if math.isfinite(change.percent) else "from 0"
        within = f"[{change.low:+,.1f}%, {change.high:+,.1f}%]" if math.isfinite(change.low) else ""
        if change.low == change.high:
            within = "exact"
        cells = [change.figure, _spread(change.old), percent, _spread(change.new), change.judgement, within]
        tables.setdefault(change.title(), []).append(cells)
    return tables
