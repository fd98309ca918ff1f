"""record: what does the Linux under this process do with a memory trace, line by line?

The rows are those of replay, measured: the judge of the emulator on this host. A trace is followed several times, each
in a process of its own, and counts if all give the same rows.
"""

from __future__ import annotations

import platform
import sys

import click

from emulator.mm_types import PAGE_SIZE
from emulator.segment import available_bytes
from scenarios.imports.command import show
from scenarios.imports.program import EVERY, TOOLS, record_command
from scenarios.session import errors
from scenarios.session.files import input_file, output_file, write_file
from scenarios.session.options import REST, number, one_of, takes_rest
from scenarios.session.progress import note
from scenarios.traces.agreement import differences, host_policy, largest
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
    files = {row: trace.files[row] for row in trace.named}
    runs = [record_program(trace.program(), len(trace.operations), files) for _ in range(repeat)]
    return the_same([rows_of(trace, run) for run in runs])


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


def compare(path: str, rows: list[str], policy: str) -> int:
    """Say where the rows of a replay are not those of this host; the exit status."""
    recorded = _recorded(path, REPEAT)
    if isinstance(recorded, int):
        return recorded
    trace, theirs = recorded
    found = differences(trace, rows, theirs, policy)
    unknown = [one for one in found if not one.known]
    note(f"this host is Linux {platform.release()}, compared with {policy}; its policy would be {host_policy()}")
    if not found:
        note(f"this host has the same {len(rows)} rows")
        return errors.OK
    first = (unknown or found)[0]
    at = trace.operations[first.row]
    note(f"{len(found)} of {len(theirs)} lines differ, {len(unknown)} of them for no known reason: {largest(found)}")
    note(f"line {at.line} differs{'' if unknown else ', since this host has CONFIG_PT_RECLAIM'}: {at.text}")
    for who, row in (("this host", first.theirs), ("ptelab", first.ours)):
        note(f"  {who:<10} {row}")
    return errors.VIOLATION if unknown else errors.OK


def _split_out(rest: list[str], out: str | None) -> tuple[list[str], str]:
    """The command and the trace, which may be named at the end of the line as well. Raises UserError."""
    if out is None and len(rest) > 2 and rest[-2] in ("-o", "--out") and rest[-1].endswith((".trace", ".trace.gz")):
        rest, out = rest[:-2], rest[-1]
    if not rest:
        raise errors.UserError("--program takes a command and its arguments, to the end of the line")
    if out is None:
        raise errors.UserError("--program needs a trace to write: -o OUT.trace")
    return rest, out


def _program(rest: list[str], out: str | None, tool: str | None, every: float) -> int:
    """Run a program and write its trace; the exit status."""
    command, trace = _split_out(rest, out)
    show(record_command(command, trace, tool, every), trace)
    return errors.OK


@click.command("record", cls=takes_rest("--program"))
@click.argument("file", required=False, callback=input_file)
@click.option(
    "--repeat",
    default=str(REPEAT),
    metavar="N",
    callback=number(1, 1000, True),
    help="Recordings that must be equal. [3]",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    callback=output_file,
    help="Write the rows there, or the trace of a program. [stdout]",
)
@click.option("--program", metavar="CMD ...", help="Run the rest of the line, and make a memory trace of it.")
@click.option("--tool", **one_of("tool", TOOLS, True), help=f"{', '.join(TOOLS)}. [the first that can be used]")
@click.option(
    "--every", default=str(EVERY), metavar="N", callback=number(0.001, 1e6), help=f"Seconds between samples. [{EVERY}]"
)
@click.pass_context
def command(
    ctx: click.Context, file: str | None, repeat: int, out: str | None, program: None, tool: str | None, every: float
) -> int:
    """What the Linux under this process does with a memory trace, line by line; or a program's own memory trace."""
    rest: list[str] | None = ctx.meta[REST]
    if (rest is None) == (file is None):
        raise errors.UserError("record takes a memory trace, or --program CMD ... and -o OUT.trace")
    if rest is not None:
        return _program(rest, out, tool, every)
    recorded = _recorded(str(file), int(repeat))
    if isinstance(recorded, int):
        return recorded
    text = "".join(f"{row}\n" for row in recorded[1])
    if out is None:
        sys.stdout.write(text)
        return errors.OK
    write_file(out, text)
    return errors.OK
