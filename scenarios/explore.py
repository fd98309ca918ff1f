"""Try every interleaving of a small program, or prove a bound; or repeat one execution by its schedule.

    ptelab explore race/NAME            leaves the piece out, finds the race, tells its shortest schedule as a story
    ptelab explore race/NAME --fixed    the same program with the piece in place
    ptelab explore claim/NAME           what is claimed of the protocol; --twin: its broken twin
    ptelab explore all                  the whole zoo and all claims

Exit status: 0 passed, 1 a violation was found, 2 usage, 3 internal, 4 inconclusive.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from scenarios import errors, options, session
from scenarios.explore_report import page_of, show_all
from scenarios.progress import Progress
from scenarios.record import Record
from scenarios.subject import Subject, subject

MODELS = ("sc", "tso", "pso")
SECONDS = 30.0
NEVER = 1 << 60
HELP = str(__doc__).replace("\n\n    ptelab", "\n\n\b\n    ptelab")  # click keeps such lines as they are


@dataclass(frozen=True)
class Plan:
    """What the options ask for. `broken`: the piece is left out."""

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

    def command(self, of: Subject, schedule: str | None = None) -> str:
        """The command line of this plan."""
        words = ["ptelab", "explore", of.name]
        if self.broken == of.is_claim:
            words.append("--twin" if of.is_claim else "--fixed")
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
    others: dict[str, str] = field(default_factory=dict)  # memory model -> verdict, where the twin must show nothing

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
            "knob": self.of.knob if self.plan.broken else None,
            "memory": self.plan.memory,
            "policy": self.of.policy,
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
        }


def machine_for(of: Subject, plan: Plan, crash_at: int = 0) -> Any:
    """The explored machine of a subject."""
    from workers.explorer import ExploredMachine
    from workers.instruments import Instruments

    knobs = (of.knob,) if plan.broken else ()
    tools = Instruments(online=True, knobs=knobs, settings=of.settings)
    return ExploredMachine(of.scene, of.policy, tools, plan.memory, crash_at, plan.races and not plan.broken)


def explore(of: Subject, plan: Plan, progress: Any = lambda verdict: None) -> Finding:
    """Search; if something fails, make it short and trace it. Raises UserError if the program is too large."""
    from emulator.engines.store_buffer import TooManyTasks
    from workers.hunt import Budget, Verdict, hunt, portfolio, search

    budget = Budget(plan.seconds, plan.executions)
    total, crash = Verdict(), 0
    try:
        while True:
            crash += of.crashes
            machine = machine_for(of, plan, crash)
            lots = plan.seed if plan.broken or plan.jobs > 1 else None  # those who draw lots prove nothing
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
    from workers.counterexample import shrink, trace_of

    found.example = shrink(machine, found.verdict.failure, found.of.detectors)
    outcome, found.trace = trace_of(machine, found.example, found.plan.command(found.of, found.example.schedule))
    found.lines = _report(machine, outcome, found.trace)
    return found


def _report(machine: Any, outcome: Any, trace: Any) -> list[str]:
    """What is said of a failure that no detector has seen."""
    from workers.counterexample import waits_of
    from workers.data_race import DataRace, data_race_lines, why_unordered
    from workers.deadlock import deadlock_lines

    if outcome.what == "deadlock":
        return deadlock_lines(machine.segment.views, machine.geometry, waits_of(machine))
    if outcome.what == "data-race":
        first, second = (next(a for a in trace.accesses if a.step == step) for step in trace.guilty)
        why = why_unordered(first, second, trace.tasks)
        return data_race_lines(DataRace(first.field, first.index, first, second, why), trace.tasks, trace.levels)
    if outcome.violation is not None:
        seen = outcome.violation
        return [f"VIOLATION  {seen.detector}, seen by CPU {seen.cpu}", f"  {seen.saw}", f"  wrong, because {seen.why}"]
    if outcome.broken:
        return [f"BROKEN  {outcome.broken}"]
    if outcome.ended == "endless":
        return ["ENDLESS  a loop that changes what it reads never comes to its end"]
    return [f"AUDIT  {name}: {count} wrong at the end" for name, count in (outcome.checks or {}).items() if count]


def _watch(bar: Progress, name: str, seconds: float) -> Any:
    """A callback that shows how far a search is."""

    def update(verdict: Any) -> None:
        if not verdict.bounds:
            return
        rate = verdict.executions / max(verdict.seconds, 1e-9)
        bound = len(verdict.bounds) - 1
        now = verdict.bounds[-1]
        about = f" of about {now / verdict.covered:,.0f}" if verdict.covered > 0.001 else ""
        text = f"bound {bound}: {now:,}{about} executions, {rate:,.0f}/s"
        bar.update(min(1.0, verdict.seconds / seconds), text)

    return update


# --- the command ----------------------------------------------------------------------------------------------------


def run_one(of: Subject, plan: Plan, schedule: str | None, html: str | None, record: Record) -> list[Finding]:
    """Explore one subject, or run one schedule of it; enter it into the record."""
    if schedule is not None:
        found = replay(of, plan, "" if schedule == "-" else schedule)
    else:
        with Progress(of.name) as bar:
            found = explore(of, plan, _watch(bar, of.name, plan.seconds))
            if plan.broken and found.example is not None and plan.memory == of.memory:
                for memory in of.spared:
                    other = explore(of, replace(plan, memory=memory, jobs=1), _watch(bar, memory, plan.seconds))
                    found.others[memory] = other.verdict.word
    enter(record, found)
    if html is not None:
        Path(html).write_text(page_of(found))
    return [found]


def replay(of: Subject, plan: Plan, schedule: str) -> Finding:
    """Run a schedule. Raises UserError if it does not fit."""
    from workers.counterexample import counterexample, scheduled, trace_of
    from workers.hunt import Verdict
    from workers.schedule import DoesNotFit, parse

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
    found.lines = _report(machine, outcome, found.trace)
    return found


def enter(record: Record, found: Finding) -> None:
    """Enter a finding into the record."""
    from workers.story import story_of

    row = found.row()
    if found.trace is not None:
        row["story"] = story_of(found.trace).as_json()
        row["report"] = found.lines
        if found.verdict.word == "fail":
            record.found.append(f"{found.of.name}: {found.what}")
    elif not found.verdict.passed:
        record.inconclusive = True
    record.rows.append(row)


@click.command("explore", help=HELP, short_help="Try every interleaving of a small program.")
@click.argument("name")
@click.option("--fixed", is_flag=True, help="A race with its piece in place.")
@click.option("--twin", is_flag=True, help="A claim with a piece left out.")
@click.option("--memory", default=None, help=f"{', '.join(MODELS)}. [the subject's own]")
@click.option("--bound", default=None, help="At most so many preemptions. [as many as the time allows]")
@click.option("--seconds", default=None, help="Give up after so long. [30; with all: 4 or 6 for a proof]")
@click.option(
    "--executions", default=str(NEVER), callback=options.number(1, NEVER, whole=True), help="Or after so many."
)
@click.option("--seed", default="0", callback=options.number(0, 2**31, whole=True), help="Of those that draw lots. [0]")
@click.option("--target", default="", metavar="F[,F]", help="Preempt only in these kernel functions.")
@click.option("--schedule", default=None, metavar="S", help="Run this one execution.")
@click.option("--data-races/--no-data-races", "races", default=True, help="Look for data races as well. [yes]")
@click.option("--html", default=None, metavar="FILE", help="Write the report as one HTML page.")
@click.option("--write", default=None, metavar="FILE", help="With all: write the table of claims (docs/claims.md).")
@click.option("--json", "json_file", metavar="FILE", help="Write the results as JSON; - is stdout.")
def explore_command(
    name: str,
    fixed: bool,
    twin: bool,
    memory: str | None,
    bound: str | None,
    seconds: str | None,
    executions: int,
    seed: int,
    target: str,
    schedule: str | None,
    races: bool,
    html: str | None,
    write: str | None,
    json_file: str | None,
) -> int:
    """Run it; the exit status."""
    from scenarios.record import check_writable

    if memory is not None and memory not in MODELS:
        raise errors.UserError(f"unknown memory model '{memory}'; known: {', '.join(MODELS)}")
    if bound is not None and not bound.isdecimal():
        raise errors.UserError(f"--bound '{bound}' is not a number of preemptions; known: 0 and above")
    limit = None if seconds is None else _seconds(seconds)
    for file in (html, write):
        check_writable(file)
    lab = options.Lab(engine="explore", seed=seed, json_file=json_file, checks="online")
    lab.choose_engine()
    record = Record(f"explore {name}", seed)
    findings: list[Finding] = []
    if name == "all":
        from scenarios.explore_all import conduct_all

        return conduct_all(record, lab, limit, write)
    of = subject(name)
    if fixed and of.is_claim:
        raise errors.UserError(f"{name} is a claim, which is whole as it is; --twin leaves its piece out")
    if twin and not of.is_claim:
        raise errors.UserError(f"{name} is a race, which has its piece left out; --fixed puts it in place")
    most = of.bound if bound is None and of.is_claim else None if bound is None else int(bound)
    functions = tuple(filter(None, (word.strip() for word in target.split(","))))
    broken = twin if of.is_claim else not fixed
    plan = Plan(
        broken,
        memory or of.memory,
        most,
        bound is not None,
        limit or SECONDS,
        int(executions),
        seed,
        2,
        functions,
        races,
    )
    return session.conduct(
        record,
        lab,
        lambda: findings.extend(run_one(of, plan, schedule, html, record)),
        lambda: show_all(findings),
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 86_400:
        raise errors.UserError(f"--seconds '{text}' is out of range; known: a number from 0.01 to 86400")
    return value
