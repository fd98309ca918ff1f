"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

_BEGUN = 0.01  # share from which on it says how long the rest takes: what comes before is preparation
_EVERY = 5.0  # seconds between lines where stderr is not a terminal


class Progress:
    """A task whose done share is reported with `update`; use as a context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None
        self._began = self._last = time.monotonic()
        self._from = self._share = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=1.0)
        return self

    def update(self, share: float, text: str = "") -> None:
        """Say that `share` of the work (0 to 1) is done; less than before begins a new part, with a time of its own."""
        if share < max(self._share, _BEGUN):
            self._began, self._from = time.monotonic(), share
        self._share = share
        if self._bar is not None:
            self._bar.update(self._task, completed=share, description=f"{self._title} {text}".rstrip())
        elif time.monotonic() - self._last >= _EVERY:
            self._last = time.monotonic()
            note(f"{self._title}: {100 * share:.0f} % {text}".rstrip() + self._left(share))

    def _left(self, share: float) -> str:
        """How long it will take from here on, if it goes on like this."""
        if not self._from < share < 1:
            return ""
        seconds = round((time.monotonic() - self._began) * (1 - share) / (share - self._from))
        return f", {seconds // 60}:{seconds % 60:02} left"

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"ptelab: {text}\n")
    sys.stderr.flush()
