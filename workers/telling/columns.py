"""Events in columns, one column per process, time downwards: the layout that all stories share."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

WIDTH = 100  # of what is told, if nobody asks for another one
COLUMN, GAP = 48, 3
NARROWEST = 24  # letters of a column; where there is no room for them, the columns are one below the other
_INDENT = "    "
_CELL = re.compile(r"\S+(?: \S+)*")
_RULE = re.compile(r" *=+(?: +=+)*")


class Row(NamedTuple):
    """One event: what stands in the margin, whose column it is in, a mark in front of the text, lines of text."""

    margin: str
    column: str
    mark: str
    text: Sequence[str]


def hanging(line: str, width: int = WIDTH) -> list[str]:
    """A line that is too long in several, the others a little further in."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [line]


def _broken(row: Row, letters: int) -> list[str]:
    """The text of an event in lines of so many letters."""
    broken = (textwrap.wrap(text, letters, subsequent_indent=_INDENT, break_on_hyphens=False) for text in row.text)
    return [line for lines in broken for line in lines]


def column_lines(
    names: Sequence[str], rows: Sequence[Row | str], margin: int, width: int = WIDTH, unit: str = ""
) -> list[str]:
    """The heading and the rows, in lines of `width` letters; a string is a row across all columns.

    `unit` is what the margins count. Columns for which there is no room become one, and each event is behind the name
    of its own.
    """
    each = (width - margin - 2 + GAP) // max(1, len(names)) - GAP
    if each < NARROWEST:
        return list(_one_below_the_other(rows, margin, width, unit))
    told = [row if isinstance(row, str) else row._replace(text=_broken(row, min(each, COLUMN - GAP))) for row in rows]
    headings = [textwrap.wrap(name, each) for name in names]
    texts = [*headings, *(row.text for row in told if isinstance(row, Row))]
    letters = max(len(text) for lines in texts for text in lines)
    lines = []
    for i, heading in enumerate(zip_longest(*headings, fillvalue="")):
        before = f"{unit if i == 0 else '':<{margin + 2}}"
        lines.append(before + (" " * GAP).join(f"{name:<{letters}}" for name in heading).rstrip())
    lines.append(" " * (margin + 2) + (" " * GAP).join("=" * letters for _ in names))
    for row in told:
        if isinstance(row, str):
            lines += _across(row, margin, width)
            continue
        at = " " * (names.index(row.column) * (letters + GAP))
        lines += _beside(row, f"{row.margin:<{margin}}{at}  ")
    return lines


def _one_below_the_other(rows: Sequence[Row | str], margin: int, width: int, unit: str) -> Iterator[str]:
    """The rows of `column_lines` below the name of their column, which is said where it changes."""
    before = ""
    if unit:
        yield unit.rstrip()
    for row in rows:
        if isinstance(row, str):
            yield from _across(row, margin, width)
            continue
        if row.column != before:
            yield from _across(row.column, margin, width)
        before = row.column
        yield from _beside(row._replace(text=_broken(row, width - margin - 5)), f"{row.margin:<{margin}}     ")


def _across(row: str, margin: int, width: int) -> list[str]:
    return hanging(" " * (margin + 2) + row, width)


def _beside(row: Row, before: str) -> Iterator[str]:
    """The lines of an event, what stands before it in front of the first, and its mark."""
    for i, text in enumerate(row.text):
        if i:
            yield " " * len(before) + text
        else:
            yield before[: len(before) - len(row.mark)] + row.mark + text


def history_lines(text: str, width: int = WIDTH) -> list[str]:
    """A text that may hold events in columns below a rule of `=`, in lines that fit; what fits is left as it is."""
    found: list[str] = []
    for part in text.split("\n\n"):
        lines = part.split("\n")
        rule = next((i for i, line in enumerate(lines) if _RULE.fullmatch(line)), 0)
        if max(map(len, lines)) <= width:
            found += lines
        elif rule:
            found += _laid_again(lines[rule - 1], lines[rule], lines[rule + 1 :], width)
        else:
            found += [piece for line in lines for piece in hanging(line, width)]
        found.append("")
    return found[:-1]


def _laid_again(heading: str, rule: str, lines: Sequence[str], width: int) -> list[str]:
    """Events in columns, laid out in another width; a line that is further in goes on with the one above it."""
    starts = [match.start() for match in re.finditer("=+", rule)]
    names = [heading[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    rows: list[Row] = []
    latest: dict[int, int] = {}  # the row of each column
    for line in lines:
        for cell in _CELL.finditer(line):
            column = max(i for i, start in enumerate(starts) if start <= cell.start())
            if cell.start() > starts[column] and column in latest:
                above = rows[latest[column]]
                rows[latest[column]] = above._replace(text=[f"{above.text[0]} {cell[0]}"])
                continue
            latest[column] = len(rows)
            rows.append(Row("", names[column], "", [cell[0]]))
    return [line[2:] for line in column_lines(names, rows, 0, width + 2)]
