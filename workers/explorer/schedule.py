"""Schedules as text: where an execution departs from the natural order, in names that survive edits elsewhere.

The natural order: a task goes on until it has to wait or is done, then the first one that can move. A schedule lists
the departures, oldest first:

    0@pmd_install/ptdesc.pte_refcount.1=1,1@set_pte/entry.2=0

"when CPU 0 is about to make its 1st access to ptdesc.pte_refcount in pmd_install, CPU 1 goes on. When CPU 1 is about to
make its 2nd access to entry in set_pte, CPU 0 does". Tasks are CPU numbers, `c` the coordinator, `b0` the store buffer
of CPU 0. Under pso `b0:entry.7` is its store to one word, and under arm `l0:entry.7` its loads of one word.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from emulator.engines.access_log import KIND_BIT, KIND_MASK, LOOK, MB, READ, WORD_MASK
from emulator.engines.explore import Task, World
from workers.explorer.chance import Chance
from workers.explorer.search import carry_on
from workers.explorer.tracer import Words, kernel_frames

_SWITCH = re.compile(r"^(?P<task>[^@,=]+)@(?P<place>[^@,=]+)\.(?P<nth>[1-9]\d{0,17})=(?P<to>[^@,=]+)$")
_ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}


def frames_of(task: Task) -> FrameType:
    """Where a task stands."""
    return task.green.gr_frame or sys._getframe()  # None for the one that runs


class DoesNotFit(Exception):
    """A schedule that is no schedule, or not one of this program; the text says why."""


@dataclass(frozen=True)
class Switch:
    """When `task` is about to make its nth access at `place` (function/field), `to` takes the next step instead."""

    task: str
    place: str
    nth: int
    to: str

    def __str__(self) -> str:
        return f"{self.task}@{self.place}.{self.nth}={self.to}"

    def describe(self) -> str:
        """The switch as a sentence."""
        function, _, field = self.place.partition("/")
        nth = _ORDINALS.get(self.nth, f"{self.nth}th")
        return f"{spoken(self.task)} is about to make its {nth} access to {field or 'memory'} in {function}"


def spoken(task: str) -> str:
    """The name of a task in a sentence."""
    if task == "c":
        return "the coordinator"
    if task.startswith("l"):
        cpu, _, word = task[1:].partition(":")
        return f"the load queue of CPU {cpu} ({word})"
    if task.startswith("b"):
        cpu, _, word = task[1:].partition(":")
        return f"the store buffer of CPU {cpu}" + (f" ({word})" if word else "")
    return f"CPU {task}"


def parse(text: str) -> list[Switch]:
    """The switches of a schedule. Raises DoesNotFit."""
    switches = []
    for word in filter(None, text.split(",")):
        match = _SWITCH.match(word)
        if match is None:
            raise DoesNotFit(f"'{word}' is no switch; known: TASK@FUNCTION/FIELD.NTH=TASK, separated by commas")
        switches.append(Switch(match["task"], match["place"], int(match["nth"]), match["to"]))
    return switches


class Places:
    """Names tasks and what they are about to do, while an execution runs."""

    def __init__(self, world: World, coordinator: int) -> None:
        self.world, self.coordinator = world, coordinator
        self.words = Words(world)
        self.passed: Counter[tuple[str, str]] = Counter()

    def name(self, task: Task) -> str:
        """The name of a task."""
        if task.green is not None:
            return "c" if task.number == self.coordinator else str(task.number)
        buffers = self.world.buffers
        word, size = next((w, s) for (_, w, s), number in buffers.numbers.items() if number == task.number)
        field, index = self.words.name(word)
        owner = "c" if task.owner == self.coordinator else str(task.owner)
        if task.number in buffers.queues:
            return f"l{owner}:{field}.{index}"
        return f"b{owner}:{field}.{index}" + (f"+{size}" if size > 1 else "") if buffers.pso else f"b{owner}"

    def place(self, task: Task) -> str:
        """Function and field of the access that a task is about to make."""
        kind = task.pending & KIND_MASK << KIND_BIT
        field = "" if kind in (MB, LOOK) else self.words.name(task.pending & WORD_MASK)[0]
        if task.green is None:
            return f"{'load' if kind == READ else 'commit'}/{field}"
        function = next((frame.f_code.co_name for frame in kernel_frames(frames_of(task))), "body")
        return f"{function}/{field}"

    def take(self, task: Task) -> None:
        """The task makes that access."""
        self.passed[self.name(task), self.place(task)] += 1

    def switch(self, task: Task, to: Task) -> Switch:
        """The switch that sends `to` ahead of `task` here."""
        name, place = self.name(task), self.place(task)
        return Switch(name, place, self.passed[name, place] + 1, self.name(to))


class Described(Chance):
    """The choices of one execution, one per step, again; `switches` and `preemptions` say how they depart."""

    def __init__(self, choices: Sequence[int], places: Places) -> None:
        self.choices, self.places = choices, places
        self.switches: list[Switch] = []
        self.preemptions = 0

    def begin(self) -> None:
        """Nothing was passed yet."""
        self.places.passed.clear()
        self.switches, self.preemptions = [], 0

    def choose(self, world: World) -> int:
        """The recorded task; -1 behind the last, or if it cannot move."""
        movable = world.movable()
        world.until = world.count + 1
        if world.count >= len(self.choices) or self.choices[world.count] not in movable:
            return -1
        wanted, natural = self.choices[world.count], carry_on(world, movable)
        if wanted != natural:
            self.switches.append(self.places.switch(world.tasks[natural], world.tasks[wanted]))
            if world.count and natural == world.current.number and world.tasks[wanted].green is not None:
                self.preemptions += 1
        self.places.take(world.tasks[wanted])
        return wanted

    def end(self, world: World, log: object) -> bool:
        """Once is enough."""
        return False


class Scheduled(Chance):
    """The natural order, but for the switches of a schedule. `unused` are those that were not come to."""

    def __init__(self, switches: Sequence[Switch], places: Places) -> None:
        self.switches, self.places = list(switches), places
        self.unused: list[Switch] = []
        self.stuck: Switch | None = None  # came up, and its task could not move

    def begin(self) -> None:
        """All are still to come."""
        self.places.passed.clear()
        self.unused, self.stuck = list(self.switches), None

    def choose(self, world: World) -> int:
        """The natural task, or the one of the next switch if this is its place."""
        movable = world.movable()
        world.until = world.count + 1
        chosen = carry_on(world, movable)
        while self.unused:
            task = world.tasks[chosen]
            name, place = self.places.name(task), self.places.place(task)
            nth = self.places.passed[name, place] + 1
            if (name, place, nth) != (self.unused[0].task, self.unused[0].place, self.unused[0].nth):
                break
            switch = self.unused.pop(0)
            to = [number for number in movable if self.places.name(world.tasks[number]) == switch.to]
            if not to:
                self.stuck = self.stuck or switch
                break
            chosen = to[0]
        self.places.take(world.tasks[chosen])
        return chosen

    def end(self, world: World, log: object) -> bool:
        """Once is enough."""
        return False

    def misfit(self) -> str | None:
        """Why the schedule is not one of this execution, or None if all of it was used."""
        if self.stuck is not None:
            return f"{self.stuck.describe()}, but {spoken(self.stuck.to)} cannot move there"
        if self.unused:
            return f"it never comes to where {self.unused[0].describe()}"
        return None
