"""Processes that are stopped at a point: when they go on, and what becomes of the machine when they do not.

A process that is killed, or stopped for longer than anybody waits, ends the run. The others are watched until they have
come to their end, stand still, or have gone on for long enough. What waits for what is noted. Then all are asked to
stop, and what is still in use once they have is lost.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from emulator.mm_types import Geometry
from emulator.program.insn import stop_machine
from emulator.watch.points import POINTS, point_number
from workers.instruments import Stop
from workers.telling.leaks import cut, leaks
from workers.telling.waits import flush_lines, grace_period_line, wait_lines
from workers.telling.whereabouts import Views, all_of, grouped, instruction, locks_held, place_of, several, who
from workers.watchdog import LOOK_SECONDS, Watchdog, process_state

LONGEST_STALL = 2.0  # seconds; a process that is to stand still for longer does not come back
AFTERMATH_SECONDS = 2.0  # how long the others are watched
STANDS_STILL_SECONDS = 0.5  # without movement, until one of them is said to stand still
SHOWN = 12  # CPUs, or groups of CPUs, that a verdict describes
REST_SECONDS = 0.5  # how long they may take to stop, then


class Stops:
    """The stops a run asked for: which process was hit, and when it goes on."""

    def __init__(self, views: Views, geometry: Geometry, stops: Sequence[Stop]) -> None:
        self._views, self._geometry, self._stops = views, geometry, stops
        self._since: dict[Stop, float] = {}  # when a process was seen stopped
        self._over: dict[Stop, float] = {}  # how long it stood still, once it goes on

    def was_hit(self, stop: Stop) -> bool:
        """True once the process has passed the point as often as asked for."""
        return int(self._views["point"]["countdown"][point_number(stop.point)]) <= 0

    def was_any_hit(self) -> bool:
        """True once some process was killed or stopped at its point."""
        return any(map(self.was_hit, self._stops))

    def killed(self) -> set[int]:
        """The processes that killed themselves, or are about to."""
        return {stop.cpu for stop in self._stops if stop.seconds is None and self.was_hit(stop)}

    def holding_up(self) -> bool:
        """True while a process stands still that will go on."""
        return any(stop.seconds is not None and self.was_hit(stop) and stop not in self._over for stop in self._stops)

    def look(self, processes: Sequence[Any]) -> list[Stop]:
        """Let processes go on whose time is over. Returns the stops that nobody waits out."""
        now, fatal = time.monotonic(), []
        for stop in self._stops:
            if stop in self._over or not self.was_hit(stop):
                continue
            process = processes[stop.cpu]
            if stop.seconds is None:
                if process.exitcode is not None:
                    fatal.append(stop)
            elif process_state(process.pid)[0] == "T":  # a SIGCONT before that would be lost
                if stop.seconds > LONGEST_STALL:
                    fatal.append(stop)
                elif now - self._since.setdefault(stop, now) >= stop.seconds:
                    os.kill(process.pid, signal.SIGCONT)
                    self._over[stop] = time.monotonic() - int(self._views["cpu"]["stalled_ns"][stop.cpu]) / 1e9
        return fatal

    def where(self, stop: Stop) -> str:
        """The point, its function, what holds there."""
        return f"{stop.point} ({POINTS[stop.point].where}: {POINTS[stop.point].holds})"

    def when(self, stop: Stop) -> str:
        """When the process got there, and at which pass."""
        ns = int(self._views["cpu"]["stalled_ns"][stop.cpu] - self._views["run"]["start_ns"][0])
        time_ = f"{ns / 1e6:.1f} ms after the start" if ns >= 0 else "before the start"
        return time_ if stop.nth == 1 else f"{time_}, at pass {stop.nth}"

    def stalls(self) -> list[str]:
        """What to say of the processes that stood still and went on."""
        return [
            f"{who(self._geometry, stop.cpu)} stood still for {seconds:.2f} s at {self.where(stop)}, {self.when(stop)}"
            for stop, seconds in self._over.items()
        ]

    def missed(self) -> list[str]:
        """For each stop, why it did not happen; empty if it did."""
        return ["" if self.was_hit(stop) else self._why_missed(stop) for stop in self._stops]

    def _why_missed(self, stop: Stop) -> str:
        passed = stop.nth - int(self._views["point"]["countdown"][point_number(stop.point)])
        how = "killed" if stop.seconds is None else "stopped"
        needs = POINTS[stop.point].needs
        if passed:
            why = f"it passed {stop.point} only {passed} of {stop.nth} times"
        else:
            why = f"it never passed {stop.point}" + (f", which needs {needs}" if needs else "")
        return f"{who(self._geometry, stop.cpu)} was not {how}: {why}"


class Aftermath:
    """What becomes of a machine some of whose processes were stopped for good."""

    def __init__(self, machine: Any, stops: Stops, fatal: Sequence[Stop]) -> None:
        self._machine, self._stops, self._fatal = machine, stops, fatal
        self._views, self._geometry = machine.views, machine.geometry
        self._fates = {stop.cpu: "dead" if stop.seconds is None else "stopped" for stop in fatal}
        self._others = [cpu for cpu in range(self._geometry.cpus) if cpu not in self._fates]
        self._watchdog = Watchdog(self._views, self._geometry, STANDS_STILL_SECONDS)
        self._stuck: list[int] = []

    def _left(self) -> list[int]:
        """The other CPUs that have not come to their end."""
        return [cpu for cpu in self._others if not self._views["cpu"]["finished"][cpu]]

    def verdict(self) -> str:
        """Watch, stop, and tell."""
        self._watch()
        head = [self._headline()]
        held_up = [cpu for cpu in self._left() if cpu in self._stuck or not self._moves(cpu)]
        head += [f"{who(self._geometry, number, self._fates)} {self._state(number)}" for number in self._fates]
        head += cut(grouped(self._geometry, {cpu: self._state(cpu) for cpu in held_up}), SHOWN)
        head += cut(wait_lines(self._views, self._geometry, held_up, self._fates), SHOWN)
        self._stop()
        report = (self._views, self._geometry, self._fates)
        lines = [*head, *grace_period_line(*report), *flush_lines(*report)]
        return "\n  ".join([*lines, *(f"leaked: {line}" for line in leaks(*report))])

    def _state(self, number: int) -> str:
        """Where a process stands, with what in hand; for the CPUs that were stopped the headline has the point."""
        place = place_of(self._views, self._geometry, number)
        if number in self._fates:
            place = "" if number == self._geometry.cpus else f"at {instruction(self._views, number)}"
        held = several(locks_held(self._views, number)) or "no lock"
        return f"{place + '; ' if place else ''}holds {held}"

    def _watch(self) -> None:
        """Until the others have finished, stand still, or have gone on for long."""
        deadline = time.monotonic() + AFTERMATH_SECONDS
        while (left := self._left()) and time.monotonic() < deadline and not self._views["run"]["bug"][0]:
            self._stops.look(self._machine.processes)
            stuck = self._watchdog.look(self._machine.pids)
            self._stuck = [cpu for cpu in stuck if cpu in left]
            if self._stuck == left:
                break
            time.sleep(LOOK_SECONDS)

    def _stop(self) -> None:
        """Ask those that can to stop at a boundary, and wait until they have."""
        stop_machine(self._machine.m, self._geometry.cpus)
        deadline = time.monotonic() + REST_SECONDS
        settled = Watchdog(self._views, self._geometry, 3 * LOOK_SECONDS)
        while time.monotonic() < deadline and not settled.look(self._machine.pids):
            time.sleep(LOOK_SECONDS)

    def _headline(self) -> str:
        """Which process was stopped where, and how the others took it."""
        hit = []
        for stop in self._fatal:
            how = "was killed"
            if stop.seconds is not None:
                how = f"was stopped for {stop.seconds:g} s (more than {LONGEST_STALL:g} are not waited for)"
            where, when = self._stops.where(stop), self._stops.when(stop)
            hit.append(f"{who(self._geometry, stop.cpu)} {how} at {where}, {when}")
        return "; ".join([*hit, *self._how_others_took_it()])

    def _how_others_took_it(self) -> list[str]:
        """One clause each for those that came to their end, stand still, go on, or have not moved without a reason."""
        left = self._left()
        clauses = {
            ("came to its end", "came to their end"): [cpu for cpu in self._others if cpu not in left],
            ("stands still", "stand still"): self._stuck,
            ("goes on", "go on"): [cpu for cpu in left if cpu not in self._stuck and self._moves(cpu)],
            ("has not moved since, and may be slow", "have not moved since, and may be slow"): [
                cpu for cpu in left if cpu not in self._stuck and not self._moves(cpu)
            ],
        }
        return [f"{all_of(self._geometry, cpus)} {verbs[len(cpus) > 1]}" for verbs, cpus in clauses.items() if cpus]

    def _moves(self, cpu: int) -> bool:
        return self._watchdog.quiet_seconds(cpu) < STANDS_STILL_SECONDS
