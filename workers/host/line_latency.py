"""How long a cache line takes from one processor to another: what every figure of CPUs that share lines hangs on.

On a virtual machine it may change by a factor of four from one second to the next, when its host moves a processor.
"""

from __future__ import annotations

import os
import statistics
import threading
import time

from workers.host.fault_loop import HostUnavailable, in_child, prepare
from workers.telling.postmortem import MachineFailed

WINDOWS, TURNS = 15, 2000  # of a probe: some 10 ms
CHANGED = 1.5  # two probes that differ by more have met two machines


def probe() -> float | None:
    """Nanoseconds a line takes one way between the first two processors; None if there is one, or no compiler.

    The lowest of some windows, for another program that runs can only lengthen one.
    """
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        return None
    try:
        loops, _segment, m = prepare(2)
        latency: float = in_child(lambda: _ping_pong(loops, m, processors))
    except (HostUnavailable, MachineFailed):
        return None
    return latency


def disagree(probes: list[float]) -> bool:
    """True if the latency changed between some probes."""
    return bool(probes) and max(probes) > CHANGED * min(probes)


def words(probes: list[float]) -> str:
    """What some probes found, as a line of text."""
    spread = f" ({min(probes):.0f} to {max(probes):.0f})" if max(probes) > 1.1 * min(probes) else ""
    return f"a line takes {statistics.median(probes):.0f} ns from processor to processor{spread}"


def _ping_pong(loops: object, m: object, processors: list[int]) -> float:
    """The probe, in a process of its own: two threads, a processor each."""

    def run(me: int, windows: list[float]) -> None:
        os.sched_setaffinity(0, {processors[me]})  # of this thread
        for _ in range(WINDOWS):
            start = time.perf_counter()
            loops.ping_pong(m, me, TURNS)  # type: ignore[attr-defined]
            windows.append((time.perf_counter() - start) / TURNS / 2)

    windows: list[float] = []
    other = threading.Thread(target=run, args=(1, []), daemon=True)
    other.start()
    run(0, windows)
    other.join()
    return 1e9 * min(windows)
