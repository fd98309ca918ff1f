"""A machine that stands still: seen from outside, without a false alarm on a busy host.

A process does not move if, look after look, none of its counters has changed although it was asleep, stopped, or had
processor time: one that waits for a processor is not stuck. A CPU stands still for good if it waits for something, and
neither it nor anybody it waits for, directly or through others, moves. If nobody moves at all, all do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emulator.mm_types import Geometry
from workers.postmortem import owners

LOOK_SECONDS = 0.05
_COUNTERS = ("pc", "insns", "faults", "zapped", "tables_freed", "tlb_misses", "ipis", "finished")
_COORDINATOR = ("gp_seq", "gp_completed", "remote_flushes")


def process_state(pid: int) -> tuple[str, int]:
    """State letter and processor time in ticks of a process; ("X", 0) if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[11]) + int(fields[12])


class Watchdog:
    """Looks at a machine now and then, and finds the CPUs that stand still for `patience` seconds of looks."""

    def __init__(self, views: Mapping[str, Any], geometry: Geometry, patience: float) -> None:
        self._views, self._geometry = views, geometry
        self._looks = max(2, round(patience / LOOK_SECONDS))
        self._last_look = 0.0
        self._seen = self._figures()
        self._still = np.zeros(geometry.cpus + 1, np.int64)  # looks without a change, the coordinator's last
        self._ticks = np.zeros(geometry.cpus + 1, np.int64)  # processor time when that began

    def _figures(self) -> np.ndarray:
        """One row per process: its counters, summed; they only grow, but for pc."""
        cpu, rcu = self._views["cpu"], self._views["rcu"]
        figures = np.stack([cpu[name] for name in _COUNTERS], axis=1)
        figures[self._geometry.cpus, :3] = [int(rcu[name][0]) for name in _COORDINATOR]
        return figures

    def look(self, pids: Sequence[int]) -> list[int]:
        """Look, at most every LOOK_SECONDS: the CPUs that stand still for good. `pids`: the coordinator last."""
        now = time.monotonic()
        if now - self._last_look < LOOK_SECONDS:
            return []
        self._last_look = now
        figures = self._figures()
        moved = (figures != self._seen).any(axis=1)
        self._seen = figures
        self._still = np.where(moved, 0, self._still + 1)
        for number in np.flatnonzero(self._still == 1).tolist():
            self._ticks[number] = process_state(pids[number])[1]
        if self._still[:-1].max() < self._looks:
            return []
        return self._stuck(pids)

    def _stuck(self, pids: Sequence[int]) -> list[int]:
        """Those that do not move, less those that wait for somebody who does."""
        cpus = self._geometry.cpus
        finished = self._views["cpu"]["finished"]
        waits = self._views["cpu"]["waits_for"]
        stuck = set()
        for number in np.flatnonzero(self._still >= self._looks).tolist():
            state, ticks = process_state(pids[number])
            if state != "R" or ticks > self._ticks[number]:
                stuck.add(number)
        everybody = all(number in stuck or finished[number] for number in range(cpus)) and cpus in stuck
        while not everybody:
            free = {n for n in stuck if any(o not in stuck for o in owners(self._views, self._geometry, n) if o >= 0)}
            if not free:
                break
            stuck -= free
        return sorted(n for n in stuck if n < cpus and not finished[n] and (everybody or waits[n] != 0))
