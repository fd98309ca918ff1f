"""The explored machine: the same kernels, CPUs that are tasks of one process, and one execution after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from emulator.checks import audit
from emulator.engines.explore import MAX_STEPS, Step, attach, world, write_back
from emulator.insn import run_program
from emulator.mm_types import Geometry
from emulator.rcu import coordinator_loop
from emulator.segment import Segment
from emulator.tlb import coordinator_wake, enter_idle, exit_idle
from workers.instruments import PLAIN, Instruments
from workers.machine import power_up
from workers.program import Insn, assemble
from workers.violation import Violation, violation_of


@dataclass(frozen=True)
class Outcome:
    """What one execution came to: `ended` is complete, violation, deadlock, cut (by the strategy) or endless."""

    ended: str
    steps: list[Step]
    violation: Violation | None = None
    checks: dict[str, int] | None = None

    @property
    def failed(self) -> bool:
        """True if it is a counterexample."""
        return self.ended in ("violation", "deadlock", "endless") or any((self.checks or {}).values())

    @property
    def what(self) -> str:
        """The name of what was found: a detector, a check, deadlock or endless."""
        if self.violation is not None:
            return self.violation.detector
        broken = [name for name, count in (self.checks or {}).items() if count]
        return broken[0] if broken else self.ended


class ExploredMachine:
    """A machine in one process; `execute` runs its programs from the same state every time."""

    def __init__(
        self,
        setup: Sequence[Insn],
        programs: Sequence[Sequence[Insn]],
        policy: str,
        instruments: Instruments = PLAIN,
    ) -> None:
        cpus = len(programs)
        insns = len(setup) + sum(len(program) for program in programs)
        self.geometry = Geometry(cpus=cpus, vmas=8, insns=insns, frames=256, tables=8)
        self.segment = Segment(self.geometry)
        power_up(self.segment.views, self.geometry, policy, instruments, [0] * cpus, 1000)
        views, at = self.segment.views, 0
        spans = []
        for program in (setup, *programs):
            rows = assemble(program)
            views["insn"][at : at + len(rows)] = rows
            spans.append((at, at + len(rows)))
            at += len(rows)
        self.m = attach(self.segment)
        self._span(0, spans[0])
        self._prepare()
        for cpu in range(cpus):
            self._span(cpu, spans[1 + cpu])
        world.undo.clear()

    def _span(self, cpu: int, span: tuple[int, int]) -> None:
        self.m.cpu.insn_base[cpu] = self.m.cpu.pc[cpu] = span[0]
        self.m.cpu.insn_end[cpu] = span[1]

    def _prepare(self) -> None:
        """Run the setup on CPU 0, the others idle, until every callback has run."""
        m, cpus = self.m, self.geometry.cpus
        for cpu in range(1, cpus):
            m.cpu.lazy[cpu] = m.cpu.idle[cpu] = m.cpu.finished[cpu] = 1
        world.choose = lambda options, current: current if current in options else min(options)
        world.run([lambda: self._cpu(0), lambda: coordinator_loop(m, cpus)])
        if world.pending:
            raise ValueError("the setup does not come to its end")
        world.run([partial(self._awake, cpu) for cpu in range(cpus)])

    def _awake(self, cpu: int) -> None:
        exit_idle(self.m, cpu)
        self.m.cpu.finished[cpu] = 0

    def _cpu(self, cpu: int) -> None:
        m = self.m
        run_program(m, cpu, 0)
        enter_idle(m, cpu)
        m.cpu.finished[cpu] = 1
        coordinator_wake(m)

    def bodies(self) -> list[Callable[[], Any]]:
        """One task per CPU, the coordinator last."""
        cpus = self.geometry.cpus
        return [*[partial(self._cpu, cpu) for cpu in range(cpus)], partial(coordinator_loop, self.m, cpus)]

    def execute(self, strategy: Any) -> Outcome:
        """Run the programs once under a strategy, from the state after the setup."""
        strategy.begin()
        world.choose = strategy.choose
        world.run(self.bodies())
        steps = world.steps
        try:
            if world.bug[0]:
                write_back(self.m)
                return Outcome("violation", steps, violation_of(self.segment.views, self.geometry))
            if world.deadlock:
                return Outcome("deadlock", steps)
            if world.pending:
                return Outcome("cut" if len(steps) < MAX_STEPS else "endless", steps)
            write_back(self.m)
            return Outcome("complete", steps, None, audit(self.segment.views, self.geometry))
        finally:
            world.reset()


@dataclass
class Verdict:
    """What a search came to: pass (complete), pass (bound B complete), fail, or inconclusive."""

    word: str
    executions: int
    steps: int
    seconds: float
    failure: Outcome | None = None


def search(machine: ExploredMachine, strategy: Any, seconds: float, progress: Callable[[int], None]) -> Verdict:
    """Run executions until one fails, nothing is left, or the time is over."""
    began, steps, executions = time.monotonic(), 0, 0
    while True:
        outcome = machine.execute(strategy)
        executions += 1
        steps += len(outcome.steps)
        if outcome.failed:
            return Verdict("fail", executions, steps, time.monotonic() - began, outcome)
        if not strategy.end(outcome.steps, world.pending):
            bounded = getattr(strategy, "bounded", False)
            word = f"pass (bound {strategy.bound} complete)" if bounded else "pass (complete)"
            return Verdict(word, executions, steps, time.monotonic() - began)
        if executions % 64 == 0:
            progress(executions)
            if time.monotonic() - began > seconds:
                return Verdict("inconclusive (budget)", executions, steps, time.monotonic() - began)
