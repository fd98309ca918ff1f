"""What can be explored, by name: each claim, and each race of the zoo."""

from __future__ import annotations

from scenarios.session import errors
from scenarios.zoo.race import RACES, Subject, load_race


def names() -> list[str]:
    """All subjects: the claims first."""
    from scenarios.proofs.claims import CLAIMS

    return [*(claim.name for claim in CLAIMS.values()), *(f"race/{name}" for name in RACES)]


def subject(name: str) -> Subject:
    """A subject by name. Raises UserError."""
    from scenarios.proofs.claims import CLAIMS

    if name not in names():
        raise errors.unknown("subject", name, ["all", *names()], listed="ptelab list claims races")
    kind, _, short = name.partition("/")
    return load_race(short) if kind == "race" else CLAIMS[short]
