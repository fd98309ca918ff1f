"""compare: two records side by side: what changed, by how much, and can the rounds tell?

OLD and NEW are what --json or a report wrote; rows that measured the same thing are set beside each other. The three
columns are those of the kernel's test robot: mean and standard deviation before, change, the same after. n.s.: the
rounds do not show that it is not 0. Run both on the same machine, idle. Two records of one policy each are compared
with each other, whatever the policies; --policy OLD,NEW takes one of each.

OLD and NEW may be two checkouts: then --command runs the rest of the line in both, in turn, and compares the rounds.

\b
    ptelab compare ../before . --rounds 9 --command run multi-fault --cpus 1 --repeat 1

Exit status: 0; 1 with --gate, if something is worse by more than that and the rounds show it; 2 usage.
"""

from __future__ import annotations

from pathlib import Path

import click

from emulator.policy.policies import POLICIES
from scenarios.checkouts import ROUNDS, in_turn, tree_of
from scenarios.reports.comparing import HEADER, compared, of_policy, regressions, tables_of
from scenarios.reports.extra import ReportError
from scenarios.reports.reading import Run, read_runs
from scenarios.session import report
from scenarios.session.errors import UserError
from scenarios.session.files import input_file
from scenarios.session.options import REST, completing, names_of, number, output_options, percent, takes_rest
from scenarios.session.record import Record
from workers.interrupts import Interrupted
from workers.telling.postmortem import MachineFailed

HELP = (__doc__ or "").removeprefix("compare: ")
HELP = HELP[0].upper() + HELP[1:]


def _two(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """A click callback for two policies, or none. Raises UserError."""
    names = names_of("policy", [*POLICIES, "host"], value)
    if len(names) not in (0, 2):
        raise UserError(f"--policy '{value}' is not two policies; known: OLD,NEW, as none-rcu,refcount")
    return names


def _told(which: str, runs: list[Run]) -> None:
    lines = (f"{which}  {run.name}: commit {run.commit}, {run.machine}; verdict {run.data['verdict']}" for run in runs)
    for line in dict.fromkeys(lines):
        report.write(line)


def _only(which: str, mine: list[Run], others: list[Run]) -> None:
    """Say what one side alone has."""
    missing = [name for name in dict.fromkeys(run.scenario for run in mine) if name not in {o.scenario for o in others}]
    if missing:
        report.write(f"only in {which}: {', '.join(missing)}")


def _rounds(context: click.Context, rounds: int | None, old: str, new: str, record: Record) -> list[list[Run]]:
    """The records of both sides: what the files hold, or what --command gives in two checkouts. Raises UserError."""
    words: list[str] | None = context.meta[REST]
    if words is None:
        if rounds is not None:
            raise UserError("--rounds is for --command, which runs in two checkouts")
        for path in (old, new):
            if Path(path).is_dir():
                raise UserError(f"{path} is a directory; known: records, or two checkouts and --command run NAME ...")
        return [read_runs(old), read_runs(new)]
    if not words:
        raise UserError("--command takes a command of ptelab and its arguments, to the end of the line")
    sides: list[list[Run]] = [[], []]
    try:
        in_turn([tree_of(old), tree_of(new)], words, rounds or ROUNDS, sides)
    except Interrupted as interrupt:
        record.interrupted = 128 + interrupt.number
    except MachineFailed as failure:
        raise UserError(str(failure)) from None
    whole = min(map(len, sides))
    return [side[:whole] for side in sides]


@click.command("compare", cls=takes_rest("--command"), help=HELP)
@click.argument("old", callback=input_file)
@click.argument("new", callback=input_file)
@click.option("--gate", default=None, metavar="N%", callback=percent, help="Fail if worse by more. [do not fail]")
@click.option(
    "--policy",
    default="",
    metavar="OLD,NEW",
    callback=_two,
    shell_complete=completing(POLICIES, lists=True),
    help="Compare these two. [each with itself]",
)
@click.option("--all", "everything", is_flag=True, help="Counters, too, and what stayed the same.")
@click.option("--command", "command_", metavar="CMD ...", help="Run the rest of the line in two checkouts, in turn.")
@click.option(
    "--rounds", metavar="N", callback=number(1, 1000, whole=True), help=f"Rounds of --command in each. [{ROUNDS}]"
)
@output_options
@click.pass_context
def command(
    context: click.Context,
    old: str,
    new: str,
    gate: float | None,
    policy: list[str],
    everything: bool,
    command_: None,
    rounds: int | None,
    json_file: str | None,
) -> int:
    """Compare; the exit status."""
    record = Record("compare", 0)
    try:
        before, after = _rounds(context, rounds, old, new, record)
        if not before and record.interrupted:
            return record.exit_status
        if policy:
            before, after = of_policy(before, policy[0]), of_policy(after, policy[1])
        changes = compared(before, after)
    except ReportError as error:
        raise UserError(str(error)) from None
    record.rows = [change.as_json() for change in changes]
    record.found += regressions(changes, gate) if gate is not None else []
    if record.write(json_file):
        return record.exit_status
    _told("old", before)
    _told("new", after)
    if {run.machine for run in before} != {run.machine for run in after}:
        report.write("the machines differ: times cannot be compared, sizes in kB can")
    _only("old", before, after)
    _only("new", after, before)
    report.write()
    tables = tables_of(changes, everything)
    for title, lines in tables.items():
        report.table(HEADER, lines, title, (0, 4))
    if not tables:
        report.write("nothing is better or worse; --all shows the rest\n")
    for text in record.found:
        report.write(f"worse   {text}")
    if gate is not None:
        report.write(f"result  {'FAIL' if record.found else 'PASS'}, gate {gate:g} %")
    return record.exit_status
