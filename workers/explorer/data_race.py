"""A data race: two accesses to one word that nothing orders, at least one a store and at least one plain."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workers.telling.access import Access
from workers.telling.phrases import Names, noun

WORD_BYTES = 8


@dataclass(frozen=True)
class DataRace:
    """The word, the two accesses in the order of this execution, and why nothing orders them."""

    field: str
    index: int
    first: Access
    second: Access
    why: str

    def as_json(self) -> dict[str, Any]:
        """The record."""
        return asdict(self)


def kind_of(access: Access) -> str:
    """How KCSAN names the kind of an access: read, write, marked or not, a read-modify-write."""
    if access.op in ("plain load", "or_words", "data_race"):
        return "read"
    if access.op in ("plain store", "memset"):
        return "write"
    if access.op in ("read_once", "smp_load_acquire"):
        return "read (marked)"
    return "write (marked)" if access.op in ("write_once", "smp_store_release") else "read-write (marked)"


def is_plain(access: Access) -> bool:
    """True for an access that the compiler may tear, repeat or move."""
    return "marked" not in kind_of(access)


def why_unordered(first: Access, second: Access, tasks: Sequence[str]) -> str:
    """One sentence: which release or acquire is missing between the two."""
    them = tasks[first.task], tasks[second.task]
    plain = [access for access in (first, second) if is_plain(access)]
    if len(plain) == 2:
        start = "both are plain"
    else:
        marked = first if plain[0] is second else second
        start = f"{marked.op} in {marked.teller[0]} is marked, but the {plain[0].op} in {plain[0].teller[0]} is not"
    return (
        f"{start}, and nothing that {them[0]} released after its access (a lock, smp_store_release, a full barrier) "
        f"was acquired by {them[1]} before its own"
    )


def _access_lines(access: Access, what: str, tasks: Sequence[str]) -> Iterator[str]:
    """One side: kind, word, task, and the call chain."""
    during = f" in {access.instruction}" if access.instruction else ""
    size = f"{WORD_BYTES * access.length} bytes"
    yield f"{kind_of(access)} to {what} of {size} by {tasks[access.task]}{during}, step {access.step}:"
    callers = access.callers or (f"{access.function} {access.source}",)
    for caller in callers:
        function, _, position = caller.partition(" ")
        if not position and function == access.function:
            position = access.source
        yield f" {function:<28} {position}".rstrip()


def data_race_lines(race: DataRace, names: Names) -> list[str]:
    """The report, in the shape of KCSAN's: the later access first."""
    first, second = race.first, race.second
    word = f"{race.field}[{race.index}]"
    name = noun(race.field, race.index, names)
    what = word if name == word else f"{word} ({name})"
    functions = sorted({first.teller[0], second.teller[0]})
    lines = [f"BUG: KCSAN: data-race in {' / '.join(functions)}", ""]
    lines += [*_access_lines(second, what, names.tasks), "", *_access_lines(first, what, names.tasks), ""]
    changed = [access for access in (first, second) if access.old != access.new]
    if changed:
        lines.append(f"value changed: {changed[0].old:#x} -> {changed[-1].new:#x}")
    return lines + textwrap.wrap(f"no happens-before: {race.why}", 100)
