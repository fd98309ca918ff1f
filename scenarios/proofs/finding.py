"""What the explorer finds in one subject: a plan is carried out, and what fails is made short and traced."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.engines.access_log import TooManyTasks
from scenarios.session import errors
from scenarios.session.record import Record
from scenarios.zoo.race import Subject
from workers.explorer.data_race import DataRace, data_race_lines, why_unordered
from workers.explorer.deadlock import deadlock_lines
from workers.explorer.prefix import WHOLE as WHOLE_PATH
from workers.explorer.prefix import parse, spell
from workers.instruments import Instruments
from workers.telling.story import STORY_LINES, WHOLE, story_of
from workers.telling.waits import wait_edges

SECONDS = 30.0
NEVER = 1 << 60


@dataclass(frozen=True)
class Plan:
    """What the options ask for. `broken`: the piece is left out, and so are those of `knobs`, whatever the subject.

    `policy` is the subject's own if it is empty.
    """

    broken: bool
    memory: str
    bound: int | None = None
    demanded: bool = False  # the user wants this bound, and no less
    seconds: float = SECONDS
    executions: int = NEVER
    seed: int = 0
    jobs: int = 2
    targets: tuple[str, ...] = ()
    races: bool = True  # look for data races
    knobs: tuple[str, ...] = ()
    barriers: tuple[str, ...] = ()  # left out as well
    policy: str = ""
    events: int = STORY_LINES  # of the story
    shards: tuple[str, ...] = ()  # prefixes: only what lies below them, and no other strategy

    def left_out(self, of: Subject) -> tuple[str, ...]:
        """All knobs that are on."""
        return tuple(dict.fromkeys([*([of.knob] if self.broken and of.knob else []), *self.knobs]))

    def barriers_left_out(self, of: Subject) -> tuple[str, ...]:
        """All barriers that are left out."""
        return tuple(dict.fromkeys([*(of.barriers[:1] if self.broken else []), *self.barriers]))

    def is_whole(self, of: Subject) -> bool:
        """True if nothing is left out."""
        return not self.left_out(of) and not self.barriers_left_out(of)

    def policy_of(self, of: Subject) -> str:
        """The policy the scene runs under."""
        return self.policy or of.policy

    def is_own(self, of: Subject) -> bool:
        """True if the scene runs as its subject says, so that what is expected of it holds."""
        return not self.knobs and not self.barriers and self.policy_of(of) == of.policy

    def command(self, of: Subject, schedule: str | None = None) -> str:
        """The command line of this plan."""
        words = ["ptelab", "explore", of.name]
        if self.broken == of.is_claim:
            words.append("--twin" if of.is_claim else "--fixed")
        if self.knobs:
            words += ["--knob", ",".join(self.knobs)]
        for barrier in self.barriers:
            words += ["--without", barrier]
        if self.policy_of(of) != of.policy:
            words += ["--policy", self.policy]
        if self.memory != of.memory:
            words += ["--memory", self.memory]
        if schedule is not None:
            words += ["--schedule", schedule or "-"]
        return shlex.join(words)


@dataclass
class Finding:
    """What came of one subject: the verdict, and the counterexample with its trace if there is one."""

    of: Subject
    plan: Plan
    verdict: Any
    crash: int = 0  # the step behind which the coordinator died
    example: Any = None
    trace: Any = None
    lines: list[str] = field(default_factory=list)  # the report of a data race, a deadlock or a broken claim
    wait_edges: list[dict[str, str]] = field(default_factory=list)  # of a deadlock
    shards: list[dict[str, Any]] = field(default_factory=list)  # what was searched below each prefix, what is left
    others: dict[str, str] = field(default_factory=dict)  # memory model -> verdict, where the twin must show nothing

    @property
    def by_hand(self) -> bool:
        """True if the schedule is the one that comes with the race."""
        return self.trace is not None and bool(self.of.schedule) and self.trace.command.endswith(self.of.schedule)

    @property
    def what(self) -> str | None:
        """What was found."""
        return self.example.what if self.example is not None else None

    @property
    def as_expected(self) -> bool:
        """True if a broken subject failed in a way it should, and a whole one passed."""
        if self.plan.broken:
            return self.what in self.of.detectors and all(word.startswith("pass") for word in self.others.values())
        return bool(self.verdict.passed)

    def row(self) -> dict[str, Any]:
        """The row of --json."""
        example, verdict = self.example, self.verdict
        return {
            "subject": self.of.name,
            "knob": ",".join((*self.plan.left_out(self.of), *self.plan.barriers_left_out(self.of))) or None,
            "memory": self.plan.memory,
            "policy": self.plan.policy_of(self.of),
            "verdict": verdict.word,
            "found": self.what,
            "executions": verdict.executions,
            "steps": verdict.steps,
            "seconds": verdict.seconds,
            "bound_complete": verdict.completed if verdict.completed >= 0 else None,
            "executions_by_bound": verdict.bounds,
            "executions_that_differ": verdict.differ or None,
            "covered": verdict.covered,
            "schedule": example.schedule if example is not None else None,
            "preemptions": example.preemptions if example is not None else None,
            "schedule_steps": len(example.choices) if example is not None else None,
            "coordinator_died_behind_step": self.crash or None,
            "other_memory": self.others,
            "as_expected": self.as_expected,
            **({"shards": self.shards} if self.shards else {}),
        }


def machine_for(of: Subject, plan: Plan, crash_at: int = 0) -> Any:
    """The explored machine of a subject."""
    from workers.explorer.barriers import site_of
    from workers.explorer.explored_machine import ExploredMachine

    knobs, policy = plan.left_out(of), plan.policy_of(of)
    without = [site_of(name) for name in plan.barriers_left_out(of)]
    races = plan.races and plan.is_whole(of)
    tools = Instruments(online=True, knobs=knobs, settings=of.settings)
    try:
        return ExploredMachine(of.scene, policy, tools, plan.memory, crash_at, races, without)
    except ValueError as error:  # a setting that the policy cannot have
        raise errors.UserError(f"{of.name} under {policy}: {error}") from None


def explore(of: Subject, plan: Plan, progress: Any = lambda verdict: None) -> Finding:
    """Search; if something fails, make it short and trace it. A race that has a schedule is shown by that, unless the
    plan says how to search. Raises UserError if the program is too large.
    """
    from workers.explorer.hunt import Budget, Verdict, hunt, portfolio, search

    if plan.shards:
        return _explore_shards(of, plan, progress)
    if plan.broken and of.schedule and plan.is_own(of) and not plan.demanded and not plan.targets:
        return replay(of, plan, of.schedule)
    budget = Budget(plan.seconds, plan.executions)
    total, crash = Verdict(), 0
    try:
        while True:
            crash += of.crashes
            machine = machine_for(of, plan, crash)
            lots = None if plan.is_whole(of) and plan.jobs == 1 else plan.seed  # drawing lots proves nothing
            searches = portfolio(machine, plan.bound, plan.targets, lots)
            if of.crashes:  # one search for each step of the coordinator
                verdict = search(machine, searches[0], budget)
            else:
                verdict = hunt(machine, searches, budget, plan.jobs, progress)
            total = _added(total, verdict)
            if verdict.failure is not None:
                return _told(Finding(of, plan, total, crash), machine)
            if not of.crashes or not verdict.passed or not machine.crashed:
                short = plan.demanded and total.word != "pass (complete)" and total.completed < (plan.bound or 0)
                return Finding(of, plan, replace(total, word="inconclusive (budget)") if short else total)
    except TooManyTasks as error:
        raise errors.UserError(f"{of.name} under {plan.memory}: {error}") from None


def _explore_shards(of: Subject, plan: Plan, progress: Any) -> Finding:
    """Search below each prefix of a plan until one fails or the budget is spent. Raises UserError."""
    from workers.explorer.hunt import Budget, Verdict
    from workers.explorer.shard import Shard, search_below

    if plan.memory != "sc" or of.crashes or plan.targets:
        raise errors.UserError(f"--shard does nothing with {of.name} like this; known: sc, no crash, no --target")
    machine = machine_for(of, plan)
    found = Finding(of, plan, Verdict("pass (shards complete)"))
    try:
        prefixes = {text: parse(text) for text in plan.shards}
        for text, prefix in prefixes.items():
            total = found.verdict
            told: dict[str, Any] = {"prefix": text, "bound": plan.bound}
            seconds, executions = plan.seconds - total.seconds, plan.executions - total.executions
            if seconds <= 0 or executions <= 0:
                found.shards.append({**told, "executions": 0, "path": WHOLE_PATH, "open": [], "bounded": False})
                continue
            shard = Shard(machine, prefix, plan.bound)
            one = search_below(machine, shard, Budget(seconds, executions), progress)
            found.verdict = replace(_added(total, one), word=total.word, failure=one.failure)
            steps, places = shard.left()
            told |= {"executions": shard.executions, "path": spell(steps), "open": [*map(list, places)]}
            found.shards.append({**told, "bounded": shard.bounded})
            if one.failure is not None:
                found.verdict.word = "fail"
                return _told(found, machine)
    except ValueError as error:
        raise errors.UserError(f"--shard: {error}") from None
    if any(one["open"] or not one["executions"] for one in found.shards):
        found.verdict.word = "inconclusive (shards handed back)"
    return found


def _added(total: Any, verdict: Any) -> Any:
    """Several searches taken together."""
    return replace(
        verdict,
        executions=total.executions + verdict.executions,
        steps=total.steps + verdict.steps,
        seconds=total.seconds + verdict.seconds,
    )


def _told(found: Finding, machine: Any) -> Finding:
    """Shrink and trace the failure of a finding."""
    from workers.explorer.counterexample import shrink, trace_of

    found.example = shrink(machine, found.verdict.failure, found.of.detectors)
    outcome, found.trace = trace_of(machine, found.example, found.plan.command(found.of, found.example.schedule))
    _report(found, machine, outcome)
    return found


def _report(found: Finding, machine: Any, outcome: Any) -> None:
    """Enter what is said of the failure."""
    found.lines = _lines_of(machine, outcome, found.trace)
    if outcome.what == "deadlock":
        found.wait_edges = wait_edges(machine.segment.views, machine.geometry)


def _lines_of(machine: Any, outcome: Any, trace: Any) -> list[str]:
    """What is said of a failure, in lines."""
    from workers.explorer.counterexample import waits_of

    if outcome.what == "deadlock":
        return deadlock_lines(machine.segment.views, machine.geometry, waits_of(machine))
    if outcome.what == "data-race":
        first, second = (next(a for a in trace.accesses if a.step == step) for step in trace.guilty)
        why = why_unordered(first, second, trace.tasks)
        return data_race_lines(DataRace(first.field, first.index, first, second, why), trace.names)
    if outcome.violation is not None:
        seen = outcome.violation
        return [f"VIOLATION  {seen.detector}, seen by CPU {seen.cpu}", f"  {seen.saw}", f"  wrong, because {seen.why}"]
    if outcome.broken:
        return [f"BROKEN  {outcome.broken}"]
    if outcome.ended == "endless":
        return ["ENDLESS  a loop that changes what it reads never comes to its end"]
    return [f"AUDIT  {name}: {count} wrong at the end" for name, count in (outcome.checks or {}).items() if count]


def replay(of: Subject, plan: Plan, schedule: str) -> Finding:
    """Run a schedule. Raises UserError if it does not fit."""
    from workers.explorer.counterexample import counterexample, scheduled, trace_of
    from workers.explorer.hunt import Verdict
    from workers.explorer.schedule import DoesNotFit, parse

    crash, _, switches = schedule.rpartition("!")
    try:
        machine = machine_for(of, plan, int(crash or 0))
        outcome, strategy = scheduled(machine, parse(switches))
    except (DoesNotFit, ValueError) as error:
        raise errors.UserError(f"--schedule: {error}") from None
    if (why := strategy.misfit()) is not None:
        raise errors.UserError(f"--schedule does not fit: {why}")
    choices = machine.choices()
    verdict = Verdict("fail" if outcome.failed else "pass (this schedule)", 1, len(choices), 0.0, outcome)
    found = Finding(of, plan, verdict, int(crash or 0))
    found.example = counterexample(machine, choices)
    outcome, found.trace = trace_of(machine, found.example, plan.command(of, schedule))
    _report(found, machine, outcome)
    return found


def enter(record: Record, found: Finding) -> None:
    """Enter a finding into the record."""
    row = found.row()
    if found.trace is not None:
        row["story"] = story_of(found.trace, WHOLE).as_json()
        row["report"] = found.lines
        row["wait_edges"] = found.wait_edges
        if found.verdict.word == "fail":
            record.found.append(f"{found.of.name}: {found.what}")
    elif not found.verdict.passed:
        record.inconclusive = True
    record.rows.append(row)
