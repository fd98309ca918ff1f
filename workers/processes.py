"""Processes that are forked from this one and die with it, and how many of them can run at once."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from workers import interrupts
from workers.parent import die_with

SHORT_SPIN, LONG_SPIN = 1, 4000  # pauses before a waiting CPU sleeps: with too few processors, with enough


@cache
def fork() -> Any:
    """What makes processes and pipes, imported when there is one to make."""
    import multiprocess

    return multiprocess.get_context("fork")


def wait_for(objects: list[Any], seconds: float) -> list[Any]:
    """Those of these pipes and sentinels that are ready, after so many seconds at most."""
    from multiprocess.connection import wait

    ready: list[Any] = wait(objects, seconds)
    return ready


def processors() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def spin_for(cpus: int) -> int:
    """Pauses before one of so many CPUs that wait goes to sleep."""
    return LONG_SPIN if cpus <= processors() else SHORT_SPIN


def child_main(parent: int, entry: Any, m: Any, cpu: int) -> None:
    """Body of every process that must not outlive its parent."""
    die_with(parent)
    interrupts.reset_in_child()
    entry(m, cpu)
