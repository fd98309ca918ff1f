"""What can be said of a machine that did not end well, read from the segment that survives its processes."""

from __future__ import annotations

import signal

from emulator.mm_types import Geometry
from workers.telling.leaks import leaks
from workers.telling.waits import cycle_line, wait_for_graph
from workers.telling.whereabouts import Fates, Views, state_of, who


class MachineFailed(Exception):
    """A process died or the machine did not come to rest. The text says which CPU, what it did, what it held."""


def how_it_ended(exitcode: int) -> str:
    """What is known of the end of a process, and what that may mean."""
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    why = {
        signal.SIGBUS: " (there is no room left in /dev/shm)",
        signal.SIGKILL: " (by somebody, or because memory ran out)",
    }
    return f"was killed by {signal.Signals(-exitcode).name}{why.get(signal.Signals(-exitcode), '')}"


def describe_death(views: Views, geometry: Geometry, number: int, exitcode: int) -> str:
    """A process ended by itself: which, how, at which instruction, with which locks."""
    return f"{who(geometry, number)} {how_it_ended(exitcode)} {state_of(views, geometry, number)}"


def describe_stuck(views: Views, geometry: Geometry, headline: str, fates: Fates) -> str:
    """A machine that does not move: every process that has not finished, what each waits for, and what leaked."""
    lines = [headline]
    for number in range(geometry.cpus + geometry.debug):
        if not views["cpu"]["finished"][number]:
            lines.append(f"{who(geometry, number, fates)} {state_of(views, geometry, number)}")
    lines += [*wait_for_graph(views, geometry, fates), *cycle_line(views, geometry)]
    lines += [f"leaked: {line}" for line in leaks(views, geometry, fates)]
    return "\n  ".join(lines)
