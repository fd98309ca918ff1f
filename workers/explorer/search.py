"""Strategies of the explorer: which interleavings are run, and when all that differ have been.

A strategy is asked which task takes the next step (`choose`). It is told when an execution is over (`end`, False once
nothing is left to run). It sets `world.until`, the number of steps up to which it need not be asked again.

The systematic search runs the program again and again from the start, each time along a path of choices with one choice
that is new. It tries another task at a step only if that can matter; partial_order.py says where. Sleep sets keep it
from coming to the same order twice.

Source: partial_order.py for the search; Burckhardt et al., ASPLOS 2010 (PCT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from emulator import lazy_numpy as np
from emulator.engines import partial_order
from emulator.engines.access_log import COUNT_BIT, COUNT_MASK, KIND_BIT, KIND_MASK, TASK_BIT, WORD_MASK
from emulator.engines.explore import MAX_STEPS, MAX_TASKS, NEVER, World
from emulator.engines.partial_order import CHOSEN, NOTHING, S_FROM, S_TASK, S_TO, effect

EFFECTS = [int(effect.py_func(kind)) for kind in range(1 << TASK_BIT - KIND_BIT)]  # by kind of access


class Strategy(Protocol):
    """What the explorer asks."""

    def begin(self) -> None:
        """Start an execution."""

    def choose(self, world: World) -> int:
        """The task that takes the next step, -1 to end."""

    def end(self, world: World, log: np.ndarray) -> bool:
        """Learn from the execution; False once nothing is left to run."""

    @property
    def verdict(self) -> str:
        """What it means that nothing is left to run."""

    def covered(self) -> float:
        """The share of the search that is done, 0 to 1; 0 if there is no end to it."""


def carry_on(world: World, movable: list[int]) -> int:
    """What every strategy does if it has no reason to do otherwise: on with the task that ran, or else the first.

    A task that waits for its own store buffer comes after it.
    """
    current = world.current.number
    if current in movable:
        return current
    if world.buffers is None:
        return movable[0]
    needed = [number for number in movable if not world.tasks[number].optional] or movable
    if world.current.ready is not None:
        needed = [number for number in needed if world.tasks[number].owner == current] or needed
    return min(needed, key=lambda number: world.tasks[number].place)


def tasks_of(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """What reads a log must know of the tasks.

    That is what each is about to do, what came from store buffers and when it was made, and which steps wait for which.
    Then come whose buffer each is, and how many are no buffers.
    """
    pending = np.array([-1 if task.optional else task.pending for task in world.tasks])
    owner = np.array([task.owner for task in world.tasks])
    commits = np.array(world.buffers.commits if world.buffers is not None else [], np.int64).reshape(-1, 3)
    edges = np.array(sorted(world.edges), np.int64).reshape(-1, 2)
    return pending, commits, edges, owner, int((owner == np.arange(len(owner))).sum())


class Footprint:
    """The words that a step loads, adds to and stores to, its plain accesses included."""

    __slots__ = ("adds", "loads", "stores")

    def __init__(self, entries: Iterable[int], task: int) -> None:
        self.loads: set[int] = set()
        self.adds: set[int] = set()
        self.stores: set[int] = set()
        sets = (self.loads, self.adds, self.stores)
        for entry in entries:
            mine = EFFECTS[entry >> KIND_BIT & KIND_MASK]
            if entry >> TASK_BIT == task and mine != NOTHING:
                first = entry & WORD_MASK
                sets[mine].update(range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1))

    def clashes(self, other: Footprint) -> bool:
        """True if the two steps do not commute."""
        return not (
            self.stores.isdisjoint(other.stores)
            and self.stores.isdisjoint(other.loads)
            and self.stores.isdisjoint(other.adds)
            and self.adds.isdisjoint(other.stores)
            and self.adds.isdisjoint(other.loads)
            and self.loads.isdisjoint(other.stores)
            and self.loads.isdisjoint(other.adds)
        )


class Search:
    """Depth-first over all interleavings that differ, or all with at most `bound` preemptions.

    `reduce` False tries every task at every step: the plain search that the reduction is measured against.
    `is_target(world)` says whether a preemption is wanted where the current task stands; then all of them are tried.
    """

    def __init__(
        self, bound: int | None = None, reduce: bool = True, is_target: Callable[[World], bool] | None = None
    ) -> None:
        self.bound, self.is_target = bound, is_target
        self.reduce = reduce and is_target is None  # the reduction goes from race to race, also through other places
        self.bounded = False  # True once the bound kept something out
        self.executions = 0
        self._path = np.zeros((MAX_STEPS + MAX_TASKS + 1, 8), np.int64)
        self._steps = np.zeros((MAX_STEPS + MAX_TASKS + 1, 7), np.int64)
        self._races = np.zeros((4 * MAX_STEPS, 3), np.int64)
        self._scratch: tuple[int, Any, Any, Any] = (0, None, None, None)
        self._kept = 0  # steps that are the path's choice, not ours
        self._blocks: list[tuple[int, int]] = []  # of the path: task, and the step at which the next one begins
        self._sleep: dict[int, Footprint] = {}  # task -> its next step, which has been tried
        self._sleeps: list[int] = []  # the same as masks, for each new step
        self._asleep: dict[int, dict[int, Footprint]] = {}  # step of the path -> which tasks slept there
        self._tried: dict[int, dict[int, Footprint]] = {}  # step of the path -> what was tried there
        self._allowed: list[bool] = []  # is_target of each new step
        self._seen = 0  # of the log
        self._uses_sleep = bound is None and self.reduce

    def begin(self) -> None:
        """Start an execution."""
        chosen = self._path[: self._kept, CHOSEN]
        ends = [*(np.flatnonzero(chosen[1:] != chosen[:-1]) + 1).tolist(), self._kept]
        self._blocks = [(int(chosen[end - 1]), end) for end in ends] if self._kept else []
        self._blocks.reverse()
        self._sleep, self._sleeps, self._allowed, self._seen = {}, [], [], 0

    def choose(self, world: World) -> int:
        """Along the path, then on with the current task unless it is asleep."""
        at = world.count
        if at < self._kept:
            while self._blocks[-1][1] <= at:
                self._blocks.pop()
            task, world.until = self._blocks[-1]
            if self._uses_sleep:
                if at == self._kept - 1:
                    self._sleep = {**self._asleep.get(at, {}), **self._tried.get(at, {})}
                    self._seen = len(world.log)
                elif world.until == self._kept:
                    world.until -= 1
            return task
        movable = world.movable()
        if self._sleep:
            self._wake(world)
        if not self._sleep:
            world.until = NEVER
            if self.is_target is not None:
                self._allowed.append(self.is_target(world))
                world.until = at + 1
            return carry_on(world, movable)
        awake = [task for task in movable if task not in self._sleep]
        if not awake:
            return -1  # all it could do has been done
        self._asleep[at] = dict(self._sleep)
        self._sleeps.append(sum(1 << task for task in self._sleep))
        world.until = at + 1
        return carry_on(world, awake)

    def _wake(self, world: World) -> None:
        """A task that does not commute with the step that was taken has something new to try."""
        entries = [entry for entry in world.log[self._seen :] if EFFECTS[entry >> KIND_BIT & KIND_MASK] != NOTHING]
        if entries:
            step = Footprint(entries, entries[0] >> TASK_BIT)
            self._sleep = {task: one for task, one in self._sleep.items() if not one.clashes(step)}
        self._seen = len(world.log)

    def end(self, world: World, log: np.ndarray) -> bool:
        """Learn from an execution, and from what was about to happen at its end; False once nothing is left to run."""
        self.executions += 1
        left = self._learn(world, log, self.reduce)
        self.bounded |= left < 0
        self._kept = abs(left) if abs(left) < NEVER else 0
        if self._uses_sleep and self._kept:
            self._remember(log)
        return self._kept > 0

    def _learn(self, world: World, log: np.ndarray, reduce: bool) -> int:
        """Enter an execution into the path; what `learn` says."""
        tasks = len(world.tasks)
        if self._scratch[0] != tasks:
            words = np.zeros((len(world.mem), 1 + 3 * tasks), np.int64)
            clocks, reach = (np.zeros((rows, tasks), np.int64) for rows in (MAX_STEPS + MAX_TASKS + 1, MAX_STEPS))
            self._scratch = (tasks, words, clocks, reach)
        _, words, after, reach = self._scratch
        pending, commits, edges, owner, cpus = tasks_of(world)
        left: int = partial_order.learn(
            log,
            pending,
            commits,
            edges,
            owner,
            cpus,
            self._path,
            self._kept,
            np.array(self._sleeps, np.int64),
            np.array(self._allowed, np.int64),
            words,
            self.executions * MAX_STEPS * 2,
            self._steps,
            after,
            self._races,
            reach,
            -1 if self.bound is None else self.bound,
            reduce,
            world.buffers is not None,
        )
        return left

    def _remember(self, log: np.ndarray) -> None:
        """What the step was that is now done otherwise."""
        at = self._kept - 1
        for known in (self._asleep, self._tried):
            for later in [step for step in known if step > at]:
                del known[later]
        task, start, stop = (int(self._steps[at, column]) for column in (S_TASK, S_FROM, S_TO))
        self._tried.setdefault(at, {})[task] = Footprint(log[start:stop].tolist(), task)

    @property
    def verdict(self) -> str:
        """Complete, or complete within the bound."""
        return f"pass (bound {self.bound} complete)" if self.bounded else "pass (complete)"

    def covered(self) -> float:
        """An estimate of the share of the search that is done, 0 to 1."""
        return float(partial_order.covered(self._path, self._kept))


class Deepening:
    """Systematic searches with more and more preemptions, until nothing is kept out or `most` is reached.

    `executions` has an entry per bound, the last one still under way.
    """

    def __init__(self, most: int | None = None, is_target: Callable[[World], bool] | None = None) -> None:
        self.most, self.is_target = most, is_target
        self._now = Search(0, is_target=is_target)
        self.completed = -1  # the bound that is done
        self.executions = [0]

    def begin(self) -> None:
        """Start an execution."""
        self._now.begin()

    def choose(self, world: World) -> int:
        """As the search under way."""
        return self._now.choose(world)

    def end(self, world: World, log: np.ndarray) -> bool:
        """On with the next bound when one is done."""
        self.executions[-1] += 1
        if self._now.end(world, log):
            return True
        self.completed = self._now.bound or 0
        if not self._now.bounded or self.completed == self.most:
            return False
        self._now = Search(self.completed + 1, is_target=self.is_target)
        self.executions.append(0)
        return True

    @property
    def verdict(self) -> str:
        """Complete, or complete within the bound."""
        return self._now.verdict

    def covered(self) -> float:
        """Of the bound under way."""
        return self._now.covered()


class InTurn:
    """Several strategies, one execution each in turn, until one of them is done; the first is to be reported on."""

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self.first = self.decisive = strategies[0]
        self._all = strategies
        self._turn = -1

    def begin(self) -> None:
        """The next one's turn."""
        self._turn = (self._turn + 1) % len(self._all)
        self._all[self._turn].begin()

    def choose(self, world: World) -> int:
        """As the one whose turn it is."""
        return self._all[self._turn].choose(world)

    def end(self, world: World, log: np.ndarray) -> bool:
        """Whether that one is done."""
        self.decisive = self._all[self._turn]
        return self.decisive.end(world, log)

    @property
    def verdict(self) -> str:
        """Of the one that is done."""
        return self.decisive.verdict

    def covered(self) -> float:
        """Of the first."""
        return self.first.covered()
