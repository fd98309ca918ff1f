"""Sections of multi-fault: throughput beside the cover letter's, scaling, cost of a fault, grace periods."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scenarios.reports.cover_letter import COVER_LETTER
from scenarios.reports.figures import INK, QUIET, Plot, colour, dash
from scenarios.reports.reading import Run
from scenarios.reports.section import Section, Table

Row = dict[str, Any]


def error_of_mean(values: Sequence[float]) -> float:
    """The standard deviation of the mean; 0 of a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def spread_text(
    values: Sequence[float], scale: float = 1.0, digits: int = 1, unit: str = "", sign: str = "\N{PLUS-MINUS SIGN}"
) -> str:
    """The mean, and the standard deviation of the mean in per cent."""
    mean = statistics.fmean(values)
    text = f"{mean / scale:,.{digits}f}{unit}"
    if len(values) < 2 or mean == 0:
        return text
    return f"{text} {sign} {100 * error_of_mean(values) / abs(mean):.{digits}f} %"


def _measured(run: Run) -> list[Row]:
    return [row for row in run.rows if row.get("pf_per_min")] if run.scenario == "multi-fault" else []


def _policies(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["policy"]) for row in rows))


def _of(rows: Sequence[Row], policy: str) -> list[Row]:
    return sorted((row for row in rows if row["policy"] == policy), key=lambda row: int(row["cpus"]))


def changes(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """By how many per cent each round differs from the same round of the baseline."""
    return [100 * (b - a) / a for a, b in zip(before, after, strict=False) if a]


def sections(run: Run) -> list[Section]:
    """Those that the rows can fill."""
    rows = _measured(run)
    if not rows:
        return []
    found = [_throughput(run, rows)]
    if len({row["cpus"] for row in rows}) > 1:
        found.append(_scaling(run, rows))
    found.append(_cost(rows))
    if any(sum(row.get("gp_histogram") or ()) for row in rows):
        found.append(_grace_periods(rows))
    return found


def _throughput(run: Run, rows: list[Row]) -> Section:
    emulated = [row for row in rows if row["policy"] != "host"]
    policies = _policies(emulated)
    base = policies[0] if policies else "host"
    lines = []
    for row in rows:
        first = next((one for one in rows if one["policy"] == base and one["cpus"] == row["cpus"]), None)
        letter = COVER_LETTER.get(int(row["cpus"]))
        told = row["policy"] not in (base, "host") and first is not None
        change = changes(first["pf_per_min"], row["pf_per_min"]) if told and first else []
        lines.append(
            [
                f"{row['cpus']} {row['policy']}",
                spread_text(row["pf_per_min"], 1e6),
                str(len(row["pf_per_min"])),
                f"{statistics.fmean(change):+.2f} % \N{PLUS-MINUS SIGN} {error_of_mean(change):.2f}" if change else "",
                f"{letter[2]:+.2f} %" if letter and told else "",
            ]
        )
    header = ["threads, policy", "million faults a minute", "rounds", f"change from {base}", "cover letter"]
    section = Section(
        "Throughput",
        "Page faults per minute of wall clock, all CPUs together. Bars are means, whiskers the standard deviation of "
        "the mean. The cover letter's figures were measured on another machine: compare the changes.",
    )
    section.parts.append(
        Plot("throughput", "Page faults per minute by threads and policy", lambda axes, narrow: _bars(axes, rows))
    )
    compared = [row for row in emulated if row["policy"] != base]
    if compared:
        section.parts.append(
            Plot(
                "change",
                f"Change of throughput from {base}, beside the change that the cover letter reports",
                lambda axes, narrow: _change(axes, emulated, base, narrow),
                0.9,
            )
        )
    section.parts.append(Table(header, lines))
    return section


def _bars(axes: Any, rows: list[Row]) -> None:
    policies, counts = _policies(rows), sorted({int(row["cpus"]) for row in rows})
    width = 0.8 / len(policies)
    for i, policy in enumerate(policies):
        mine = _of(rows, policy)
        axes.bar(
            [counts.index(row["cpus"]) + (i - (len(policies) - 1) / 2) * width for row in mine],
            [statistics.fmean(row["pf_per_min"]) / 1e6 for row in mine],
            width * 0.92,
            yerr=[error_of_mean(row["pf_per_min"]) / 1e6 for row in mine],
            color=colour(i),
            ecolor=INK,
            capsize=3,
            label=policy,
        )
    axes.set_xticks(range(len(counts)), [str(n) for n in counts])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("threads")
    axes.set_ylabel("million page faults a minute")
    legend(axes)


def _change(axes: Any, rows: list[Row], base: str, narrow: bool) -> None:
    others = [policy for policy in _policies(rows) if policy != base]
    counts = sorted({int(row["cpus"]) for row in rows})
    step = 0.6 / max(1, len(others))
    for i, policy in enumerate(others):
        at, means, errors = [], [], []
        for row in _of(rows, policy):
            first = next((one for one in _of(rows, base) if one["cpus"] == row["cpus"]), None)
            if first is None or not (change := changes(first["pf_per_min"], row["pf_per_min"])):
                continue
            at.append(counts.index(row["cpus"]) + (i - (len(others) - 1) / 2) * step)
            means.append(statistics.fmean(change))
            errors.append(error_of_mean(change))
        axes.errorbar(means, at, xerr=errors, fmt="o", color=colour(i + 1), capsize=4, markersize=7, label=policy)
    letters = [(COVER_LETTER[n][2], counts.index(n)) for n in counts if n in COVER_LETTER]
    if letters:
        axes.plot(*zip(*letters, strict=True), "D", color=INK, markersize=6, linestyle="none", label="cover letter")
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.set_yticks(range(len(counts)), [str(n) for n in counts])
    axes.set_ylim(len(counts) - 0.4, -0.6)
    axes.set_ylabel("threads")
    axes.set_xlabel(f"change from {base}, per cent")
    legend(axes)


def _scaling(run: Run, rows: list[Row]) -> Section:
    processors = int(run.data["environment"].get("processors") or 0)

    def draw(axes: Any, narrow: bool) -> None:
        counts = sorted({int(row["cpus"]) for row in rows})
        for i, policy in enumerate(_policies(rows)):
            mine = _of(rows, policy)
            first = statistics.fmean(mine[0]["pf_per_min"]) / mine[0]["cpus"]
            axes.errorbar(
                [row["cpus"] for row in mine],
                [statistics.fmean(row["pf_per_min"]) / first for row in mine],
                yerr=[error_of_mean(row["pf_per_min"]) / first for row in mine],
                color=colour(i),
                linestyle=dash(i),
                marker="o",
                capsize=3,
                label=policy,
            )
        axes.plot(counts, counts, color=QUIET, linestyle=":", label="ideal")
        if counts[0] < processors < counts[-1]:
            axes.axvline(processors, color=QUIET, linewidth=1)
            axes.annotate(f" {processors} processors", (processors, 1), xycoords=("data", "axes fraction"), va="top")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.yaxis.set_major_formatter(lambda value, at: f"{value:g}")
        axes.minorticks_off()
        axes.set_xlabel("threads")
        axes.set_ylabel("times one thread")
        legend(axes)

    lead = "Throughput in units of one thread of the same policy; the dotted line is the ideal."
    if any(int(row["cpus"]) > processors > 0 for row in rows):
        lead += f" The machine has {processors} processors: more threads than that take turns."
    return Section("Scaling", lead, [Plot("scaling", "Throughput over threads, with the ideal line", draw)])


def _cost(rows: list[Row]) -> Section:
    lines = [
        [
            f"{row['cpus']} {row['policy']}",
            f"{statistics.median(row['ns_per_fault']):,.1f}",
            f"{min(row['ns_per_fault']):,.1f} .. {max(row['ns_per_fault']):,.1f}",
            f"{statistics.median(row['coordinator_ns_per_fault']):,.1f}" if "coordinator_ns_per_fault" in row else "",
            *(f"{row[name]:,}" if name in row else "" for name in ("tables_freed", "ipis", "grace_periods")),
        ]
        for row in rows
    ]
    header = ["threads, policy", "ns per fault", "lowest .. highest", "coordinator's ns"]
    return Section(
        "Cost of a fault",
        "Nanoseconds of processor time for one fault, zap and waiting included; medians over the rounds.",
        [Table([*header, "tables freed", "IPIs", "grace periods"], lines)],
    )


def _grace_periods(rows: list[Row]) -> Section:
    counted = [row for row in rows if sum(row.get("gp_histogram") or ())]
    low = min(next(i for i, n in enumerate(row["gp_histogram"]) if n) for row in counted)
    high = max(max(i for i, n in enumerate(row["gp_histogram"]) if n) for row in counted)

    def draw(axes: Any, narrow: bool) -> None:
        for i, row in enumerate(counted):
            histogram, total, seen = row["gp_histogram"], sum(row["gp_histogram"]), 0
            at, share = [2.0**low / 1e6], [0.0]
            for power in range(low, high + 1):
                seen += histogram[power]
                at.append(2.0 ** (power + 1) / 1e6)
                share.append(100 * seen / total)
            label = f"{row['cpus']} {row['policy']}"
            axes.step(at, share, where="pre", color=colour(i), linestyle=dash(i), label=label)
        axes.set_xscale("log")
        axes.set_xticks([10.0**power for power in range(-6, 5, 2 if narrow else 1)])
        axes.set_xlim(2.0**low / 1.5e6, 2.0 ** (high + 1) / 0.7e6)
        axes.xaxis.set_major_formatter(lambda value, at: duration(value * 1e6))
        axes.minorticks_off()
        axes.set_ylim(0, 103)
        axes.set_xlabel("latency")
        axes.set_ylabel("per cent that ended by then")
        legend(axes)

    lines = [
        [f"{row['cpus']} {row['policy']}", f"{row['grace_periods']:,}", f"{row.get('gp_mean_ms', 0):.2f}"]
        + [f"{row['gp_max_ms']:.2f}"]
        for row in counted
    ]
    return Section(
        "Grace periods",
        "From the moment callbacks were taken to the end of their grace period; counted in powers of two.",
        [
            Plot("grace-periods", "Share of the grace periods that ended within a time", draw),
            Table(["threads, policy", "grace periods", "ms mean", "ms longest"], lines),
        ],
    )


def duration(ns: float) -> str:
    """An instant or a length of time in the unit that reads best."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= factor:
            return f"{ns / factor:g} {unit}"
    return f"{ns:g} ns"


def legend(axes: Any, least: int = 2) -> None:
    """A legend above the axes, where it hides nothing; none for fewer than `least` series."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) >= least:
        narrow = axes.figure.get_figwidth() < 6
        columns = max(1, min(len(labels), (38 if narrow else 100) // (6 + max(map(len, labels)))))
        axes.figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize="small")
