"""All there is to say of one process: its reading, what each design gives back, causes and remedies."""

from __future__ import annotations

import pwd
from collections.abc import Mapping as Names
from dataclasses import asdict, dataclass
from typing import Any

from scenarios.advice.designs import Gain, gains
from scenarios.advice.needed import KB_OF_TABLE
from scenarios.advice.reading import Reading
from scenarios.advice.remedies import LARGE, Case, Remedy, allocator, remedies, settings_wanted
from scenarios.advice.sampled import Sampled
from workers.host.process_files import environment_of

_SHARE = 0.02  # of the machine's memory, in page tables of one process
KEPT_MAPPINGS = 20


@dataclass(frozen=True)
class Advice:
    """What was found of one process. `last` is the last look at it, if `reading` is the one with the most waste."""

    reading: Reading
    gains: list[Gain]
    remedies: list[Remedy]
    level: str
    allocator: str
    sampled: Sampled | None = None
    last: Reading | None = None
    moment: float | None = None


def advise(
    reading: Reading,
    facts: Names[str, str],
    memory_kb: int,
    sampled: Sampled | None = None,
    last: Reading | None = None,
    moment: float | None = None,
) -> Advice:
    """The advice that follows from a reading; `memory_kb` is the machine's memory."""
    name = allocator(reading)
    settings = environment_of(reading.status.pid, settings_wanted()) if name else {}
    case = Case(reading, settings, sampled)
    wasted = reading.waste > LARGE and reading.held > 2 * (reading.held - reading.waste)
    level = "warn" if wasted or reading.held > _SHARE * memory_kb else "notice" if case.wasteful else "ok"
    return Advice(reading, gains(reading, facts), remedies(case), level, name, sampled, last, moment)


def user_of(uid: int) -> str:
    """The name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def row_of(advice: Advice) -> dict[str, Any]:
    """The advice as a row of the record; docs/json.md says what the keys mean."""
    reading, status = advice.reading, advice.reading.status
    return {
        "row": "process",
        "pid": status.pid,
        "name": status.name,
        "user": user_of(status.uid),
        "method": reading.method,
        "seconds": reading.seconds,
        "held_kb": reading.held,
        "held_before_kb": reading.held_before,
        "held_after_kb": reading.held_after,
        "error_kb": reading.error,
        "needed_low_kb": reading.needed_low,
        "needed_high_kb": reading.needed_high,
        "needed": _needed(reading),
        "waste_kb": reading.waste,
        "waste_low_kb": reading.waste_low,
        "waste_high_kb": reading.waste_high,
        "empty_upper_high_kb": reading.upper_empty if reading.needed else None,
        "rss_kb": status.rss,
        "swap_kb": status.swap,
        "virt_kb": status.size,
        "level": advice.level,
        "allocator": advice.allocator or None,
        "gives_back": [dict(zip(("design", "low_kb", "high_kb", "why"), gain, strict=True)) for gain in advice.gains],
        "remedies": [one._asdict() for one in advice.remedies],
        "mappings": _mappings(reading),
        "sample": _sample(advice.sampled),
        "missing": list(reading.missing),
        **_last(advice),
    }


def _needed(reading: Reading) -> dict[str, int] | None:
    """The tables that are needed, in kB by level and by what keeps them."""
    if reading.needed is None:
        return None
    tables = asdict(reading.needed)
    pages = tables.pop("pages")
    return {**{f"{name}_kb": KB_OF_TABLE * count for name, count in tables.items()}, "pages": pages}


def _mappings(reading: Reading) -> list[dict[str, Any]]:
    """The mappings that may hold most empty tables, and then those that need most."""
    ordered = sorted(reading.mappings, key=lambda one: (-one.may_waste_high, -one.used, one.vma.start))
    return [
        {
            "start": one.vma.start,
            "end": one.vma.end,
            "perms": one.vma.perms,
            "name": one.vma.name,
            "slots": one.slots,
            "slots_used": one.used,
            "pages": one.pages,
            "waste_low_kb": one.may_waste_low * KB_OF_TABLE,
            "waste_high_kb": one.may_waste_high * KB_OF_TABLE,
        }
        for one in ordered[:KEPT_MAPPINGS]
        if one.may_waste_high or one.used
    ]


def _sample(sampled: Sampled | None) -> dict[str, Any] | None:
    if sampled is None:
        return None
    return {**asdict(sampled), "covering_share": sampled.covering_share}


def _last(advice: Advice) -> dict[str, Any]:
    """Of a command that was run: when this was, and how it was at the end."""
    if advice.last is None:
        return {}
    return {
        "moment_seconds": advice.moment,
        "last_held_kb": advice.last.held,
        "last_needed_low_kb": advice.last.needed_low,
        "last_waste_kb": advice.last.waste,
    }
