"""`ptelab list` and `ptelab points`: the names that other commands take, and what is said of each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import click

from emulator.knobs import KNOBS, SETTINGS
from emulator.policy.policies import POLICIES
from emulator.watch.points import POINTS
from scenarios.cli import SCENARIOS
from scenarios.session import errors
from scenarios.session.options import completing
from scenarios.session.style import default_width
from scenarios.zoo.race import RACES, load_race


def _races() -> dict[str, str]:
    return {f"race/{name}": load_race(name).text.splitlines()[0] for name in RACES}


def _claims() -> dict[str, str]:
    from scenarios.proofs.claims import CLAIMS

    return {claim.name: claim.text for claim in CLAIMS.values()}


# what `list` shows: name -> the names with what is said of each; those of ASKED only where they are asked for
LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "scenarios": lambda: {name: question for name, (_, question) in SCENARIOS.items()},
    "policies": lambda: {name: policy.title for name, policy in POLICIES.items()},
    "knobs": lambda: {name: knob.effect for name, knob in KNOBS.items()},
    "settings": lambda: {name: setting.effect for name, setting in SETTINGS.items()},
    "engines": lambda: {"native": "compiled, LLVM atomics", "semaphore": "plain Python, POSIX semaphores"},
    "races": _races,
    "claims": _claims,
}
ASKED = ("races", "claims")


def _entry(name: str, text: str, room: int) -> str:
    """A name and its text, wrapped beside it, or below where the name is longer than the room."""
    lines = textwrap.wrap(text, max(default_width() - room - 4, 20), break_on_hyphens=False)
    first = [f"  {name:<{room}}  {lines.pop(0)}"] if len(name) <= room and lines else [f"  {name}"]
    return "\n".join([*first, *(" " * (room + 4) + line for line in lines)])


@click.command("list")
@click.argument("what", nargs=-1, shell_complete=completing(LISTS))
def list_command(what: tuple[str, ...]) -> None:
    """List scenarios, policies, knobs, settings and engines; `list races claims`: those."""
    what = tuple(name for words in what for name in words.split(","))
    for name in what:
        if name not in LISTS:
            raise errors.unknown("list", name, LISTS)
    parts = {name: LISTS[name]() for name in what or LISTS if what or name not in ASKED}
    room = max(len(name) for names in parts.values() for name in names)
    for title, names in parts.items():
        click.echo(title)
        for name, text in names.items():
            click.echo(_entry(name, text, room))
    if not what:
        click.echo(f"{' and '.join(ASKED)}: ptelab list {' '.join(ASKED)}")


@click.command("points")
def points_command() -> None:
    """List the points where --kill and --stall can stop a process."""
    room = max(map(len, POINTS))
    for name, point in POINTS.items():
        needs = f" ({point.needs})" if point.needs else ""
        click.echo(_entry(name, f"{point.holds}{needs}; {point.where}", room))
