"""Section of compare: what changed between two records, by how much, and whether the rounds show it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scenarios.reports.comparing import HEADER, Change, change_from, tables_of
from scenarios.reports.figures import INK, QUIET, Plot, colour
from scenarios.reports.reading import Run
from scenarios.reports.section import Section, Table

SHOWN = 24  # changes of a plot
LINEAR = 100  # per cent; beyond that the axis is logarithmic, if anything is there
COLOURS = {"worse": colour(1), "better": colour(2)}


def change_sections(run: Run) -> list[Section]:
    """The tables of the terminal under a picture of the intervals; what it leaves out without --all is folded."""
    if run.scenario != "compare" or not run.rows:
        return []
    changes = [change_from(row) for row in run.rows]
    told = [Table(HEADER, lines, title) for title, lines in tables_of(changes, everything=False).items()]
    rest = [Table(HEADER, lines, title) for title, lines in tables_of(changes, everything=True).items()]
    shown = [change for change in changes if change.worse and change.known][:SHOWN]
    lead = "" if told else "Nothing is better or worse."
    plots = [_plot(shown)] if shown else []
    return [Section("What changed", lead, [*plots, *told]), Section("Every figure", "", rest, folded=True)]


def _labels(changes: list[Change], longest: int) -> list[str]:
    """Each figure, and below it what tells its row from the others."""
    common = set.intersection(*(set(change.key) for change in changes))
    own = [replace(change, key=tuple(part for part in change.key if part not in common)) for change in changes]
    return [f"{change.figure[:longest]}\n{change.title()[:longest]}".strip() for change in own]


def _plot(changes: list[Change]) -> Plot:
    """The change of each figure with its interval."""

    def draw(axes: Any, narrow: bool) -> None:
        for at, change in enumerate(changes):
            ink = COLOURS.get(change.judgement, QUIET)
            axes.plot([change.low, change.high], [at, at], color=ink, linewidth=3, solid_capstyle="butt")
            axes.plot([change.percent], [at], "o", color=ink)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(changes)), _labels(changes, 25 if narrow else 50))
        axes.set_ylim(len(changes) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        if max(abs(end) for change in changes for end in (change.low, change.high)) > LINEAR:
            axes.set_xscale("symlog", linthresh=LINEAR)
            axes.xaxis.set_major_formatter("{x:+g}")
        axes.set_xlabel("change, %")

    caption = "Change of the mean and its 95 % interval; orange: worse, green: better, grey: the rounds do not show it"
    return Plot("compare", caption, draw, 0.5 + 0.12 * len(changes))
