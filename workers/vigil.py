"""Waiting for processes without waiting for ever: a process that is stopped, or sleeps without an end, is named.

A process that was stopped, itself or one below it, does not come to its end by itself. Nor does one whose whole family
has had no processor time. Time is counted in looks, so what stops the waiting process as well does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from workers.telling.postmortem import MachineFailed
from workers.watchdog import process_state

LOOK_SECONDS = 0.2
STOPPED_SECONDS = 10.0  # of looks at a process that is stopped
ASLEEP_SECONDS = 300.0  # of looks at a family that sleeps
_STOPPED = ("T", "t")


def children(pid: int) -> list[int]:
    """The processes that a process has forked, whichever thread of it."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # gone, or this kernel does not tell
        pass
    return found


def family(pid: int) -> Iterable[int]:
    """A process and all below it."""
    yield pid
    for child in children(pid):
        yield from family(child)


class Vigil:
    """Looks at processes somebody waits for; `names` says what each is for. Those that `may_sleep` are left in peace
    as long as they are not stopped."""

    def __init__(self, names: Mapping[int, str], every: float = LOOK_SECONDS, may_sleep: bool = False) -> None:
        self.names = dict(names)
        self._every, self._may_sleep = every, may_sleep
        self._looks: dict[int, int] = {}  # at a process that was stopped each time
        self._asleep: dict[int, tuple[float, int]] = {}  # processor time of a family, looks since it grew
        self._last = 0.0

    def look(self) -> None:
        """Look, at most as often as asked for. Raises MachineFailed, which names the process that should not be waited
        for.
        """
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        stopped: dict[int, int] = {}
        for pid, name in self.names.items():
            states = {one: process_state(one) for one in family(pid)}
            for one in (one for one, (state, _) in states.items() if state in _STOPPED):
                stopped[one] = self._looks.get(one, 0) + 1
                if stopped[one] * self._every >= STOPPED_SECONDS:
                    raise MachineFailed(_is_stopped(one, pid, name))
            if not self._may_sleep:
                self._look_for_sleep(pid, name, states)
        self._looks = stopped

    def _look_for_sleep(self, pid: int, name: str, states: Mapping[int, tuple[str, float]]) -> None:
        seconds = sum(had for _, had in states.values())
        before, looks = self._asleep.get(pid, (0.0, 0))
        awake = seconds != before or any(state in "RD" for state, _ in states.values())
        looks = 0 if awake else looks + 1
        self._asleep[pid] = seconds, looks
        if looks * self._every >= ASLEEP_SECONDS:
            raise MachineFailed(f"{name} (process {pid}) has slept for {ASLEEP_SECONDS:g} s without an end")

    def refuse_stopped(self) -> None:
        """Raises MachineFailed if one of the processes is stopped now."""
        for pid, name in self.names.items():
            if process_state(pid)[0] in _STOPPED:
                raise MachineFailed(_is_stopped(pid, pid, name))


def _is_stopped(one: int, pid: int, name: str) -> str:
    """That a process, `pid` or one below it, is stopped."""
    who = f"{name} (process {pid})" if one == pid else f"process {one}, which belongs to {name} (process {pid}),"
    return f"{who} is stopped, and nothing here will let it go on"
