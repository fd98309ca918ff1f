"""The tables of docs/races.md that say what the zoo is: made from the knobs, the settings and the races.

Each stands between two comments of the document, `<!-- knobs -->` and `<!-- end of knobs -->`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from emulator.knobs import KNOBS, SETTINGS
from scenarios.session.places import filled
from scenarios.zoo.race import RACES, Race, load_race


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| ---", "|---").replace("--- |", "---|")


def _runs_on(race: Race) -> Iterator[str]:
    """What a race needs that others do not: its policy, its settings."""
    if race.policy != Race.policy:
        yield f"`{race.policy}`"
    for name, value in race.settings.items():
        yield f"`{name}` {value}"


def tables() -> dict[str, str]:
    """Each table by its name."""
    races = {name: load_race(name) for name in RACES}
    needs = {name: ", ".join(_runs_on(race)) for name, race in races.items()}
    return {
        "knobs": _table(
            ("knob", "what is different", "source"),
            ((f"`{knob.name}`", knob.effect, knob.source) for knob in KNOBS.values()),
        ),
        "races": _table(
            ("race", "seen by one of"),
            ((f"`{name}`", ", ".join(f"`{seen}`" for seen in race.detectors)) for name, race in races.items()),
        ),
        "machines": _table(
            ("race", "runs on", "why"),
            ((f"`{name}`", needs[name], race.why) for name, race in races.items() if needs[name]),
        ),
        "settings": _table(
            ("setting", "the machine"), ((f"`{setting.name}`", setting.effect) for setting in SETTINGS.values())
        ),
    }


def written(text: str) -> str:
    """A document with its tables as they are now. Raises UserError if it lacks the place of one."""
    return filled(text, tables())
