"""A counterexample: made short, and traced.

What the failure does not depend on goes, then one piece of the order of tasks after the other. Each time the rest must
fail in the same way.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from emulator import lazy_numpy as np
from emulator.engines import partial_order
from emulator.engines.explore import MAX_STEPS, MAX_TASKS, NEVER, World, world
from emulator.engines.partial_order import S_FROM, S_TASK, S_TO
from workers.explorer.chance import Chance, Follow, RandomWalk
from workers.explorer.explored_machine import ExploredMachine, Outcome
from workers.explorer.schedule import Described, Places, Scheduled, Switch
from workers.explorer.search import Strategy, carry_on, tasks_of
from workers.explorer.tracer import Tracer
from workers.telling.access import Access
from workers.telling.phrases import Names
from workers.telling.story import Trace
from workers.telling.whereabouts import mutex_names

SHRINK_SECONDS = 10.0
MOST_TRIES, WALKS = 8, 50  # of a schedule under a weak memory model; executions that learn, between two of them
ORDERS = 720  # of tasks, that are tried for long runs of one
LOOKS = ("account_rcu_age", "check_use", "pinned")  # detectors that look on the way to the one about the count


@dataclass(frozen=True)
class Counterexample:
    """A failure and its schedule: `switches`, `preemptions`, the task of each step."""

    what: str
    choices: list[int]
    switches: list[Switch]
    preemptions: int
    crash_at: int = 0

    @property
    def size(self) -> tuple[int, int, int]:
        """What is to be small: preemptions, switches, steps."""
        return self.preemptions, len(self.switches), len(self.choices)

    @property
    def schedule(self) -> str:
        """The schedule as text; in front of ! the step of the coordinator behind which it dies."""
        return (f"{self.crash_at}!" if self.crash_at else "") + ",".join(map(str, self.switches))


class Clocks:
    """The order that an execution imposes on its steps; of the one that `machine` has just run."""

    def __init__(self, machine: ExploredMachine) -> None:
        tasks = len(world.tasks)
        pending, commits, edges, owner, cpus = tasks_of(world)
        self.steps = np.zeros((MAX_STEPS + MAX_TASKS + 1, 7), np.int64)
        self.after = np.zeros((MAX_STEPS + MAX_TASKS + 1, tasks), np.int64)
        buffered = world.buffers is not None
        words = np.zeros((len(world.mem), 1 + 3 * tasks), np.int64)
        races = np.zeros((0, 3), np.int64)
        self.count = partial_order.parse(machine.log, pending, commits, cpus, buffered, self.steps)
        arrays = (machine.log, pending, self.steps, self.count, owner, cpus, words, MAX_STEPS, self.after, races)
        partial_order.order(*arrays, MAX_STEPS, edges, np.zeros((0, tasks), np.int64))

    def cause(self, of: int) -> list[int]:
        """The steps that step `of` depends on, and itself."""
        return [k for k in range(of + 1) if self.after[of, self.steps[k, S_TASK]] >= k]

    def step_of(self, place: int) -> int:
        """The step to which a place in the log belongs."""
        return int(np.searchsorted(self.steps[: self.count, S_FROM], place, "right")) - 1

    def places(self, step: int) -> range:
        """The accesses of a step, as places in the log."""
        return range(int(self.steps[step, S_FROM]), int(self.steps[step, S_TO]))


def failing_step(machine: ExploredMachine, outcome: Outcome, clocks: Clocks) -> int | None:
    """The step at which an execution has failed; None if it is the end that is wrong, or that nothing moves."""
    if outcome.race is not None:
        return clocks.step_of(outcome.race[1])
    if outcome.violation is None:
        return None
    mine = np.flatnonzero(clocks.steps[: clocks.count, S_TASK] == outcome.violation.cpu)
    return int(mine[-1]) if len(mine) else None


def in_long_runs(clocks: Clocks, kept: Sequence[int]) -> list[int]:
    """The tasks of these steps in an order that respects the clocks and seldom goes from one task to another."""
    needs = {k: set(clocks.cause(k)) & set(kept) - {k} for k in kept}
    tasks = sorted({int(clocks.steps[k, S_TASK]) for k in kept})
    preferences = itertools.islice(itertools.permutations(tasks), ORDERS)  # buffers and queues can be many
    orders = [_greedy(clocks, kept, needs, preferred) for preferred in preferences]
    return min(orders, key=lambda order: sum(a != b for a, b in itertools.pairwise(order)))


def _greedy(clocks: Clocks, kept: Sequence[int], needs: dict[int, set[int]], preferred: Sequence[int]) -> list[int]:
    """On with a task as long as its next step needs no other, then the first of `preferred` that can go on."""
    queues = {task: [k for k in kept if clocks.steps[k, S_TASK] == task] for task in preferred}
    done: set[int] = set()
    order: list[int] = []
    while len(order) < len(kept):
        ready = [task for task, queue in queues.items() if queue and needs[queue[0]] <= done]
        order.append(order[-1] if order and order[-1] in ready else ready[0])
        done.add(queues[order[-1]].pop(0))
    return order


def described(machine: ExploredMachine, choices: Sequence[int]) -> tuple[Outcome, Described]:
    """Run these choices; what came of it, and how they depart from the natural order."""
    strategy = Described(choices, Places(world, machine.coordinator))
    return machine.execute(strategy), strategy


def scheduled(machine: ExploredMachine, switches: Sequence[Switch]) -> tuple[Outcome, Scheduled]:
    """Run a schedule, on a machine that knows which words go through store buffers, or learns it on the way."""
    walk = RandomWalk(0)
    for tries in range(MOST_TRIES):
        strategy = Scheduled(switches, Places(world, machine.coordinator))
        outcome = machine.execute(strategy)
        learned = machine.learn()
        if world.buffers is None or (strategy.misfit() is None and outcome.failed):
            break
        if not learned and tries < MOST_TRIES - 1:  # what it has not met yet others may meet
            for _ in range(WALKS):
                machine.execute(walk)
                machine.learn()
    return outcome, strategy


def counterexample(machine: ExploredMachine, choices: Sequence[int]) -> Counterexample:
    """Run these choices; the execution with its schedule."""
    outcome, strategy = described(machine, choices)
    return Counterexample(outcome.what, list(choices), strategy.switches, strategy.preemptions, machine.crash_at)


def shrink(machine: ExploredMachine, outcome: Outcome, alike: Collection[str] = ()) -> Counterexample:
    """A counterexample with fewer preemptions and fewer steps: of the same kind, or of one of those in `alike`."""
    until = time.monotonic() + SHRINK_SECONDS
    best = counterexample(machine, outcome.choices)
    better = True
    while better and time.monotonic() < until:
        shorter = _without(machine, _without_the_unconnected(machine, best), alike, until)
        better = shorter.size < best.size
        best = shorter
    return best


def _without_the_unconnected(machine: ExploredMachine, best: Counterexample) -> Counterexample:
    """Leave out the steps with no causal link to the failure."""
    outcome = machine.execute(Follow(best.choices, further=False))
    clocks = Clocks(machine)
    last = failing_step(machine, outcome, clocks)
    if last is None or outcome.what != best.what:
        return best
    shorter = counterexample(machine, in_long_runs(clocks, clocks.cause(last)))
    return shorter if shorter.what == best.what and shorter.size < best.size else best


Segment = tuple[int, int]  # a task, and for how many steps it goes on: NEVER for as long as it can


class Segments(Chance):
    """One task after the other for so many steps each, or until it cannot move; then the natural order."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = list(segments)
        self._left = list(segments)

    def begin(self) -> None:
        """From the first."""
        self._left = list(reversed(self._segments))

    def choose(self, world: World) -> int:
        """The task of the segment."""
        movable = world.movable()
        world.until = world.count + 1
        while self._left:
            task, steps = self._left[-1]
            if steps and task in movable:
                self._left[-1] = task, steps - 1
                return task
            self._left.pop()
        return carry_on(world, movable)

    def end(self, world: World, log: object) -> bool:
        """Once is enough."""
        return False


def _shorter(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Schedules with segments left out, many at a time first, or with one that goes on for as long as it can."""
    size = len(segments) // 2
    while size:
        for k in range(0, len(segments) - size + 1, max(1, size // 2)):
            yield segments[:k] + segments[k + size :]
        size //= 2
    for k, (task, _) in enumerate(segments):
        yield [*segments[:k], (task, NEVER), *segments[k + 1 :]]
        yield [*segments[:k], (task, NEVER), *segments[k + 2 :]]


def _fewer(switches: list[Switch]) -> Iterator[list[Switch]]:
    """Schedules with one switch left out, or two."""
    places = range(len(switches))
    for out in itertools.chain(((k,) for k in places), itertools.combinations(places, 2)):
        yield [switch for k, switch in enumerate(switches) if k not in out]


def _without(machine: ExploredMachine, best: Counterexample, alike: Collection[str], until: float) -> Counterexample:
    """Leave out what can be left out of the order of tasks, as long as it fails in the same way."""
    again = True
    while again:
        again = False
        segments = [(task, len(list(steps))) for task, steps in itertools.groupby(best.choices)]
        strategies: Iterator[Strategy] = itertools.chain(
            map(Segments, _shorter(segments)),
            (Scheduled(switches, Places(world, machine.coordinator)) for switches in _fewer(best.switches)),
        )
        for strategy in strategies:
            if time.monotonic() > until:
                return best
            outcome = machine.execute(strategy)
            if outcome.failed and (outcome.what == best.what or outcome.what in alike):
                shorter = counterexample(machine, outcome.choices)
                if shorter.what == outcome.what and shorter.size < best.size:
                    best, again = shorter, True
                    break
    return best


# --- what is told of it ---------------------------------------------------------------------------------------------


def trace_of(machine: ExploredMachine, found: Counterexample, command: str) -> tuple[Outcome, Trace]:
    """Run a counterexample once more, access by access."""
    levels = dict(enumerate(machine.initial("ptdesc.level")))
    with Tracer(world, machine.instruction) as tracer:
        outcome = machine.execute(Follow(found.choices, further=False))
    clocks = Clocks(machine)
    last = failing_step(machine, outcome, clocks)
    steps = range(clocks.count) if last is None else clocks.cause(last)
    by_place = {place: access.step for place, access in zip(tracer.places, tracer.accesses, strict=True)}
    causal = {by_place[place] for k in steps for place in clocks.places(k) if place in by_place}
    guilty = None
    if outcome.race is not None:
        guilty = by_place[outcome.race[0]], by_place[outcome.race[1]]
    elif outcome.violation is not None:
        of_count = outcome.violation.detector.startswith("count-")
        guilty = guilty_pair(tracer.accesses, outcome.violation.cpu, LOOKS if of_count else ())
    return outcome, Trace(
        accesses=tracer.accesses,
        causal=frozenset(causal),
        guilty=guilty,
        names=Names(levels, machine.tasks, mutex_names(machine.segment.views)),
        violation=outcome.violation,
        what=outcome.what,
        schedule=found.schedule,
        command=command,
    )


def guilty_pair(accesses: Sequence[Access], task: int, looks: Collection[str]) -> tuple[int, int] | None:
    """The latest access of a task to a word that another task has changed, or looked at before the task changed it. Not
    one that a function of `looks` makes, nor, if there are any, a data_race().
    """
    for access in reversed(accesses):
        if access.task != task or access.field.startswith("run.") or not access.field or access.function in looks:
            continue
        if looks and access.op == "data_race":
            continue
        others = [
            other
            for other in reversed(accesses[: access.step])
            if other.field == access.field and other.index <= access.index < other.index + other.length
            if other.task != task and other.function not in looks and (other.changes or access.changes)
        ]
        if others:
            return next((other for other in others if other.changes), others[0]).step, access.step
    return None


def waits_of(machine: ExploredMachine) -> dict[int, list[tuple[str, int, int]]]:
    """In a deadlock: the words each task waits for, and what they hold."""
    return {
        task.number: [(*machine.words.name(word), world.mem[word]) for word in sorted(task.waits)]
        for task in world.tasks
        if task.blocked and task.green is not None
    }
