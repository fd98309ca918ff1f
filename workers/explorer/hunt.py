"""Runs searches: one here, or several in processes of their own, until one fails or the systematic one is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.engines.explore import NEVER, world
from workers import interrupts
from workers.explorer.chance import Follow, Pct, RandomWalk
from workers.explorer.explored_machine import ExploredMachine, Outcome
from workers.explorer.schedule import frames_of
from workers.explorer.search import Deepening, InTurn, Search, Strategy
from workers.explorer.tracer import kernel_frames
from workers.processes import fork, wait_for
from workers.telling.postmortem import MachineFailed, how_it_ended
from workers.vigil import LOOK_SECONDS, Vigil

DEPTHS = (2, 3, 4)  # of PCT
EVERY = 0.2  # seconds between reports
Fresh = Callable[[], Strategy]


@dataclass
class Verdict:
    """What a search came to: pass (complete), pass (bound B complete), fail, or inconclusive.

    `seconds` are of processor time. `bounds` are the executions of the systematic search by bound. It is complete up to
    bound `completed` (-1: none), and `covered` is its share of the next one. `differ` are all executions that differ,
    if they were run.
    """

    word: str = "inconclusive"
    executions: int = 0
    steps: int = 0
    seconds: float = 0.0
    failure: Outcome | None = None
    completed: int = -1
    covered: float = 0.0
    bounds: list[int] = field(default_factory=list)
    differ: int = 0

    @property
    def passed(self) -> bool:
        """True if nothing is wrong within what was promised."""
        return self.word.startswith("pass")


@dataclass(frozen=True)
class Budget:
    """When to give up: seconds of processor time of each search, executions; other work on the machine is no matter."""

    seconds: float
    executions: int = NEVER


Progress = Callable[[Verdict], None]


def targets(functions: Sequence[str]) -> Callable[[Any], bool] | None:
    """True where the current task is in one of these kernel functions; None if there are none."""
    if not functions:
        return None
    wanted = frozenset(functions)

    def is_target(of: Any) -> bool:
        return any(frame.f_code.co_name in wanted for frame in kernel_frames(frames_of(of.current)))

    return is_target


def chances(machine: ExploredMachine, seed: int) -> list[Strategy]:
    """The strategies that draw lots."""
    return [*(Pct(seed * 7 + depth, depth, is_shared=machine.is_shared) for depth in DEPTHS), RandomWalk(seed)]


def portfolio(machine: ExploredMachine, bound: int | None, functions: Sequence[str], lots: int | None) -> list[Fresh]:
    """What searches at once: one bound after the other, or all that differ. With a seed in `lots`, those that draw
    lots.
    """
    is_target = targets(functions)
    searches: list[Fresh] = [lambda: Deepening(bound, is_target)]
    if bound is None and not functions:
        searches.append(lambda: Search())
    if lots is not None and not functions:
        searches.append(lambda: InTurn(chances(machine, lots)))
    return searches


def search(
    machine: ExploredMachine, fresh: Fresh, budget: Budget, progress: Progress = lambda verdict: None
) -> Verdict:
    """Run executions until one fails, nothing is left, or the budget is spent.

    `fresh` makes the strategy; it is made anew when a word turns out to be shared that was not known to be.
    """
    began, verdict, strategy = time.process_time(), Verdict(), fresh()
    reported = time.monotonic()
    while True:
        outcome = machine.execute(strategy)
        verdict.executions += 1
        verdict.steps += world.count
        now = time.monotonic()
        verdict.seconds = time.process_time() - began
        learned = machine.learn()  # then stores of this execution have overtaken what stood before them
        if outcome.failed and not learned:
            verdict.word, verdict.failure = "fail", outcome
            return _entered(verdict, strategy)
        if learned:
            strategy = fresh()
        elif not strategy.end(world, machine.log):
            verdict.word = strategy.verdict
            return _entered(verdict, strategy)
        if verdict.seconds > budget.seconds or verdict.executions >= budget.executions:
            return _entered(verdict, strategy)
        if now - reported > EVERY:
            reported = now
            progress(_entered(verdict, strategy))


def _entered(verdict: Verdict, strategy: Strategy) -> Verdict:
    """How far the systematic search is."""
    first, decisive = strategy, strategy
    while isinstance(first, InTurn):
        first = first.first
    while isinstance(decisive, InTurn):
        decisive = decisive.decisive
    if verdict.word == "pass (complete)":
        verdict.differ = decisive.executions[-1] if isinstance(decisive, Deepening) else verdict.executions
        verdict.differ = decisive.executions if isinstance(decisive, Search) else verdict.differ
    if isinstance(first, Deepening):
        verdict.bounds, verdict.completed = list(first.executions), first.completed
        verdict.covered = first.covered() if verdict.word == "inconclusive" else 1.0
    return verdict


def hunt(
    machine: ExploredMachine,
    searches: Sequence[Fresh],
    budget: Budget,
    jobs: int,
    progress: Progress = lambda verdict: None,
) -> Verdict:
    """Search in `jobs` processes: the first search in one, the others in turn in another; or all in turn in this one.

    The first failure wins; else whichever search is done first. A bound that is complete when the time is over counts.
    """
    rest = searches[1:]
    if jobs == 1 or not rest:
        verdict = search(machine, lambda: InTurn([fresh() for fresh in searches]), budget, progress)
    else:
        two: list[Fresh] = [searches[0], lambda: InTurn([fresh() for fresh in rest])]
        verdict = _in_processes(machine, two, budget, progress)
    if verdict.word == "inconclusive":
        done = verdict.completed >= 0
        verdict.word = f"pass (bound {verdict.completed} complete)" if done else "inconclusive (budget)"
    return verdict


def _child(machine: ExploredMachine, fresh: Fresh, budget: Budget, pipe: Any, parent: int) -> None:
    interrupts.reset_in_child()

    def report(verdict: Verdict) -> None:
        if os.getppid() != parent:
            os._exit(1)
        pipe.send((verdict, None))

    verdict = search(machine, fresh, budget, report)
    choices = verdict.failure.choices if verdict.failure is not None else []
    verdict.failure = None
    buffers = (world.buffers.known(), bytes(machine.shared)) if world.buffers is not None else None
    pipe.send((verdict, (choices, buffers)))


def _in_processes(machine: ExploredMachine, searches: Sequence[Fresh], budget: Budget, progress: Progress) -> Verdict:
    pipes: list[Any] = []
    children: list[Any] = []
    for fresh in searches:
        ours, theirs = fork().Pipe(duplex=False)
        child = fork().Process(target=_child, args=(machine, fresh, budget, theirs, os.getpid()), daemon=True)
        with interrupts.held_back():
            child.start()
            children.append(child)
        theirs.close()
        pipes.append(ours)
    verdicts = [Verdict() for _ in searches]
    vigil = Vigil({child.pid: f"search {number}" for number, child in enumerate(children)})
    try:
        left = list(pipes)
        while left:
            vigil.look()
            for pipe in wait_for(left, LOOK_SECONDS):
                number = pipes.index(pipe)
                try:
                    verdicts[number], ended = pipe.recv()
                except EOFError:
                    child = children[number]
                    child.join()
                    how = how_it_ended(child.exitcode)
                    raise MachineFailed(f"search {number} (process {child.pid}) {how}") from None
                total = _total(verdicts)
                if ended is None:
                    progress(total)
                    continue
                left.remove(pipe)
                del vigil.names[children[number].pid]
                if verdicts[number].word == "fail":
                    return _again(machine, total, *ended)
                if verdicts[number].passed:
                    total.word, total.differ = verdicts[number].word, verdicts[number].differ
                    return total
        return _total(verdicts)
    finally:
        for child in children:
            child.kill()
            child.join()


def _total(verdicts: Sequence[Verdict]) -> Verdict:
    """What all of them came to, and the processor time of the one that took most."""
    first = verdicts[0]
    return Verdict(
        next((one.word for one in verdicts if one.word == "fail"), first.word),
        sum(one.executions for one in verdicts),
        sum(one.steps for one in verdicts),
        max(one.seconds for one in verdicts),
        None,
        first.completed,
        first.covered,
        first.bounds,
    )


def _again(machine: ExploredMachine, verdict: Verdict, choices: list[int], buffers: Any) -> Verdict:
    """The failure that another process has found, in this one."""
    if buffers is not None:
        known, shared = buffers
        world.buffers.restore(known)
        machine.shared[:] = shared
    verdict.failure = machine.execute(Follow(choices))
    return verdict
