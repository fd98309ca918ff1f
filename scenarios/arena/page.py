"""docs/arena.md: its tables, as the command prints them, each with the command that prints it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence

from scenarios.arena import tables
from scenarios.arena.figures import Row, key
from scenarios.session.places import filled
from scenarios.session.record import commit, processor_model
from scenarios.session.style import Style, styled

SHOWN = (
    "sweep",
    "pieces-64k",
    "pieces-4k",
    "free-reclaimed",
    "one-slot",
    "refault",
    "multi-fault",
    "shared-table",
    "disjoint-munmap",
)
SUMMARY: dict[str, Callable[[Sequence[Row]], None]] = {
    "given back": tables.show_given_back,
    "costs": tables.show_costs,
    "rules": tables.show_rules,
    "cover letter": tables.show_cover_letter,
    "kept": tables.show_kept,
}


def page_tables(rows: Sequence[Row], scale: int, repeat: int) -> dict[str, str]:
    """Each table of the page by the name of its place."""
    found = {name: _block("ptelab arena", show, rows) for name, show in SUMMARY.items()}
    for name in SHOWN:
        cases = [case for case in dict.fromkeys(map(key, rows)) if case[0] == name]
        ends = dict.fromkeys([*cases[:1], *cases[-1:]])  # of many numbers of CPUs the fewest and the most
        of = [[row for row in rows if key(row) == case] for case in ends]
        found[name] = "".join(_block(f"ptelab arena --workload {name}", tables.show_workload, mine) for mine in of)
    where = f"{len(os.sched_getaffinity(0))} processors ({processor_model()}), load {os.getloadavg()[0]:.0f}"
    where += f", commit {(commit() or 'unknown')[:12]}"
    return found | {"where": f"Scale {scale}, {repeat} repeats where time counts,\n{where}.\n"}


def _block(command: str, show: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> str:
    """What `show` prints of the rows, behind its command, as a block of the page."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), styled(Style()):
        show(rows)
    lines = [f"$ {command}", "", *printed.getvalue().rstrip().splitlines()]
    return "".join(f"    {line}".rstrip() + "\n" for line in lines) + "\n"


def written(text: str, rows: Sequence[Row], scale: int, repeat: int) -> str:
    """The page with its tables. Raises UserError if it lacks the place of one."""
    return filled(text, page_tables(rows, scale, repeat))
