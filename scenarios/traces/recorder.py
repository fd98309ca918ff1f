"""record: what does the Linux under this process do with a memory trace, line by line?

The rows are those of replay, measured: the judge of the emulator on this host. A trace is followed several times, each
in a process of its own, and counts if all give the same rows.
"""

from __future__ import annotations

import sys

import click

from emulator.mm_types import PAGE_SIZE
from emulator.segment import available_bytes
from scenarios.session import errors
from scenarios.session.options import number
from scenarios.session.progress import note
from scenarios.session.record import write_file
from scenarios.traces.agreement import first_dependent, first_difference
from scenarios.traces.footprint import geometry_for
from scenarios.traces.trace import Trace, TraceError, parse, rows_of
from workers.host.fault_loop import HostUnavailable
from workers.host.host_record import record_program
from workers.telling.postmortem import MachineFailed

REPEAT = 3


class NotTheSame(Exception):
    """Two recordings of one trace differ; the text is where."""


def record(trace: Trace, repeat: int = REPEAT) -> list[str]:
    """The rows of a trace on this host. Raises NotTheSame, HostUnavailable, MachineFailed."""
    needed, available = geometry_for(trace.program(), trace.files).frames * PAGE_SIZE, available_bytes()
    if needed > available:
        raise HostUnavailable(f"the trace stores to {needed / 2**30:.1f} GiB, {available / 2**30:.1f} are free")
    return the_same([rows_of(trace, record_program(trace.program(), len(trace.operations))) for _ in range(repeat)])


def the_same(runs: list[list[str]]) -> list[str]:
    """The rows of recordings that are equal. Raises NotTheSame."""
    for run in runs[1:]:
        for first, other in zip(runs[0], run, strict=True):
            if first != other:
                raise NotTheSame(f"two recordings differ: {first!r} and {other!r}")
    return runs[0]


def _recorded(path: str, repeat: int) -> tuple[Trace, list[str]] | int:
    """A trace and its rows on this host, or the exit status."""
    try:
        trace = parse(path)
        return trace, record(trace, repeat)
    except (TraceError, HostUnavailable) as error:
        raise errors.UserError(str(error)) from None
    except NotTheSame as difference:
        note(f"{path}: {difference}")
        return errors.INCONCLUSIVE
    except MachineFailed as failure:
        note(str(failure))
        return errors.INTERNAL


def compare(path: str, rows: list[str]) -> int:
    """Say where the rows of a replay under `none` are not those of this host; the exit status."""
    recorded = _recorded(path, REPEAT)
    if isinstance(recorded, int):
        return recorded
    trace, theirs = recorded
    at = first_difference(trace, rows, theirs)
    if at is None:
        dependent = first_dependent(trace)
        note(f"this host has the same {len(rows)} rows; {dependent} in every column, the others but for VmPTE")
        return errors.OK
    note(f"line {trace.operations[at].line} differs: {trace.operations[at].text}")
    for who, lines in (("this host", theirs), ("ptelab", rows)):
        note(f"  {who:<10} {lines[at] if at < len(lines) else 'nothing'}")
    return errors.VIOLATION


@click.command("record")
@click.argument("file")
@click.option(
    "--repeat", default=str(REPEAT), callback=number(1, 1000, True), help="Recordings that must be equal. [3]"
)
@click.option("--out", metavar="FILE", help="Write the rows there. [stdout]")
def command(file: str, repeat: int, out: str | None) -> int:
    """What the Linux under this process does with a memory trace, line by line."""
    recorded = _recorded(file, int(repeat))
    if isinstance(recorded, int):
        return recorded
    text = "".join(f"{row}\n" for row in recorded[1])
    if out is None:
        sys.stdout.write(text)
        return errors.OK
    write_file(out, text)
    return errors.OK
