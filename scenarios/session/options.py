"""Options that several scenarios share, checked where they enter: a bad one is one line that says what is known."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import click
from click.shell_completion import CompletionItem

from emulator import engine as engines
from emulator.engine import ENGINES
from emulator.knobs import KNOBS
from emulator.policy.policies import POLICIES, families_of
from emulator.watch.points import COORDINATOR_POINTS, POINTS
from scenarios.session.errors import UserError, unknown
from scenarios.session.files import output_file, take_stdout
from scenarios.session.record import prepare_page
from scenarios.session.style import FORMATS, NARROWEST, WIDEST, WIDTH, ask, style
from workers.instruments import Instruments, Stop

MAX_CPUS = 256
LONGEST_NUMBER = 20  # digits
MODELS = ("sc", "tso", "pso", "arm")  # memory models of the explorer, each weaker than those before
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def completing(known: Iterable[str], lists: bool = False) -> Callable[..., list[CompletionItem]]:
    """What click asks when a shell completes a name of `known`, or the last one of a list of them."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, word = incomplete.rpartition(",") if lists else ("", "", incomplete)
        return [CompletionItem(f"{before}{comma}{name}") for name in known if name.startswith(word)]

    return complete


def one_of(kind: str, known: Any, optional: bool = False) -> dict[str, Any]:
    """For click.option: one name of `known`, or none at all if that is `optional`; a shell completes it."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value not in known and not (optional and value is None):
            raise unknown(kind, str(value), known)
        return value

    return {"callback": check, "metavar": "NAME", "shell_complete": completing(known)}


def some_of(kind: str, known: Any, at_least: int = 0) -> dict[str, Any]:
    """For click.option: a comma-separated list of names of `known`, none twice; a shell completes it."""

    def check(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
        names = names_of(kind, known, value)
        if len(names) < at_least:
            raise UserError(f"no {kind} given; known: {', '.join(known)}")
        return names

    return {"callback": check, "metavar": "NAME,...", "shell_complete": completing(known, lists=True)}


def names_of(kind: str, known: Any, text: str) -> list[str]:
    """The names of a comma-separated list, none twice. Raises UserError for one that is not known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown(kind, name, known, listed=LISTED.get(kind, ""))
    return list(dict.fromkeys(names))


LISTED = {  # what shows all names of a kind
    "policy": "ptelab list policies",
    "knob": "ptelab list knobs",
    "race": "ptelab list races",
    "barrier": "docs/explore.md",
    "verb": "ptelab help traces",
}


REST = "ptelab.rest"  # in a context's meta: the words behind the option of takes_rest, None if it was not given


def takes_rest(option: str) -> type[click.Command]:
    """A class of commands whose `option` takes the rest of the line, options included."""

    class TakesRest(click.Command):
        """A command with such an option."""

        def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
            ctx.meta[REST] = None
            if option in args:
                at = args.index(option)
                args, rest = args[:at], args[at + 1 :]
                ctx.meta[REST] = rest[1:] if rest[:1] == ["--"] else rest
            return super().parse_args(ctx, args)

    return TakesRest


def digits(word: str) -> int | None:
    """The number that a word of decimal digits is; None if it is none, or longer than any number here."""
    return int(word) if word.isdecimal() and len(word) <= LONGEST_NUMBER else None


def cpu_counts(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    """A click callback for a comma-separated list of CPU counts."""
    counts = []
    for word in value.split(","):
        count = digits(word.strip())
        if count is None or not 1 <= count <= MAX_CPUS:
            raise UserError(
                f"--cpus '{word.strip()}' is not a number of CPUs; known: 1 to {MAX_CPUS}, separated by commas"
            )
        counts.append(count)
    return list(dict.fromkeys(counts))


def number(low: float, high: float, whole: bool = False) -> Callable[..., float | None]:
    """A click callback for a number in [low, high]; None if there is none, and no default."""

    def check(context: click.Context, parameter: click.Parameter, value: str | float | None) -> float | None:
        if value is None:
            return None
        try:
            result = int(value) if whole else float(value)
        except ValueError:
            result = float("nan")
        if not low <= result <= high:
            kind = "a whole number" if whole else "a number"
            raise UserError(f"{parameter.opts[0]} '{value}' is out of range; known: {kind} from {low:g} to {high:g}")
        return result

    return check


def percent(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A click callback for a number of per cent, with its sign or without. Raises UserError."""
    if value is None:
        return None
    try:
        number = float(value.strip().removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1000:
        raise UserError(f"{parameter.opts[0]} '{value}' is no share; known: per cent from 0 to 1000, as 5% or 5")
    return number


def size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """A click callback for a size in bytes with an optional K, M, G or T."""
    text = str(value).strip().upper().removesuffix("B").removesuffix("I")
    number, unit = (text[:-1], text[-1]) if text and text[-1] in "KMGT" else (text, "")
    if not (count := digits(number)):
        raise UserError(f"{parameter.opts[0]} '{value}' is not a size; known: a number with K, M, G or T")
    return count * _UNITS[unit]


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, which the command gets as `json_file`, and --html and `style_options`, of which it need not know.

    Record.write carries out what concerns files.
    """

    def page(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            prepare_page(value)
            output_file(context, parameter, value)

    json_option = click.option(
        "--json", "json_file", metavar="FILE", callback=output_file, help="Write the results as JSON; - is stdout."
    )
    html_option = click.option(
        "--html", metavar="FILE", expose_value=False, callback=page, help="Write a page with pictures."
    )
    return json_option(html_option(style_options(function)))


def style_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --format and --width, which report carries out, so that no command has to know of them."""
    format_option = click.option(
        "--format",
        default=FORMATS[0],
        metavar="NAME",
        expose_value=False,
        callback=_format,
        shell_complete=completing(FORMATS),
        help="text, markdown, or csv: a line per measurement. [text]",
    )
    width_option = click.option(
        "--width",
        metavar="N",
        expose_value=False,
        callback=_width,
        help=f"Columns of tables; 72 suits a mail. [the terminal's, {WIDTH} at most]",
    )
    return format_option(width_option(function))


def _width(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    width = number(NARROWEST, WIDEST, whole=True)(context, parameter, value)
    if width is not None:
        ask(replace(style(), width=int(width)))


def _format(context: click.Context, parameter: click.Parameter, value: str) -> None:
    if value not in FORMATS:
        raise unknown("format", value, FORMATS)
    if value == "csv":
        take_stdout(context, "--format csv")
    ask(replace(style(), format=value))


CHECKS = ("off", "audit", "online")
PERTURB = 64  # --perturb without a number: one point in so many is delayed


@dataclass(frozen=True)
class Lab:
    """What the shared options say. `stops` are (option, CPU or -1 for the coordinator, point, nth, seconds or None)."""

    policies: tuple[str, ...] = ("none", "refcount")
    engine: str = ENGINES[0]
    seed: int = 0
    json_file: str | None = None
    checks: str = "audit"
    knobs: tuple[str, ...] = ()
    perturb: int = 0
    stops: tuple[tuple[str, int, str, int, float | None], ...] = ()
    bodies_apart: bool = False  # the build for tables by the million, engines/bodies.py

    @property
    def needs_debug(self) -> bool:
        """True if only the debug build can do it."""
        return self.checks == "online" or bool(self.knobs or self.perturb or self.stops)

    def choose_engine(self) -> None:
        """Select engine and build of this process."""
        families = families_of(self.policies) | ({engines.BODIES} if self.bodies_apart else set())
        engines.choose(self.engine, self.needs_debug or engines.debug(), families)

    def check_stops(self, cpus: int) -> None:
        """Refuse to stop a CPU that a machine of so many does not have. Raises UserError."""
        for option, cpu, *_ in self.stops:
            if cpu >= cpus:
                known = f"0 to {cpus - 1}" if cpus > 1 else "0"
                raise UserError(f"{option}: there is no CPU {cpu}; known: {known}, and coordinator")

    def instruments(self, cpus: int) -> Any:
        """For a machine of so many CPUs. Raises UserError if one is to be stopped that is not there."""
        self.check_stops(cpus)
        stops = [Stop(cpus if cpu < 0 else cpu, point, nth, seconds) for _, cpu, point, nth, seconds in self.stops]
        return Instruments(
            online=self.checks == "online",
            knobs=self.knobs,
            perturb=self.perturb,
            seed=self.seed,
            stops=tuple(stops),
        )


def _complete_stop(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell may complete CPU@POINT to."""
    who, at, point = incomplete.partition("@")
    known = COORDINATOR_POINTS if who == "coordinator" else POINTS
    return [CompletionItem(f"{who}@{name}") for name in known if at and name.startswith(point)]


def _split_stop(option: str, text: str) -> tuple[int, str, str]:
    """CPU, point and the rest of CPU@POINT[:rest]."""
    cpu, at, rest = text.partition("@")
    point, _, rest = rest.partition(":")
    if not at or not (cpu == "coordinator" or digits(cpu) is not None):
        raise UserError(
            f"{option} '{text}' is not CPU@POINT; known: a number or coordinator, @, a point (ptelab points)"
        )
    if point not in POINTS:
        raise UserError(f"{option}: {unknown('point', point, POINTS, listed='ptelab points')}")
    if cpu == "coordinator" and point not in COORDINATOR_POINTS:
        raise UserError(
            f"{option}: the coordinator does not pass {point}; known for it: {', '.join(COORDINATOR_POINTS)}"
        )
    if cpu != "coordinator" and point.startswith("coordinator."):
        raise UserError(f"{option}: no CPU passes {point}; known: coordinator@{point}")
    return (-1 if cpu == "coordinator" else int(cpu)), point, rest


def _parse_kill(text: str) -> tuple[str, int, str, int, float | None]:
    cpu, point, rest = _split_stop("--kill", text)
    if rest and not digits(rest):
        raise UserError(f"--kill '{text}': '{rest}' is not a number of passes; known: 1 and above")
    return "--kill", cpu, point, int(rest or 1), None


def _parse_stall(text: str) -> tuple[str, int, str, int, float | None]:
    cpu, point, rest = _split_stop("--stall", text)
    try:
        seconds = float(rest)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise UserError(
            f"--stall '{text}': '{rest}' is not a number of seconds; known: CPU@POINT:SECONDS, 3600 at most"
        )
    return "--stall", cpu, point, 1, seconds


def _parse_stops(kill: tuple[str, ...], stall: tuple[str, ...]) -> tuple[Any, ...]:
    """The stops of all --kill and --stall, each at a point of its own."""
    stops = (*map(_parse_kill, kill), *map(_parse_stall, stall))
    points = [point for _, _, point, _, _ in stops]
    for point in points:
        if points.count(point) > 1:
            raise UserError(f"{point} is named {points.count(point)} times; known: one --kill or --stall for a point")
    return stops


def engine_options(function: Callable[..., Any], default_checks: str = "audit") -> Callable[..., Any]:
    """Add what a run of machines takes, from --engine to --stall, and `output_options`; the command gets one `lab`."""

    @functools.wraps(function)
    def wrapped(
        *arguments: Any,
        engine: str,
        seed: int,
        json_file: str | None,
        checks: str,
        knob: list[str],
        perturb: int,
        kill: tuple[str, ...],
        stall: tuple[str, ...],
        **others: Any,
    ) -> Any:
        debug = bool(checks == "online" or knob or perturb or kill or stall)
        named = others.get("policy") or ()
        named = [named] if isinstance(named, str) else named
        engines.choose(engine, debug or engines.debug(), families_of(named))
        lab = Lab(
            engine=engine,
            seed=seed,
            json_file=json_file,
            checks=checks,
            knobs=tuple(knob),
            perturb=int(perturb),
            stops=_parse_stops(kill, stall),
        )
        return function(*arguments, lab=lab, **others)

    result: Callable[..., Any] = wrapped
    for option in (
        click.option(
            "--stall",
            multiple=True,
            shell_complete=_complete_stop,
            metavar="CPU@POINT:SECONDS",
            help="Stop a process at a point.",
        ),
        click.option(
            "--kill",
            multiple=True,
            shell_complete=_complete_stop,
            metavar="CPU@POINT[:NTH]",
            help="Kill a process at a point.",
        ),
        click.option(
            "--perturb",
            is_flag=False,
            flag_value=str(PERTURB),
            default="0",
            metavar="N",
            callback=number(0, 1 << 20, whole=True),
            help=f"Delay one point in N at random. [no; {PERTURB}]",
        ),
        click.option(
            "--knob",
            default="",
            **some_of("knob", KNOBS),
            help="Leave out pieces of the protocol (ptelab list knobs).",
        ),
        click.option(
            "--checks",
            default=default_checks,
            **one_of("checks", CHECKS),
            help=f"{', '.join(CHECKS)}. [{default_checks}]",
        ),
        output_options,
        click.option(
            "--seed",
            default="0",
            metavar="N",
            callback=number(0, 2**62, whole=True),
            help="Seed of what is random. [0]",
        ),
        click.option(
            "--engine",
            default=ENGINES[0],
            **one_of("engine", ENGINES),
            help=f"{' or '.join(ENGINES)}. [native]",
        ),
    ):
        result = option(result)
    return result


def shared_with(policies: str = "none,refcount", checks: str = "audit") -> Callable[..., Any]:
    """`engine_options` and --policy, which goes into the lab, with these defaults."""

    shown = "all" if policies == ",".join(POLICIES) else policies

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_policies(*arguments: Any, lab: Lab, policy: list[str], **others: Any) -> Any:
            return function(*arguments, lab=replace(lab, policies=tuple(policy)), **others)

        option = click.option(
            "--policy",
            default=policies,
            **some_of("policy", POLICIES, at_least=1),
            help=f"Policies to compare. [{shown}]",
        )
        return option(engine_options(with_policies, checks))

    return decorate


shared = shared_with()
