"""`ptelab replay FILE`: the command line. replay.py does the work, and is imported when there is some."""

from __future__ import annotations

import click

from emulator.policy.policies import POLICIES
from scenarios.session import errors
from scenarios.session.files import input_file
from scenarios.session.options import Lab, engine_options, number, one_of, some_of
from scenarios.traces.agreement import PT_RECLAIM, host_policy
from scenarios.traces.timing import TIMINGS


@click.command("replay")
@click.argument("file", callback=input_file)
@click.option(
    "--policy",
    default="",
    **some_of("policy", POLICIES),
    help="The policies to run it under, one after another. [none; --host: this kernel's]",
)
@click.option("--host", is_flag=True, help="Record the trace on this host, too: where do its figures differ?")
@click.option(
    "--timing",
    **one_of("timing", TIMINGS, optional=True),
    help="A CPU for each thread: in the order of its calls, or as it comes. [all lines on one CPU]",
)
@click.option(
    "--every",
    metavar="N",
    callback=number(1, 1 << 30, whole=True),
    help="A row each N lines, with its line, and the last. [all rows]",
)
@click.option("--summary", is_flag=True, help="Peak and end of each policy, and no rows.")
@engine_options
def command(
    file: str, policy: list[str], host: bool, timing: str | None, every: int | None, summary: bool, lab: Lab
) -> int:
    """Run a memory trace: its figures, line by line.

    A row is VmPTE in kB, RssAnon in kB, minor faults so far, and 0 or -errno. Then come a child's figures, the
    operation, and what it found. Tabs are between them. A terminal gets a heading.
    """
    from scenarios.traces.replay import Shown, replay_file

    if summary and every is not None:
        raise errors.UserError("--summary and --every exclude each other")
    if host and policy not in ([], ["none"], [PT_RECLAIM]):
        raise errors.UserError(f"--host compares with policy none or {PT_RECLAIM}, not {','.join(policy)}")
    if host and timing:
        raise errors.UserError("--host follows the lines in their order; leave --timing out")
    shown = Shown(every, summary)
    return replay_file(file, policy or [host_policy() if host else "none"], lab, host, timing, shown)
