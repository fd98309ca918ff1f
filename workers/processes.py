"""Processes that are forked from this one and die with it, and how many of them can run at once."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

import multiprocess

from workers import interrupts

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
FORK = multiprocess.get_context("fork")
SHORT_SPIN, LONG_SPIN = 1, 4000  # pauses before a waiting CPU sleeps: with too few processors, with enough


def processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def spin_for(cpus: int) -> int:
    """Pauses before one of so many CPUs that wait goes to sleep."""
    return LONG_SPIN if cpus <= processors() else SHORT_SPIN


def die_with(parent: int) -> None:
    """Let this process be killed when its parent, which must be this one, ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def child_main(parent: int, entry: Any, m: Any, cpu: int) -> None:
    """Body of every process that must not outlive its parent."""
    die_with(parent)
    interrupts.reset_in_child()
    entry(m, cpu)
