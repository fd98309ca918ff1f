"""How results are shown: what --format and --width ask for, and what they are without."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

FORMATS = ("text", "markdown", "csv")
WIDTH, NARROWEST, WIDEST = 100, 40, 240  # columns of what is printed


@dataclass(frozen=True)
class Style:
    """One of FORMATS, in lines of at most `width` columns. Of csv only the records are shown."""

    format: str = "text"
    width: int = WIDTH


_asked: ContextVar[Style | None] = ContextVar("style", default=None)


def style() -> Style:
    """What is asked for; without that text."""
    return _asked.get() or Style(width=default_width())


def ask(one: Style) -> None:
    """Show results like this, as long as the command lasts."""
    _asked.set(one)


@contextlib.contextmanager
def styled(one: Style | None = None) -> Iterator[None]:
    """Show results like this, or as nobody asked for anything, and then as before."""
    before = _asked.set(one)
    try:
        yield
    finally:
        _asked.reset(before)


def default_width() -> int:
    """Columns where --width does not say it: those of the terminal or COLUMNS, WIDTH at most."""
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 0)).columns))
