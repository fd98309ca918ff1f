"""Small programs searched as a whole and in shards: which executions each has run. A module for in_engine.

Two executions are the same if each task does the same, and dependent steps come in the same order. Within a bound each
order of steps is an execution of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from litmus import WORDS, fresh, random_program, task_body, unfinished

from emulator.engines.access_log import COUNT_BIT, COUNT_MASK, KIND_BIT, KIND_MASK, TASK_BIT, WORD_MASK
from emulator.engines.explore import world
from emulator.engines.partial_order import NOTHING, STORES, choices_of
from workers.explorer.prefix import Frontier, Step, parse
from workers.explorer.search import EFFECTS, Search, Strategy
from workers.explorer.shard import Shard

Found = Counter[Any]


class Small:
    """A machine of a few words."""

    def __init__(self, bodies: Callable[[Any], list[Callable[[], Any]]], words: int) -> None:
        self.words = fresh(words)
        self.bodies = bodies
        self.start = list(world.mem)
        self.log = np.empty(0, np.int64)

    def execute(self, strategy: Strategy) -> bool:
        """Run once; True if it was not cut."""
        world.mem[:] = self.start
        world.strategy = strategy
        strategy.begin()
        world.run(self.bodies(self.words))
        self.log = np.array(world.log, np.int64)
        return not unfinished()

    def choices(self) -> list[int]:
        """The task of each step."""
        return choices_of(self.log, False)


def order_of(log: np.ndarray) -> Any:
    """What makes an execution differ from others: for each word its stores in order, and what came between them."""
    made: Counter[int] = Counter()
    groups: dict[int, list[tuple[int, set[Any]]]] = {}
    for entry in log.tolist():
        kind, task = EFFECTS[entry >> KIND_BIT & KIND_MASK], entry >> TASK_BIT
        if kind == NOTHING:
            continue
        made[task] += 1
        first = entry & WORD_MASK
        for word in range(first, first + (entry >> COUNT_BIT & COUNT_MASK) + 1):
            mine = groups.setdefault(word, [])
            if kind == STORES or not mine or mine[-1][0] != kind:
                mine.append((kind, set()))
            mine[-1][1].add((task, made[task]))
    return tuple(
        (word, tuple((kind, tuple(sorted(one))) for kind, one in mine)) for word, mine in sorted(groups.items())
    )


def _run(machine: Any, search: Search, found: Found, most: int) -> bool:
    """Run at most so many executions; True if the search has come to its end."""
    for _ in range(most):
        if machine.execute(search):
            found[tuple(machine.choices()) if search.bound is not None else order_of(machine.log)] += 1
        if not search.end(world, machine.log):
            return True
    return False


def whole(machine: Any, bound: int | None) -> Found:
    """What one search runs, and how often."""
    found: Found = Counter()
    assert _run(machine, Search(bound), found, 1 << 40)
    return found


def sharded(
    machine: Any, bound: int | None, budget: int, seed: int, dropped: bool = False, awake: bool = False
) -> tuple[Found, int]:
    """What shards of so many executions run, taken up in any order; and how many shards there were.

    Broken: what is asked for in the midst of a prefix is `dropped`; with `awake` no task is asleep below it.
    """
    found: Found = Counter()
    frontier, waiting, shards, lots = Frontier(), ["-"], 0, random.Random(seed)
    held: list[Any] = []  # handed back, and not yet told: as from machines that are slow
    while waiting or held:
        if waiting and (not held or lots.random() < 0.6):
            prefix = waiting.pop(lots.randrange(len(waiting)))
            steps = [Step(step.task, 0 if awake else step.earlier) for step in parse(prefix)]
            shard = Shard(machine, steps, bound)
            shards += 1
            _run(machine, shard, found, budget)
            way, places = shard.left()
            held.append((way, [one for one in places if not dropped or one.steps >= len(steps)]))
        else:
            waiting += frontier.enter(*held.pop(lots.randrange(len(held))))
    return found, shards


def locking(words: Any) -> list[Callable[[], Any]]:
    """Three tasks, each of which adds to a word under a lock, and then to one without."""
    from emulator.engines.explore import atomic_add, read_once, smp_store_release, take_lock, write_once

    def body(me: int) -> None:
        take_lock(words, 0, me + 1)
        write_once(words, 1, read_once(words, 1) + 1)
        smp_store_release(words, 0, 0)
        atomic_add(words, 2, 1)
        if me == 2:
            read_once(words, 2)

    return [lambda me=me: body(me) for me in range(3)]


def programs(count: int) -> Iterator[tuple[str, Small]]:
    """Random ones, and one with a lock."""
    yield "locking", Small(locking, 3)
    for seed in range(count):
        program = random_program(seed)
        yield f"random {seed}", Small(lambda words, of=program: [task_body(task, words, []) for task in of], WORDS)


def compare(count: int, bound: int | None, budget: int) -> tuple[list[str], int, int]:
    """The programs whose shards run something else than the whole, or anything twice; executions and shards of all."""
    wrong, executions, shards = [], 0, 0
    for name, machine in programs(count):
        expected = whole(machine, bound)
        found, of = sharded(machine, bound, budget, count)
        if found != expected or max(found.values()) > 1:
            wrong.append(name)
        executions, shards = executions + sum(found.values()), shards + of
    return wrong, executions, shards


class Scene:
    """The explored machine of a claim or a race of the zoo, as it is or with its piece left out."""

    def __init__(self, name: str, broken: bool) -> None:
        from scenarios.proofs.finding import Plan, machine_for
        from scenarios.proofs.subject import subject

        self._machine = machine_for(subject(name), Plan(broken, "sc"))

    def execute(self, strategy: Strategy) -> bool:
        """Run once; True if it was not cut."""
        return self._machine.execute(strategy).ended != "cut"

    @property
    def log(self) -> np.ndarray:
        """Of the latest execution."""
        return self._machine.log

    def choices(self) -> list[int]:
        """The task of each step."""
        return self._machine.choices()


def compare_scene(name: str, broken: bool, bound: int | None, budget: int) -> tuple[bool, int, int, int]:
    """Whether the shards of a scene run the same as the whole, the most often that any was run, executions, shards."""
    machine = Scene(name, broken)
    expected = whole(machine, bound)
    found, shards = sharded(machine, bound, budget, 7)
    return found == expected, max(found.values()), sum(found.values()), shards


def lost_and_doubled(count: int) -> tuple[int, int]:
    """Programs that lose an execution if what is asked for in a prefix is dropped, and that run one twice if nothing is
    asleep: the two things that a shard is told or tells."""
    lost = doubled = 0
    for _, machine in programs(count):
        expected = whole(machine, None)
        lost += sharded(machine, None, 1, 1, dropped=True)[0] != expected
        doubled += max(sharded(machine, None, 1, 1, awake=True)[0].values()) > 1
    return lost, doubled
