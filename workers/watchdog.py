"""A machine that stands still: seen from outside, without a false alarm on a busy host.

It stands still if, look after look, no counter of any CPU and no grace period has moved although every process that has
not ended was asleep, stopped, or has had processor time. A process that waits for a processor is not stuck.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOOK_SECONDS = 0.05
_COUNTERS = ("pc", "insns", "faults", "zapped", "tables_freed", "tlb_misses", "ipis", "finished")


def process_state(pid: int) -> tuple[str, int]:
    """State letter and processor time in ticks of a process; ("X", 0) if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[11]) + int(fields[12])


class Watchdog:
    """Looks at a machine now and then; `stuck` once nothing has moved for `patience` seconds of looks."""

    def __init__(self, views: Mapping[str, Any], patience: float) -> None:
        self._views = views
        self._looks = max(2, round(patience / LOOK_SECONDS))
        self._last_look = 0.0
        self._seen: np.ndarray | None = None
        self._still = 0
        self._started: dict[int, int] = {}

    def _figures(self) -> np.ndarray:
        cpu, rcu = self._views["cpu"], self._views["rcu"]
        parts = [cpu[name] for name in _COUNTERS]
        return np.concatenate([*parts, rcu["gp_seq"], rcu["gp_completed"], rcu["remote_flushes"]])

    def look(self, pids: Sequence[int]) -> bool:
        """Look, at most every LOOK_SECONDS; True once the machine stands still. `pids` have not ended."""
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return False
        self._last_look = now
        figures = self._figures()
        if self._seen is None or not np.array_equal(figures, self._seen):
            self._seen, self._still = figures, 0
            return False
        states = {pid: process_state(pid) for pid in pids}
        self._still += 1
        if self._still == 1:
            self._started = {pid: ticks for pid, (_, ticks) in states.items()}
        if self._still < self._looks:
            return False
        return all(state != "R" or ticks > self._started.get(pid, ticks) for pid, (state, ticks) in states.items())
