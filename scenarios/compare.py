"""compare: two records side by side: what changed, by how much, and can the rounds tell?

OLD and NEW are what --json or a report wrote; rows that measured the same thing are set beside each other. The three
columns are those of the kernel's test robot: mean and standard deviation before, change, the same after. n.s.: the
rounds do not show that it is not 0. Run both on the same machine, idle. Two records of one policy each are compared
with each other, whatever the policies.

Exit status: 0; 1 with --gate, if something is worse by more than that and the rounds show it; 2 usage.
"""

from __future__ import annotations

import sys

import click

from scenarios.reports.comparing import compared, lines_of, regressions
from scenarios.reports.extra import ReportError
from scenarios.reports.reading import Run, read_runs
from scenarios.reports.terminal import is_plain, spelled
from scenarios.session import report
from scenarios.session.errors import UserError
from scenarios.session.options import html_option
from scenarios.session.record import Record, check_writable

HELP = (__doc__ or "").removeprefix("compare: ")
HELP = HELP[0].upper() + HELP[1:]


def percent(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A click callback for a number of per cent, with its sign or without. Raises UserError."""
    if value is None:
        return None
    try:
        number = float(value.strip().removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1000:
        raise UserError(f"--gate '{value}' is no share; known: per cent from 0 to 1000, as 5% or 5")
    return number


def _told(which: str, runs: list[Run]) -> None:
    for run in runs:
        report.write(f"{which}  {run.name}: commit {run.commit}, {run.machine}; verdict {run.data['verdict']}")


def _only(which: str, mine: list[Run], others: list[Run]) -> None:
    """Say what one side alone has."""
    missing = [name for name in dict.fromkeys(run.scenario for run in mine) if name not in {o.scenario for o in others}]
    if missing:
        report.write(f"only in {which}: {', '.join(missing)}")


@click.command("compare", help=HELP)
@click.argument("old")
@click.argument("new")
@click.option("--gate", default=None, metavar="N%", callback=percent, help="Fail if worse by more. [do not fail]")
@click.option("--all", "everything", is_flag=True, help="Counters, too, and what stayed the same.")
@html_option
@click.option("--json", "json_file", metavar="FILE", help="Write the comparison as JSON; - is stdout.")
def command(old: str, new: str, gate: float | None, everything: bool, json_file: str | None) -> int:
    """Compare; the exit status."""
    check_writable(json_file)
    record = Record("compare", 0)
    try:
        before, after = read_runs(old), read_runs(new)
        changes = compared(before, after)
    except ReportError as error:
        raise UserError(str(error)) from None
    record.rows = [change.as_json() for change in changes]
    for change in regressions(changes, gate) if gate is not None else []:
        record.found.append(f"{change.title()}: {change.figure} is worse by {change.worse:.1f} %")
    record.write(json_file)
    if json_file == "-":
        return record.exit_status
    _told("old", before)
    _told("new", after)
    if {run.machine for run in before} != {run.machine for run in after}:
        report.write("the machines differ: times cannot be compared, sizes in kB can")
    _only("old", before, after)
    _only("new", after, before)
    report.write()
    lines = lines_of(changes, everything)
    for line in lines if len(lines) > 1 else ["nothing is better or worse; --all shows the rest"]:
        report.write(spelled(line, is_plain(sys.stdout.encoding)))
    report.write()
    for text in record.found:
        report.write(f"worse   {text}")
    if gate is not None:
        report.write(f"result  {'FAIL' if record.found else 'PASS'}, gate {gate:g} %")
    return record.exit_status
