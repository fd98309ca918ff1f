"""Sections of advise: what processes hold and need, what each design would give back, which mappings waste."""

from __future__ import annotations

from typing import Any

from scenarios.reports.figures import INK, Plot, colour
from scenarios.reports.memory import short
from scenarios.reports.reading import Run
from scenarios.reports.section import Lines, Section, Table
from scenarios.reports.throughput import legend

SHOWN = 12  # processes of a plot


def _name(row: dict[str, Any]) -> str:
    return f"{row['name']} ({row['pid']})"


def advised_sections(run: Run) -> list[Section]:
    """Held and needed of all processes, then what is known of each that wastes something."""
    rows = [row for row in run.rows if row.get("row") == "process"]
    if not rows:
        return []
    shown = rows[:SHOWN]

    def draw(axes: Any, narrow: bool) -> None:
        at = list(range(len(shown)))
        axes.barh(at, [max(1, row["held_kb"]) for row in shown], 0.55, color=colour(0), label="held")
        needed = [max(1, row["needed_low_kb"] or 1) for row in shown]
        axes.plot(needed, at, "D", color=INK, markersize=6, linestyle="none", label="needed")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(short)
        axes.set_xlim(left=1)
        axes.set_yticks(at, [_name(row)[: 18 if narrow else 40] for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("page tables, kB (log scale)")
        legend(axes)

    lines = [
        [_name(row), *(f"{row[key]:,}" for key in ("held_kb", "needed_low_kb", "waste_kb")), row["level"]]
        + [row.get("allocator") or "", f"{row['rss_kb']:,}"]
        for row in rows
    ]
    header = ["process", "held kB", "needed kB", "waste kB", "level", "allocator", "RSS kB"]
    plot = Plot("advise", "Page tables held and needed, by process", draw, 0.5 + 0.1 * len(shown))
    found = [Section("Page tables of processes", "", [plot, Table(header, lines)])]
    return found + [_process(row) for row in rows if row.get("gives_back") or row.get("remedies")]


def _process(row: dict[str, Any]) -> Section:
    parts: list[Any] = []
    if given := row.get("gives_back"):
        lines = [[one["design"], f"{one['low_kb']:,} .. {one['high_kb']:,}", one["why"]] for one in given]
        parts.append(Table(["design", "kB it would give back", "why"], lines, words=(2,)))
    if maps := row.get("mappings"):
        lines = [
            [one["name"] or "anonymous", f"{one['slots']:,}", f"{one['slots_used']:,}", f"{one['waste_high_kb']:,}"]
            for one in maps
            if one["waste_high_kb"]
        ]
        parts.append(Table(["mapping with waste", "2 MiB slots", "with an entry", "waste kB"], lines))
    parts += [Lines(f"{one['kind']}: {one['cause']}\n{one['remedy']}") for one in row.get("remedies") or []]
    return Section(_name(row), f"Method: {row['method']}.", parts, folded=row["level"] == "ok")
