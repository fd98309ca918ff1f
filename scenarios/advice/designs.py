"""What each design for freeing page tables would give back of a process's empty ones, as it stands now."""

from __future__ import annotations

from collections.abc import Mapping as Names
from typing import NamedTuple

from scenarios.advice.needed import KB_OF_TABLE
from scenarios.advice.reading import Reading


class Gain(NamedTuple):
    """What a design gives back: kB at least and at most, and why so."""

    design: str
    low: int
    high: int
    why: str


def gains(reading: Reading, facts: Names[str, str]) -> list[Gain]:
    """A row per design, with the kernel's own rule among them. `facts` are those of this host's kernel."""
    tables_low, tables_high = reading.empty_pte_low, reading.waste_high if reading.missing else reading.waste
    zero = reading.needed.full_of_zero * KB_OF_TABLE if reading.needed else 0
    return [
        Gain("refcount", tables_low, tables_high, "v1: a table goes with its last entry, however that went"),
        Gain("async-scan", 0, _scannable(reading, tables_high), "RFC 2024: once in 100 ms, while its threads run"),
        Gain("two-counter", tables_low + zero, tables_high + zero, "RFC 2022: when asked; tables of zero pages, too"),
        Gain("pt-reclaim", 0, 0, _pt_reclaim(facts)),
        Gain("munmap, exit", reading.waste_low, tables_high, "any kernel, all levels"),
    ]


def _pt_reclaim(facts: Names[str, str]) -> str:
    """The row of Linux's own rule."""
    whose = {"yes": "this kernel", "no": "not in this kernel"}.get(facts["pt_reclaim"], "Linux 6.14 and later")
    return f"{whose}: looks only inside a MADV_DONTNEED of 2 MiB"


def _scannable(reading: Reading, most: int) -> int:
    """What the asynchronous scan can find: tables whose 2 MiB are all of one mapping, without huge pages."""
    inside = 0
    for one in reading.mappings:
        if not one.vma.flags & {"ht", "hg", "uw"}:
            edges = (one.vma.start % (1 << 21) != 0) + (one.vma.end % (1 << 21) != 0)
            inside += max(0, one.empty - edges)
    return min(most, inside * KB_OF_TABLE) if reading.mappings else most
