"""Ctrl-C, SIGTERM and SIGHUP: an exception where the parent waits, never in the middle of a fork, and never lost.

An exception raised inside a callback from foreign code (the compiler's), or in a destructor, is swallowed there. Python
tells the process so, and it is raised again a moment later; `raise_pending` does so at once.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HELD = (*SIGNALS, signal.SIGALRM)
_AGAIN = 0.01  # seconds until an exception that was swallowed is raised again
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


def _raise_again(number: int, frame: FrameType | None) -> None:
    raise_pending()


def _swallowed(unraisable: Any) -> None:
    """Python's hook for an exception that nobody gets to see."""
    if isinstance(unraisable.exc_value, Interrupted):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(unraisable)


def install() -> None:
    """Turn the signals into Interrupted. For the process that a user started, not for libraries.

    A SIGHUP that is ignored stays so: nohup asked for it.
    """
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handler)
    signal.signal(signal.SIGALRM, _raise_again)
    sys.unraisablehook = _swallowed


def pending() -> int:
    """The signal that has asked this process to end; 0 if none has."""
    return _pending


def raise_pending() -> None:
    """Raise Interrupted if a signal came and its exception was lost."""
    if _pending:
        raise Interrupted(_pending)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Inside this block the signals wait; they arrive at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """In a forked child: Ctrl-C and a terminal that hangs up are the parent's business; SIGTERM and SIGBUS end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
