"""Events in columns, one column per process, time downwards: the layout that all stories share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

COLUMN, GAP = 48, 3


class Row(NamedTuple):
    """One event: what stands in the margin, whose column it is in, a mark in front of the text, lines of text."""

    margin: str
    column: str
    mark: str
    text: Sequence[str]


def column_lines(
    names: Sequence[str], rows: Sequence[Row | str], margin: int, width: int = COLUMN, unit: str = ""
) -> list[str]:
    """The heading and the rows; a string is a row across all columns. `unit` is what the margins count."""
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
