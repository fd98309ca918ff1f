"""Text output: tables, checks, verdict. The only place that prints results."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from scenarios.session.record import Record
from workers.telling.violation import report_lines

SHOWN_SIGNALS = 8
WIDTH, GAP = 100, 3  # columns of a printed table, and between two of its columns


def write(text: str = "") -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, left: Sequence[int] = (0,)
) -> None:
    """A plain aligned table on stdout; the columns in `left` to the left, all others to the right."""
    if not rows:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(header):
        grid.add_column(name, justify="left" if i in left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    if title:
        write(title)
    console = Console(width=240)  # a narrow terminal wraps a line; it must not cost a figure
    for line in "".join(segment.text for segment in console.render(grid)).rstrip().splitlines():
        write(line.rstrip().replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"))
    write()


def tables(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table of at most WIDTH columns; what does not fit stands in further ones, each with the first column again."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    first = 1
    while first < len(header):
        end, room = first, WIDTH - widths[0]
        while end < len(header) and (end == first or room >= widths[end] + GAP):
            room -= widths[end] + GAP
            end += 1
        table([header[0], *header[first:end]], [[row[0], *row[first:end]] for row in rows], title)
        first, title = end, None


def millions(values: Sequence[float]) -> str:
    """The mean in millions, with the standard deviation of the mean in per cent, as perf stat --repeat has it."""
    mean = statistics.fmean(values)
    text = f"{mean / 1e6:,.2f} M"
    if len(values) < 2 or mean == 0:
        return text
    return f"{text} +- {100 * statistics.stdev(values) / len(values) ** 0.5 / abs(mean):.2f} %"


def change(before: Sequence[float], after: Sequence[float]) -> str:
    """By how many per cent the mean changed, and n.s. if twice the standard error of the difference covers that."""
    if not any(before):
        return "-"
    difference = statistics.fmean(after) - statistics.fmean(before)
    text = f"{100 * difference / statistics.fmean(before):+.2f} %"
    if min(len(before), len(after)) < 2:
        return text
    error = sum(statistics.variance(values) / len(values) for values in (before, after)) ** 0.5
    return text if abs(difference) > 2 * error else f"{text} n.s."


def kb(value: float) -> str:
    """A size in kB, exactly, with a larger unit beside it where that reads better."""
    return f"{value:,.0f} kB ({size(value)})" if value >= 10 << 10 else f"{value:,.0f} kB"


def paths(taken: Mapping[str, int]) -> list[str]:
    """How often each path of docs/paths.md was taken, two in a line, and which never was."""
    never = [path for path, times in taken.items() if times == 0]
    lines = [f"{path:<30} {times:>14,}" for path, times in taken.items()]
    half = (len(lines) + 1) // 2
    pairs = [f"{left}    {right}".rstrip() for left, right in zip_longest(lines[:half], lines[half:], fillvalue="")]
    said = f"; never: {', '.join(never)}" if never else ""
    return [f"paths of docs/paths.md: {len(taken) - len(never)} of {len(taken)} taken{said}", *pairs]


def checks_and_verdict(record: Record) -> None:
    """The audit, `ok` per check, and how the run ended."""
    for name, violations in record.checks.items():
        write(f"check   {name:<18} {violations:>6}   {'ok' if violations == 0 else 'VIOLATED'}")
    if sum(record.ages):
        write(
            f"rcu     read sections by the age of their table: 0: {record.ages[0]:,}  1: {record.ages[1]:,}  "
            f"2 and more: {sum(record.ages[2:]):,}"
        )
    for of in record.signals[:SHOWN_SIGNALS]:
        write(f"signal  {of}")
    more = len(record.signals[SHOWN_SIGNALS:]) + record.more_signals
    if more:
        write(f"signal  {more} more CPUs got one")
    for violation in record.violations:
        write("\n".join(["", *report_lines(violation), ""]))
    words = {
        "pass": "PASS",
        "fail": "FAIL",
        "died": "DIED",
        "interrupted": "INTERRUPTED; these are partial results",
        "inconclusive": "INCONCLUSIVE",
    }
    write(f"result  {words[record.verdict]}")


def size(kilobytes: float) -> str:
    """A size in the unit that reads best."""
    for unit, factor in (("TiB", 1 << 30), ("GiB", 1 << 20), ("MiB", 1 << 10)):
        if kilobytes >= factor:
            return f"{kilobytes / factor:,.2f} {unit}"
    return f"{kilobytes:,.0f} kB"


def rows_of(record: Record, **match: Any) -> list[dict[str, Any]]:
    """The rows of a record whose columns have these values."""
    return [row for row in record.rows if all(row.get(k) == v for k, v in match.items())]
