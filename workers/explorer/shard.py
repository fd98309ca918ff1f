"""Shards of one systematic search: each is what lies below a prefix of choices, and can be searched anywhere.

What was tried before at a step of the prefix is its sleep set. The steps of those tasks need not come first again until
something clashes with them. A shard makes them once, to see what they touch.

A shard whose budget is spent hands back what is left of it. Races below a prefix may also ask for another task in the
midst of the prefix. That is handed back, too, since other shards may ask for the same. `Frontier` (prefix.py) knows
what was begun, so that no task is tried twice at one place. What is begun first is asleep for what is begun later,
wherever both run.

Source: Godefroid, Partial-Order Methods, 1996 (sleep sets); Abdulla et al., POPL 2014 (source sets).
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator import lazy_numpy as np
from emulator.engines import partial_order
from emulator.engines.explore import World, world
from emulator.engines.partial_order import CHOSEN, DONE, S_FROM, S_TASK, S_TO, SLEEP, SPENT, TODO
from workers.explorer.chance import Follow
from workers.explorer.explored_machine import ExploredMachine
from workers.explorer.hunt import Budget, Progress, Verdict, search
from workers.explorer.prefix import Open, Step, spell, tasks_in
from workers.explorer.search import Footprint, Search, tasks_of

_ALL = (1 << 62) - 1


class Shard(Search):
    """The search below a prefix. Raises ValueError if the program cannot go that way."""

    def __init__(self, machine: ExploredMachine, prefix: Sequence[Step], bound: int | None = None) -> None:
        super().__init__(bound)
        self.prefix = list(prefix)
        self._cpus = 0
        if self.prefix:
            self._go(machine)

    def _go(self, machine: ExploredMachine) -> None:
        """Enter the prefix into the path, as if the search had come to its end by itself."""
        choices, end = [step.task for step in self.prefix], len(self.prefix) - 1
        sleep: dict[int, Footprint] = {}
        sleeps = [0] * len(choices)
        if self._uses_sleep:
            own = self._footprints(machine, choices, 0)
            for at, (_, earlier) in enumerate(self.prefix):
                sleeps[at] = sum(1 << task for task in sleep)
                before = {task: self._footprints(machine, [*choices[:at], task], at)[0] for task in tasks_in(earlier)}
                if at == end:
                    self._asleep[at], self._tried[at] = sleep, before
                sleep = {task: one for task, one in {**sleep, **before}.items() if not one.clashes(own[at])}
        machine.execute(Follow(choices, further=False))
        self._check(machine, choices)
        self._learn(world, machine.log, False)
        for at, (task, earlier) in enumerate(self.prefix):
            self._path[at, CHOSEN], self._path[at, TODO] = task, 1 << task | earlier
            self._path[at, DONE] = _ALL  # nothing is tried here; what is asked for is handed back
            self._path[at, SLEEP] = sleeps[at]
        self._kept = len(choices)

    def _footprints(self, machine: ExploredMachine, choices: Sequence[int], since: int) -> list[Footprint]:
        """What the steps of some choices touch, from step `since` on."""
        machine.execute(Follow(choices, further=False))
        self._check(machine, choices)
        pending, commits, _, _, cpus = tasks_of(world)
        partial_order.parse(machine.log, pending, commits, cpus, False, self._steps)
        rows = self._steps[since : len(choices)].tolist()
        return [Footprint(machine.log[row[S_FROM] : row[S_TO]].tolist(), row[S_TASK]) for row in rows]

    def _check(self, machine: ExploredMachine, choices: Sequence[int]) -> None:
        if machine.choices() != list(choices):
            raise ValueError(f"the program cannot go the way of {spell(self.prefix)}")

    def end(self, world: World, log: np.ndarray) -> bool:
        """As Search."""
        self._cpus = tasks_of(world)[4]
        return super().end(world, log)

    @property
    def is_complete(self) -> bool:
        """True if nothing is left below the prefix."""
        return self.executions > 0 and self._kept == 0

    def left(self) -> tuple[list[Step], list[Open]]:
        """What is left: the way to the latest place, and the places on it that have something to be tried.

        Of the prefix that is what the executions below have asked for.
        """
        path, found = self._path, []
        steps = list(self.prefix)
        for at in range(len(steps), self._kept):
            task = int(path[at, CHOSEN])
            steps.append(Step(task, int(path[at, DONE]) & ~(1 << task)))
        for at, (task, earlier) in enumerate(steps):
            is_next = at == self._kept - 1 and at >= len(self.prefix)  # this task was chosen, and has not been begun
            begun = earlier if is_next else earlier | 1 << task
            wanted = int(path[at, TODO]) & ~begun & ~int(path[at, SLEEP])
            wanted = sum(1 << one for one in tasks_in(wanted) if self._affords(at, one))
            if wanted:
                found.append(Open(at, begun, wanted))
        return steps, found

    def _affords(self, at: int, task: int) -> bool:
        """True if the bound lets a task be tried at a step."""
        if self.bound is None:
            return True
        spent = int(self._path[at, SPENT]) + int(partial_order.cost.py_func(self._path, at, task, self._cpus))
        self.bounded |= spent > self.bound
        return spent <= self.bound


def search_below(machine: ExploredMachine, shard: Shard, budget: Budget, progress: Progress) -> Verdict:
    """Run executions of a shard until one fails, nothing is left below it, or the budget is spent."""
    return search(machine, lambda: shard, budget, progress)
