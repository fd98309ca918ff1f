"""Ctrl-C and SIGTERM: an exception where the parent waits, never in the middle of a fork, and never lost.

An exception raised inside a callback from foreign code (the compiler's) is swallowed there; `raise_pending` repeats it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_pending = 0


class Interrupted(KeyboardInterrupt):
    """The run was asked to end by the signal `number`."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def _handler(number: int, frame: FrameType | None) -> None:
    global _pending
    _pending = number
    raise Interrupted(number)


def install() -> None:
    """Turn both signals into Interrupted. For the process that a user started, not for libraries."""
    for number in SIGNALS:
        signal.signal(number, _handler)


def raise_pending() -> None:
    """Raise Interrupted if a signal came and its exception was lost."""
    if _pending:
        raise Interrupted(_pending)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Inside this block both signals wait; they arrive at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """In a forked child: Ctrl-C is the parent's business, SIGTERM ends the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
