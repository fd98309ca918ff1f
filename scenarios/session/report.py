"""Text output: tables, checks, verdict. The only place that prints results."""

from __future__ import annotations

import re
import statistics
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from scenarios.reports.reading import Run
from scenarios.reports.terminal import COLOURS, drawn, is_plain, spelled
from scenarios.reports.terminal import pictures as terminal_pictures
from scenarios.reports.throughput import spread_text
from scenarios.session.record import Record
from scenarios.session.style import WIDEST, style
from workers.telling.columns import hanging, history_lines
from workers.telling.violation import report_lines

SHOWN_SIGNALS = 8
GAP = 3  # columns between two of a table
_COMMAND = re.compile(r"\s*(again: )?(\$ )?(ptelab|make|python) ")
WORDS = 24  # columns that a text keeps before the table is split


def verbatim(text: str) -> None:
    """Lines on stdout, in signs that it knows, however long."""
    text = spelled(text, is_plain(sys.stdout.encoding))
    if style().format == "markdown":
        text = textwrap.indent(text, "    ")
    sys.stdout.write(text + "\n")


def write(text: str = "") -> None:
    """Lines on stdout, in several where one does not fit.

    In Markdown they stay as they are, and so does a command, which one copies.
    """
    if style().format != "markdown":
        text = "\n".join(part for line in text.split("\n") for part in _fitting(line, style().width))
    verbatim(text)


def _fitting(line: str, width: int) -> list[str]:
    return [line] if len(line) <= width or _COMMAND.match(line) else hanging(line, width)


def history(text: str) -> None:
    """A text with events in columns, in lines that fit."""
    write("\n".join(history_lines(text, style().width)))


def prose(text: str) -> None:
    """A paragraph on stdout, in lines that fit."""
    write("\n".join(textwrap.wrap(text, style().width, break_long_words=False, break_on_hyphens=False)))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, left: Sequence[int] = (0,)
) -> None:
    """A plain aligned table on stdout; the columns in `left` to the left, all others to the right.

    What is too wide has its header in several lines, then its texts (other columns of `left`). At last it is several
    tables, each with the first column.
    """
    if not rows:
        return
    if style().format == "markdown":
        sys.stdout.write(f"\n**{title}**\n\n" if title else "\n")
        _write_markdown(header, rows, left)
        return
    if title:
        prose(title)
    for columns in _split(header, rows, left, style().width):
        _write_aligned(header, rows, left, columns)


def _write_markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> None:
    marks = [":--" if i in left else "--:" for i in range(len(header))]
    for cells in (header, marks, *rows):
        sys.stdout.write(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    sys.stdout.write("\n")


def _write_aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int], columns: Mapping[int, int]
) -> None:
    """One table of these columns, each so wide."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, width in columns.items():
        grid.add_column(header[i], justify="left" if i in left else "right", width=width, overflow="fold")
    for row in rows:
        grid.add_row(*(row[i] for i in columns))
    console = Console(width=WIDEST + GAP * len(columns))
    for line in "".join(segment.text for segment in console.render(grid)).rstrip().splitlines():
        write(line.rstrip().replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"))
    write()


def _split(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int], width: int
) -> Iterator[dict[int, int]]:
    """The columns of each table that it takes, with their widths."""
    whole = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    least = [
        max(max(map(len, header[i].split()), default=0), *(len(row[i]) for row in rows)) for i in range(len(header))
    ]
    for i in left:
        word = max(len(word) for row in [header, *rows] for word in ["", *row[i].split()])
        least[i] = min(whole[i], max(min(WORDS, width // 3), min(word, width // 2 - GAP)))
    groups = _groups(least, width)
    groups = next(one for w in range(width + 1) if len(one := _groups(least, w)) == len(groups))  # alike in width
    for columns in groups:
        room = width - sum(least[i] + GAP for i in columns) + GAP
        widths = {}
        for i in sorted(columns, key=lambda i: (i in left, i)):  # what is left over is for headers, then for texts
            more = max(0, min(room, whole[i] - least[i]))
            widths[i], room = least[i] + more, room - more
        yield {i: widths[i] for i in columns}


def _groups(least: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each table, as many as fit into the width, but the first and one more at least."""
    groups: list[list[int]] = []
    room = -1
    for i in range(1, len(least)):
        if room < least[i] + GAP:
            groups.append([0])
            room = width - least[0]
        groups[-1].append(i)
        room -= least[i] + GAP
    return groups or [[0]]


def pictures(runs: Sequence[Run]) -> int:
    """Draw every record on stdout, in colour on a terminal without NO_COLOR; how many pictures that were."""
    from rich.console import Console
    from rich.text import Text

    console: Any = Console(highlight=False, markup=False, width=WIDEST)
    plain = is_plain(console.encoding)
    margin = " " * 4 if style().format == "markdown" else ""
    found = [(f"{run.name}: {picture.title}", picture) for run in runs for picture in terminal_pictures(run)]
    for title, picture in found:
        write(title[: style().width])
        for i, (name, shape, said) in enumerate(drawn(picture, style().width, plain)):
            line = Text(f"{margin}{name}  ").append(shape, COLOURS[i % len(COLOURS)])
            line.append(f"  {spelled(said, plain)}").rstrip()
            console.print(line, soft_wrap=True)
        write()
    return len(found)


def millions(values: Sequence[float]) -> str:
    """The mean in millions, with the standard deviation of the mean in per cent, as perf stat --repeat has it."""
    return spread_text(values, 1e6, 2, " M", "+-")


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
    longest = max(map(len, taken))
    lines = [f"{path:<{longest}} {times:>14,}" for path, times in taken.items()]
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
        write("\n".join(["", *report_lines(violation, style().width), ""]))
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
