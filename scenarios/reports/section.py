"""What a report is made of: sections of plots, tables, stories and drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.reports.figures import Plot


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column is the name of the row, numbers stand to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    words: Sequence[int] = ()  # columns of text, which stand to the left and may wrap
    kind: str = "table"


@dataclass(frozen=True)
class Lines:
    """Text as it is, with its line breaks; `folded` is what it is called where it is shown on demand."""

    text: str
    folded: str = ""
    kind: str = "lines"


@dataclass(frozen=True)
class Drawing:
    """An SVG that was drawn by hand, safe to be put into a page."""

    svg: str
    caption: str
    kind: str = "drawing"


@dataclass(frozen=True)
class Cell:
    """One event of a story: process, instant, what it did, and what is said below it and on demand."""

    who: int  # column
    when: str
    function: str
    text: str
    head: str = ""  # the instruction, where it is another one than before
    notes: Sequence[str] = ()
    callers: Sequence[str] = ()
    guilty: bool = False
    last: bool = False  # the last thing this process did
    times: int = 1
    earlier: str = ""  # what is not told before it


@dataclass(frozen=True)
class StoryTable:
    """A story in columns, one per process.

    `watched` is what a reader can step through: rows of `group`, `name` and `values`, each (step, text) from which on
    it holds. `when` of the cells is the step then.
    """

    columns: Sequence[str]
    cells: Sequence[Cell]
    unit: str
    early: Sequence[Cell] = ()  # events before `cells`, shown on demand
    ending: Sequence[tuple[str, str]] = ()
    watched: Sequence[Mapping[str, Any]] = ()
    kind: str = "story"


@dataclass
class Section:
    """A heading, what it shows in a sentence or two, and its parts in order."""

    title: str
    lead: str = ""
    parts: list[Any] = field(default_factory=list)
    folded: bool = False

    def plots(self) -> list[Plot]:
        """Its plots."""
        return [part for part in self.parts if isinstance(part, Plot)]
