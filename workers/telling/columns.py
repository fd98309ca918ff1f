"""Events in columns, one column per process, time downwards: the layout that all stories share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 100  # of what is told
COLUMN, GAP = 48, 3
NARROWEST = 24


class Row(NamedTuple):
    """One event: what stands in the margin, whose column it is in, a mark in front of the text, lines of text."""

    margin: str
    column: str
    mark: str
    text: Sequence[str]


def room(columns: int, margin: int) -> int:
    """Letters of a line in each of so many columns."""
    return max(NARROWEST, min(COLUMN, (WIDTH - margin - 2 + GAP) // max(1, columns)) - GAP)


def hanging(line: str) -> list[str]:
    """A line that is too long in several, the others a little further in."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [line]


def column_lines(
    names: Sequence[str], rows: Sequence[Row | str], margin: int, width: int = COLUMN, unit: str = ""
) -> list[str]:
    """The heading and the rows; a string is a row across all columns. `unit` is what the margins count.

    The rows have lines of at most `width` - GAP letters.
    """
    indent = " " * (margin + 2)
    lines = [f"{unit:<{margin + 2}}" + "".join(f"{name:<{width}}" for name in names).rstrip()]
    lines.append(indent + (" " * GAP).join("=" * (width - GAP) for _ in names))
    for row in rows:
        if isinstance(row, str):
            lines.append(indent + row)
            continue
        at = " " * (names.index(row.column) * width)
        for i, text in enumerate(row.text):
            left, mark = ("", "") if i else (row.margin, row.mark)
            before = f"{left:<{margin}}{at}  "
            lines.append(before[: len(before) - len(mark)] + mark + text)
    return lines
