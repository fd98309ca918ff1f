"""A machine that stands still: seen from outside, without a false alarm on a busy host.

A process does not move if, look after look, none of its counters has changed although it had its chance. It was asleep
or stopped, or has had processor time since the look before. One that waits for a processor, or for memory that was
swapped out, is slow and not stuck; a look at it counts for nothing. One that computes, and waits for nothing it has
named, may be in a long instruction that moves no counter. It gets ten times the patience.

A CPU stands still for good if it waits for something, and neither it nor anybody it waits for, directly or through
others, moves. If nobody moves at all, all do. It must be found so twice, with a chance in between. A process that was
let go just before the first look has not run yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import Geometry
from workers.telling.waits import owners

LOOK_SECONDS = 0.05
CHANCE_SECONDS = 0.001  # of processor time: a process that had it could have moved
COMPUTING = 0.1  # what a look at a process counts that computes
_COUNTERS = ("pc", "insns", "faults", "zapped", "tables_freed", "tlb_misses", "ipis", "finished")
_COORDINATOR = ("gp_seq", "gp_completed", "remote_flushes", "freed", "ipis")


def process_seconds(pid: int) -> float:
    """Processor time a process has used. Raises OSError if it is gone."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process


def process_state(pid: int) -> tuple[str, float]:
    """State letter of a process, and processor time in seconds; ("X", 0) if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], process_seconds(pid)
    except OSError:
        return "X", 0.0


class Watchdog:
    """Looks at a machine now and then, and finds the CPUs that stand still for `patience` seconds of looks."""

    def __init__(self, views: Mapping[str, Any], geometry: Geometry, patience: float) -> None:
        self._views, self._geometry = views, geometry
        self._looks = max(2, round(patience / LOOK_SECONDS))
        self._last_look = 0.0
        self._seen = self._figures()
        self._moved_at = np.full(geometry.cpus + 1, time.monotonic())
        self._still = np.zeros(geometry.cpus + 1)  # looks that count, without a change; the coordinator's last
        self._had = np.zeros(geometry.cpus + 1)  # processor time at the last look that counted
        self._suspects: dict[int, float] = {}  # found to stand still, and their looks then

    def _figures(self) -> np.ndarray:
        """One row per process: its counters; they only grow, but for pc."""
        cpu, rcu = self._views["cpu"], self._views["rcu"]
        figures = np.stack([cpu[name] for name in _COUNTERS], axis=1)
        figures[self._geometry.cpus, : len(_COORDINATOR)] = [int(rcu[name][0]) for name in _COORDINATOR]
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
        self._still[moved], self._moved_at[moved] = 0, now
        for number, pid in enumerate(pids):
            if not moved[number]:
                self._count(number, *process_state(pid))
        stuck = self._stuck() if self._still[:-1].max() >= self._looks else []
        self._suspects = {cpu: self._suspects.get(cpu, self._still[cpu]) for cpu in stuck}
        return [cpu for cpu, looks in self._suspects.items() if self._still[cpu] > looks]

    def _count(self, number: int, state: str, seconds: float) -> None:
        """Enter a look at a process that has not moved: the first notes its processor time, later ones ask for more."""
        if self._still[number] == 0:
            self._still[number], self._had[number] = COMPUTING, seconds
        elif state not in ("R", "D"):
            self._still[number] += 1
        elif seconds > self._had[number] + CHANCE_SECONDS:
            cpu = self._views["cpu"][number]
            self._still[number] += COMPUTING if cpu["waits_for"] == 0 and number < self._geometry.cpus else 1
            self._had[number] = seconds

    def quiet_seconds(self, cpu: int) -> float:
        """How long no counter of a CPU has changed, whether or not it had its chance."""
        return float(self._last_look - self._moved_at[cpu])

    def _stuck(self) -> list[int]:
        """Those that do not move, less those that wait for one that does."""
        cpus = self._geometry.cpus
        finished = self._views["cpu"]["finished"]
        waits = self._views["cpu"]["waits_for"]
        stuck = set(np.flatnonzero(self._still >= self._looks).tolist())
        everybody = all(number in stuck or finished[number] for number in range(cpus)) and cpus in stuck
        while not everybody:
            free = {n for n in stuck if any(o not in stuck for o in owners(self._views, self._geometry, n) if o >= 0)}
            if not free:
                break
            stuck -= free
        return sorted(n for n in stuck if n < cpus and not finished[n] and (everybody or waits[n] != 0))
