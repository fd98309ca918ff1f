"""Runs a litmus test under a memory model, every execution that differs, and holds what it finds to the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator import lazy_numpy as np
from emulator.engines.explore import MAX_STEPS, world
from emulator.engines.race_detector import RaceDetector
from workers.explorer.search import Search
from workers.litmus.program import Outcome, Program, holds
from workers.litmus.record import Test

# whose verdict -> the models whose every end it must allow; those that must reach just what it says
STRONGER = {"tso": ("sc", "tso"), "lkmm": ("sc", "tso", "pso", "arm")}
EXACT = {"tso": ("tso",), "lkmm": ()}
WEAKER = ("sc", "tso", "pso", "arm")  # each shows what those before it show


@dataclass(frozen=True)
class Result:
    """What a test came to under one model. `ends` are all ends; `complete` False if the executions did not suffice.

    `reachable` is None if that is why it is not known; `agrees` is None if the verdict says nothing about the model.
    """

    test: Test
    memory: str
    ends: frozenset[Outcome]
    executions: int
    complete: bool
    reachable: bool | None
    agrees: bool | None
    why: str
    races: bool

    def row(self) -> dict[str, Any]:
        """The row of --json."""
        return {
            "name": self.test.name,
            "memory": self.memory,
            "reachable": self.reachable,
            "expected": self.test.expected,
            "agrees": self.agrees,
            "outcomes": len(self.ends),
            "executions": self.executions,
            "complete": self.complete,
            "data_race": self.races,
            "why": self.why,
            "source": self.test.source,
        }


def run(test: Test, memory: str, most: int) -> Result:
    """Search all interleavings of a test, at most so many executions. Raises BadTest, TooManyTasks."""
    program = Program(test, memory)
    detector = RaceDetector(len(world.mem), len(test.threads), strict=True) if memory == "sc" else None
    ends: set[Outcome] = set()
    count, races, complete = 0, False, False
    search = Search()
    while not complete and count < most:
        count += 1
        search.begin()
        world.strategy = search
        world.run(program.bodies())
        log = np.array(world.log, np.int64)
        if all(task.pending < 0 or task.optional for task in world.tasks):
            end = program.outcome()
            if test.filter is None or holds(test.filter, program.environment(end)):
                ends.add(end)
                races = races or (detector is not None and detector.find(log) is not None)
        if world.count >= MAX_STEPS:
            break
        if world.buffers is not None and world.buffers.learn():
            search = Search()
        else:
            complete = not search.end(world, log)
    return _judged(test, memory, program, ends, (count, complete, races))


def _judged(test: Test, memory: str, program: Program, ends: set[Outcome], found: tuple[int, bool, bool]) -> Result:
    """Hold the ends to the verdict and to the list of states, if there are any."""
    count, complete, races = found
    environments = [program.environment(end) for end in ends]
    wanted = test.quantifier != "forall"
    reachable: bool | None = any(holds(test.condition, env) is wanted for env in environments)
    if not reachable and not complete:
        reachable = None
    agrees, why = _agrees(test, memory, reachable, complete)
    if test.states is not None and memory in STRONGER.get(test.model, ()):
        allowed = [{name: of.of(program.addresses) for name, of in state.items()} for state in test.states]
        more, fewer = _states(allowed, environments)
        if more:
            agrees, why = False, f"an end that its states do not have: {more}"
        elif fewer and test.exact and complete and memory in EXACT.get(test.model, ()):
            agrees, why = False, f"{fewer} of its states are not reached"
    return Result(test, memory, frozenset(ends), count, complete, reachable, agrees, why, races)


def _states(allowed: Sequence[Mapping[str, int]], found: Sequence[Mapping[str, int]]) -> tuple[str, int]:
    """An end that no state allows, as text, and how many states are not among the ends."""
    known = {tuple(sorted(state.items())) for state in allowed}
    names = sorted(allowed[0]) if allowed else []
    seen = {tuple((name, env[name]) for name in names) for env in found}
    more = sorted(seen - known)
    return ", ".join(f"{name}={value}" for name, value in more[0]) if more else "", len(known - seen)


def _agrees(test: Test, memory: str, reachable: bool | None, complete: bool) -> tuple[bool | None, str]:
    """Whether the verdict holds; None if it says nothing about this model, or the executions did not suffice."""
    if test.expected is None or memory not in STRONGER.get(test.model, ()):
        return None, "no verdict on this model"
    if reachable is None:
        return None, "more executions than --executions"
    if reachable and not test.expected:
        return False, "reached, and forbidden"
    if test.expected and not reachable and memory in EXACT[test.model]:
        return False, "not reached, and allowed"
    return True, "" if complete else "more executions than --executions"
