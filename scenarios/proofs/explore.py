"""Try every interleaving of a small program, or prove a bound; or repeat one execution by its schedule.

    ptelab explore race/NAME            leaves the piece out, tells the shortest schedule
    ptelab explore race/NAME --fixed    the same program with the piece in place
    ptelab explore claim/NAME           what is claimed of the protocol; --twin: its broken twin
    ptelab explore all                  the whole zoo and all claims

--knob and --without leave more pieces out, --policy runs the scene under another policy.

Exit status: 0 passed, 1 a violation was found, 2 usage, 3 internal, 4 inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from emulator.knobs import KNOBS
from emulator.policy.policies import POLICIES
from scenarios.proofs.explore_all import conduct_all
from scenarios.proofs.explore_report import show_all
from scenarios.proofs.finding import NEVER, SECONDS, Finding, Plan, enter, explore, replay
from scenarios.proofs.subject import names, subject
from scenarios.session import errors, options, session
from scenarios.session.files import output_file
from scenarios.session.options import MODELS
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from scenarios.zoo.race import Subject
from workers.telling.story import STORY_LINES, WHOLE

ALONE = (
    *("fixed", "twin", "knob", "without", "policy", "memory", "bound", "executions", "target", "schedule", "races"),
    *("events", "shard"),
)
HELP = str(__doc__).replace("\n\n    ptelab", "\n\n\b\n    ptelab")  # click keeps such lines as they are


def _watch(bar: Progress, name: str, plan: Plan) -> Any:
    """A callback that shows how far a search is: in its time, or in the bound that is its last."""

    most = 0.0  # an estimate of what a bound has may grow, and what is done does not get less

    def update(verdict: Any) -> None:
        nonlocal most
        if not verdict.bounds:
            return
        rate = verdict.executions / max(verdict.seconds, 1e-9)
        bound = len(verdict.bounds) - 1
        now = verdict.bounds[-1]
        about = f" of about {now / verdict.covered:,.0f}" if verdict.covered > 0.001 else ""
        text = f"bound {bound}: {now:,}{about} executions, {rate:,.0f}/s"
        share = verdict.covered if bound == plan.bound else 0.0
        most = max(most, min(1.0, max(share, verdict.seconds / plan.seconds)))
        bar.update(most, text)

    return update


def run_one(of: Subject, plan: Plan, schedule: str | None, record: Record) -> list[Finding]:
    """Explore one subject, or run one schedule of it; enter it into the record."""
    if schedule is not None:
        found = replay(of, plan, "" if schedule == "-" else schedule)
    else:
        with Progress(of.name) as bar:
            found = explore(of, plan, _watch(bar, of.name, plan))
            if plan.broken and found.example is not None and plan.memory == of.memory:
                for memory in of.spared:
                    other = explore(of, replace(plan, memory=memory, jobs=1), _watch(bar, memory, plan))
                    found.others[memory] = other.verdict.word
    enter(record, found)
    return [found]


def _events(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """A click callback for the events of a story."""
    return WHOLE if value == "all" else int(options.number(1, 1e9, whole=True)(context, parameter, value) or 0)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell may complete the name of a subject to."""
    return [CompletionItem(name) for name in ("all", *names()) if name.startswith(incomplete)]


@click.command("explore", help=HELP)
@click.argument("name", shell_complete=_complete)
@click.option("--fixed", is_flag=True, help="A race with its piece in place.")
@click.option("--twin", is_flag=True, help="A claim with a piece left out.")
@click.option(
    "--knob",
    default="",
    **options.some_of("knob", KNOBS),
    help="Leave out these pieces as well (ptelab list knobs).",
)
@click.option(
    "--without", default="", metavar="BARRIER,...", help="Leave out these barriers as well (names: ptelab barriers)."
)
@click.option(
    "--policy",
    default=None,
    **options.one_of("policy", POLICIES, optional=True),
    help="Policy of the machine. [the subject's own]",
)
@click.option(
    "--memory",
    default=None,
    **options.one_of("memory model", MODELS, optional=True),
    help=f"{', '.join(MODELS)}. [the subject's own]",
)
@click.option(
    "--bound", default=None, metavar="N", help="Preemptions of one execution, at most. [as many as the time allows]"
)
@click.option(
    "--seconds", default=None, metavar="N", help="Processor seconds of a search. [30; with all: 4 or 6 for a proof]"
)
@click.option(
    "--executions",
    default=str(NEVER),
    metavar="N",
    callback=options.number(1, NEVER, whole=True),
    help="Stop after N executions.",
)
@click.option(
    "--seed",
    default="0",
    metavar="N",
    callback=options.number(0, 2**31, whole=True),
    help="Seed of the strategies that choose at random. [0]",
)
@click.option("--target", default="", metavar="F[,F]", help="Preempt only in these kernel functions.")
@click.option("--schedule", default=None, metavar="S", help="Run this one execution.")
@click.option("--shard", multiple=True, metavar="P", help="Only below this prefix; - is all (ptelab help campaigns).")
@click.option("--data-races/--no-data-races", "races", default=True, help="Look for data races as well. [yes]")
@click.option("--events", default=str(STORY_LINES), metavar="N|all", callback=_events, help="Events of the story. [40]")
@options.output_options
@click.option(
    "--write", metavar="FILE", callback=output_file, help="With all: write the table of claims (docs/claims.md)."
)
def explore_command(
    name: str,
    fixed: bool,
    twin: bool,
    knob: list[str],
    without: str,
    policy: str | None,
    memory: str | None,
    bound: str | None,
    seconds: str | None,
    executions: int,
    seed: int,
    target: str,
    schedule: str | None,
    shard: tuple[str, ...],
    races: bool,
    events: int,
    write: str | None,
    json_file: str | None,
) -> int:
    """Run it; the exit status."""
    if bound is not None and not bound.isdecimal():
        raise errors.UserError(f"--bound '{bound}' is not a number of preemptions; known: 0 and above")
    limit = None if seconds is None else _seconds(seconds)
    lab = options.Lab(engine="explore", seed=seed, json_file=json_file, checks="online")
    lab.choose_engine()
    record = Record(f"explore {name}", seed)
    if name == "all":
        _refuse_unused(ALONE, "all")
        return conduct_all(record, lab, limit, write)
    _refuse_unused(("write",), name)
    of = subject(name)
    record.about = of.text
    most = None if bound is None else int(bound)
    plan = Plan(
        _broken(of, fixed, twin),
        memory or of.memory,
        bound=of.bound if most is None and of.is_claim else most,
        demanded=most is not None,
        seconds=limit or SECONDS,
        executions=int(executions),
        seed=seed,
        targets=_targets(target),
        races=races,
        events=events,
        knobs=tuple(knob),
        barriers=_barriers(without),
        policy=policy or of.policy,
        shards=shard,
    )
    findings: list[Finding] = []
    return session.conduct(
        record,
        lab,
        lambda: findings.extend(run_one(of, plan, schedule, record)),
        lambda: show_all(findings),
    )


def _refuse_unused(parameters: Sequence[str], name: str) -> None:
    """Raises UserError if an option was given that does nothing for this subject."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
        if given and parameter.name in parameters:
            raise errors.UserError(f"{parameter.opts[0]} does nothing with {name}")


def _targets(text: str) -> tuple[str, ...]:
    """The kernel functions of --target. Raises UserError for one that does not exist."""
    from workers.explorer.explored_machine import ExploredMachine  # noqa: F401 - every kernel is loaded
    from workers.explorer.tracer import kernel_functions

    words = tuple(filter(None, (word.strip() for word in text.split(","))))
    if words:
        known = kernel_functions()
        for name in words:
            if name not in known:
                raise errors.unknown("kernel function", name, sorted(known), listed="any @kernel of emulator/")
    return words


def _barriers(text: str) -> tuple[str, ...]:
    """The barriers of --without. Raises UserError for one that does not exist."""
    from workers.explorer.barriers import sites

    known = {site.name: site for site in sites()} if text else {}
    return tuple(options.names_of("barrier", known, text))


def _broken(of: Subject, fixed: bool, twin: bool) -> bool:
    """True if the piece is to be left out."""
    if fixed and of.is_claim:
        raise errors.UserError(f"{of.name} is a claim, which is whole as it is; --twin leaves its piece out")
    if twin and not of.is_claim:
        raise errors.UserError(f"{of.name} is a race, which has its piece left out; --fixed puts it in place")
    return twin if of.is_claim else not fixed


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 86_400:
        raise errors.UserError(f"--seconds '{text}' is out of range; known: a number from 0.01 to 86400")
    return value
