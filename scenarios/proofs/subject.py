"""What can be explored: each race of the zoo, and each claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scenarios.session import errors
from scenarios.zoo.race import RACES, load_race
from workers.programs.scene import Scene


@dataclass(frozen=True)
class Subject:
    """A scene, the knob that takes the piece away which it needs, and what is seen then.

    `memory` is the memory model it is about; the broken twin shows nothing under those of `spared`. With `crashes` the
    coordinator dies behind each of its steps in turn. `schedule` shows it where searches do not, or is empty.
    """

    name: str
    text: str
    scene: Scene
    knob: str
    detectors: tuple[str, ...]
    policy: str
    settings: Mapping[str, int]
    source: str
    memory: str = "sc"
    spared: tuple[str, ...] = ()
    bound: int | None = None
    crashes: bool = False
    schedule: str = ""

    @property
    def is_claim(self) -> bool:
        """True for a claim, which is explored as it is; a race is explored with its piece left out."""
        return self.name.startswith("claim/")


def names() -> list[str]:
    """All subjects: the claims first."""
    from scenarios.proofs.claims import CLAIMS

    return [*(f"claim/{name}" for name in CLAIMS), *(f"race/{name}" for name in RACES)]


def subject(name: str) -> Subject:
    """A subject by name. Raises UserError."""
    from scenarios.proofs.claims import CLAIMS

    if name not in names():
        raise errors.UserError(f"unknown subject '{name}'; known: all, {', '.join(names())}")
    kind, _, short = name.partition("/")
    if kind == "race":
        race, history = load_race(short)
        return Subject(
            name,
            history,
            race.scene,
            short,
            race.detectors,
            race.policy,
            race.settings,
            race.source,
            schedule=race.schedule,
        )
    claim = CLAIMS[short]
    return Subject(
        name,
        claim.sentence,
        claim.scene,
        claim.knob,
        claim.detectors,
        claim.policy,
        claim.settings,
        claim.source,
        claim.memory,
        claim.spared,
        claim.bound,
        claim.crashes,
    )
