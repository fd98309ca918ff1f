"""Sections about memory: VmPTE by policy, its curve over a program's operations, the arena as a map."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scenarios.reports.cover_letter import MADVISE_LOOP_KB
from scenarios.reports.figures import INK, PAPER, QUIET, Plot, colour, dash
from scenarios.reports.reading import Run
from scenarios.reports.section import Section, Table
from scenarios.reports.throughput import legend

Row = dict[str, Any]
POINTS = 2000  # of a curve; more are not seen
MARKS = "osD^vPX*"


def short(value: float, at: object = None) -> str:
    """A power of ten, short."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def held_sections(run: Run) -> list[Section]:
    """VmPTE at the end per policy, with what is needed of it (madvise-loop, server-snapshot)."""
    rows = [row for row in run.rows if "vmpte_kb" in row and "virt_kb" in row]
    if not rows:
        return []

    def draw(axes: Any, narrow: bool) -> None:
        at = list(range(len(rows)))
        held = [max(1, row["vmpte_kb"]) for row in rows]
        axes.barh(at, held, 0.55, color=[colour(i) for i in at])
        needed = [(row["needed_kb"], i) for i, row in enumerate(rows) if row.get("needed_kb")]
        if needed:
            axes.plot(*zip(*needed, strict=True), "D", color=INK, markersize=6, linestyle="none", label="needed")
        if run.scenario == "madvise-loop":
            before, after = MADVISE_LOOP_KB
            for kb in (before, after):
                axes.axvline(kb, color=QUIET, linestyle=":", linewidth=1.4)
            axes.plot([], [], color=QUIET, linestyle=":", label=f"cover letter: {before:,} before, {after:,} after")
        for i, row in enumerate(rows):
            axes.annotate(
                f"{row['vmpte_kb']:,}",
                (held[i], i),
                (6, 0),
                textcoords="offset points",
                va="center",
                ha="left",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(short)
        axes.set_xlim(left=1, right=max(held) * (12 if narrow else 4))
        axes.set_yticks(at, [row["policy"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("VmPTE at the end, kB (log scale)")
        legend(axes, 1)

    lines = [
        [
            str(row["policy"]),
            *(f"{row[name]:,}" if row.get(name) is not None else "" for name in ("vmpte_kb", "needed_kb", "res_kb")),
            f"{row['virt_kb']:,}",
            *(f"{row[name]:,}" if row.get(name) is not None else "" for name in ("tables_installed", "tables_freed")),
        ]
        for row in rows
    ]
    scale = {row.get("scale") for row in rows} - {None}
    lead = "Page tables by the kernel's accounting: 4 kB for each PTE, PMD and PUD table."
    lead += f" Every size is divided by {scale.pop():,}." if scale else ""
    height = 0.5 + 0.13 * len(rows)
    header = ["policy", "VmPTE kB", "needed kB", "RES kB", "VIRT kB", "tables installed", "freed"]
    plot = Plot("held", "Page tables held at the end, by policy", draw, height)
    return [Section("Page tables held", lead, [plot, Table(header, lines)])]


def _steps(axes: Any, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]], what: str) -> None:
    """Step curves; the first are the broadest, so that those that run together are all seen."""
    for i, (name, at, held) in enumerate(curves):
        width = 1.6 + 4.0 * (len(curves) - 1 - i) / max(1, len(curves) - 1)
        ends = [*at, 2 * at[-1] - at[-2] if len(at) > 1 else at[-1] + 1]
        levels = [max(1, kb) for kb in [*held, held[-1]]]
        axes.step(ends, levels, where="post", color=colour(i), linestyle=dash(i), linewidth=width, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(short)
    axes.set_xlabel(what)
    axes.set_ylabel("VmPTE, kB (log scale; 0 as 1)")
    legend(axes)


def _thinned(at: Sequence[float], held: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most POINTS of a curve: the highest value of each so many."""
    step = -(-len(held) // POINTS)
    starts = range(0, len(held), step)
    return [at[i] for i in starts], [max(held[i : i + step]) for i in starts]


def replay_section(runs: Sequence[Run]) -> list[Section]:
    """VmPTE over the lines of a trace, a curve for each run and policy (replay)."""
    curves = []
    for run in runs:
        for policy in dict.fromkeys(str(row.get("policy")) for row in run.rows):
            rows = [row for row in run.rows if str(row.get("policy")) == policy and "vmpte_kb" in row]
            if rows:
                name = policy if len(runs) == 1 else f"{policy} ({run.name})"
                curves.append((name, [row["line"] for row in rows], [row["vmpte_kb"] for row in rows]))
    if not curves:
        return []
    drawn = [(name, *_thinned(at, held)) for name, at, held in curves]
    lines = [[name, f"{max(held):,}", f"{held[-1]:,}", f"{len(held):,}"] for name, _, held in curves]
    plot = Plot(
        "vmpte", "VmPTE over the lines of the trace, by policy", lambda axes, _: _steps(axes, drawn, "line of trace")
    )
    lead = "Page tables of the process after each line of the trace."
    return [Section("VmPTE over time", lead, [plot, Table(["run", "peak kB", "end kB", "lines"], lines)])]


def whatif_sections(run: Run) -> list[Section]:
    """The curve and the sums of each design under a real program (whatif)."""
    rows = [row for row in run.rows if row.get("curve_kb")]
    if not rows:
        return []
    curves = [
        (str(row["policy"]), [i * row["curve_step"] for i in range(len(row["curve_kb"]))], row["curve_kb"])
        for row in rows
    ]
    lines = [
        [str(row["policy"])]
        + [f"{row[name]:,}" for name in ("peak_kb", "end_kb", "at_rest_kb", "needed_kb", "tables_freed", "flushes")]
        + [f"{row['as_expected']:,} of {row['expected']:,}" if row.get("expected") else ""]
        for row in rows
    ]
    header = ["policy", "peak kB", "end kB", "at rest kB", "needed kB", "tables freed", "flushes", "as recorded"]
    plot = Plot(
        "whatif", "VmPTE over the operations of the program", lambda axes, _: _steps(axes, curves, "operations")
    )
    calls = list(dict.fromkeys(name for row in rows for name in row.get("freed_kb", {})))[:8]
    freed = [[str(row["policy"]), *(f"{row['freed_kb'].get(name, 0):,}" for name in calls)] for row in rows]
    parts: list[Any] = [plot, Table(header, lines)]
    if calls:
        parts.append(Table(["kB freed by", *calls], freed))
    lead = "What the recorded program would hold in page tables under each design; all its processes together."
    return [Section("What if this program ran under another design", lead, parts)]


def _middle(row: Row, figure: str) -> float | None:
    found = [value for value in row.get(figure) or [] if value is not None]
    return statistics.median(found) if found else None


def arena_sections(run: Run) -> list[Section]:
    """Given back against cost, a mark for each policy and workload (arena)."""
    rows = [row for row in run.rows if "workload" in row and "later_kb" in row]
    bases = {(r["workload"], r["cpus"]): r for r in rows if r["policy"] == "none-rcu"} or {
        (r["workload"], r["cpus"]): r for r in rows if r["policy"] == "none"
    }
    if not rows or not bases:
        return []
    base = next(iter(bases.values()))["policy"]
    points: dict[str, list[tuple[float, float, str]]] = {}
    lines = []
    for row in rows:
        first = bases.get((row["workload"], row["cpus"]))
        if first is None:
            continue
        waste, whole = ((_middle(of, "later_kb") or 0.0) - (_middle(of, "needed_kb") or 0.0) for of in (row, first))
        mine, theirs = _middle(row, "ns_per_fault"), _middle(first, "ns_per_fault")
        back = 100 * (1 - waste / whole) if whole > 0 else None
        added = mine - theirs if mine is not None and theirs is not None else None
        if back is not None and added is not None and row["policy"] != base:
            points.setdefault(str(row["policy"]), []).append((added, back, str(row["workload"])))
        lines.append(
            [
                f"{row['workload']} on {row['cpus']}, {row['policy']}",
                *(
                    f"{value:,.0f}" if (value := _middle(row, name)) is not None else ""
                    for name in ("later_kb", "needed_kb")
                ),
                f"{back:,.1f} %" if back is not None else "",
                f"{added:+,.1f}" if added is not None and row["policy"] != base else "",
            ]
        )
    header = ["workload, policy", "kB left", "kB needed", "given back", f"ns a fault over {base}"]
    table = Table(header, lines)

    def draw(axes: Any, narrow: bool) -> None:
        for i, (policy, found) in enumerate(points.items()):
            axes.plot(
                statistics.median(added for added, _, _ in found),
                statistics.fmean(back for _, back, _ in found),
                MARKS[i % len(MARKS)],
                color=colour(i),
                markersize=9,
                linestyle="none",
                label=policy,
            )
            axes.plot(
                [p[0] for p in found],
                [p[1] for p in found],
                MARKS[i % len(MARKS)],
                color=colour(i),
                markersize=4,
                alpha=0.45,
                linestyle="none",
            )
        axes.axvline(0, color=QUIET, linewidth=1)
        axes.set_xscale("symlog", linthresh=10)
        axes.xaxis.set_major_formatter(lambda value, at: f"{value:g}")
        axes.set_ylim(-5, 105)
        axes.set_xlabel(f"nanoseconds added to a fault, over {base}")
        axes.set_ylabel("per cent of empty tables given back")
        legend(axes)

    lead = (
        "Large marks are a policy over all workloads (cost: median, given back: mean), small ones single workloads. "
        "Up and to the left is better."
    )
    parts: list[Any] = [Plot("arena", "Tables given back against the cost of a fault", draw, 1.25)] if points else []
    return [Section("The arena as a map", lead, [*parts, table])]
