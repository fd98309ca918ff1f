"""Strategies that draw lots, and those that follow a given order: none of them comes to an end by itself.

Source: Burckhardt et al., ASPLOS 2010 (PCT).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from emulator import lazy_numpy as np
from emulator.engines.access_log import WORD_MASK
from emulator.engines.explore import NEVER, World
from workers.explorer.search import carry_on


class Chance:
    """Strategies that never come to an end."""

    verdict = "inconclusive"

    def covered(self) -> float:
        """There is always more."""
        return 0.0


class RandomWalk(Chance):
    """Any task that can move, with equal chances, at each step."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def begin(self) -> None:
        """Start an execution."""

    def choose(self, world: World) -> int:
        """One of them."""
        world.until = world.count + 1
        return self._random.choice(world.movable())

    def end(self, world: World, log: np.ndarray) -> bool:
        """There is always another walk."""
        return True


class Pct(Chance):
    """Random priorities, lowered at d - 1 random steps: finds a bug of depth d with probability 1/(n k^(d-1)).

    n tasks, k steps at which a change can matter: those on words that `is_shared` says more than one task accesses.
    Each execution has that chance, whatever the program.
    """

    def __init__(
        self, seed: int, depth: int = 3, length: int = 30, is_shared: Callable[[int], bool] = lambda word: True
    ) -> None:
        self._random = random.Random(seed)
        self.depth, self.length, self.is_shared = depth, length, is_shared
        self._priority: dict[int, float] = {}
        self._changes: list[int] = []
        self._passed = 0  # steps on shared words

    def begin(self) -> None:
        """Draw change points; priorities are drawn when a task is first seen."""
        self._priority = {}
        points = {self._random.randrange(max(1, self.length)) for _ in range(self.depth - 1)}
        self._changes = sorted(points, reverse=True)
        self._passed = 0

    def choose(self, world: World) -> int:
        """The one of the highest priority; a change point lowers the current one below all others."""
        movable = world.movable()
        for task in movable:
            self._priority.setdefault(task, 1 + self._random.random())
        world.until = world.count + 1
        chosen = max(movable, key=self._priority.__getitem__)
        if self.is_shared(world.tasks[chosen].pending & WORD_MASK):
            self._passed += 1
            if self._changes and self._changes[-1] < self._passed:
                self._priority[chosen] = -float(self._changes.pop()) - 1
                chosen = max(movable, key=self._priority.__getitem__)
        return chosen

    def end(self, world: World, log: np.ndarray) -> bool:
        """Learn how long executions are."""
        self.length = max(self.length, self._passed)
        return True

    def chance(self, tasks: int) -> float:
        """The least probability with which one execution finds a bug of this depth."""
        return 1.0 / (tasks * self.length ** (self.depth - 1))


class Follow(Chance):
    """The choices of one execution, one per step, again; then on with the current task if `further`."""

    def __init__(self, choices: Iterable[int], further: bool = True) -> None:
        self.choices, self.further = list(choices), further

    def begin(self) -> None:
        """Nothing to prepare."""

    def choose(self, world: World) -> int:
        """The recorded task; -1, which ends the execution, if it cannot move."""
        movable = world.movable()
        if world.count < len(self.choices):
            world.until = world.count + 1
            wanted = self.choices[world.count]
            return wanted if wanted in movable else -1
        world.until = NEVER
        return carry_on(world, movable) if self.further else -1

    def end(self, world: World, log: np.ndarray) -> bool:
        """Once is enough."""
        return False
