"""import: what people have at hand of a real program becomes a memory trace, and nothing is left out in silence.

FILE: strace in any shape, perf trace, perf script, the kernel's trace, copies of /proc/PID/maps and smaps, or programs
of syzkaller. It may be packed, and there may be several. A snapshot before the calls is where they begin, one behind
them is what they should end in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import click

from scenarios.imports.account import Account
from scenarios.imports.calls import Event
from scenarios.imports.importer import Importer
from scenarios.imports.inputs import Inputs
from scenarios.imports.lines import Unreadable
from scenarios.imports.touches import MODES
from scenarios.imports.writer import Writer
from scenarios.session import errors
from scenarios.session.files import input_file, output_file
from scenarios.session.options import one_of, output_options
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record

_EVERY = 20_000  # events between two words of progress
_SAID = {
    "none": "no touch is assumed",
    "all": "touches are assumed: every page is touched once, as soon as it can be (--touch says otherwise)",
    "rss": "touches are assumed: so many pages of each mapping as smaps counts",
    "pagemap": "touches are assumed: the pages that pagemap had, when it had them",
}
_BLIND = "faults are not in the input: what is held is a guess where memory is released and used again"


class Imported(NamedTuple):
    """What an import gave: the account, the operations and the processes of the trace, how touches came about."""

    account: Account
    operations: int
    processes: int
    faults: int
    touch: str


def import_files(files: Sequence[str], out: str, touch: str | None = None) -> Imported:
    """Read files and write the trace `out`; `touch` is one of MODES, by default what the input allows.

    Raises UserError: nothing is written then.
    """
    account = Account()
    try:
        inputs = Inputs(files, account)
    except Unreadable as error:
        raise errors.UserError(str(error)) from None
    try:
        return _imported(inputs, account, out, touch)
    finally:
        inputs.close()


def _imported(inputs: Inputs, account: Account, out: str, touch: str | None) -> Imported:
    names = " ".join(lines.name for _, lines in inputs.files)
    with Progress(f"reading {inputs.files[0][1].name}") as progress:
        events = _watched(inputs, progress)
        return build(events, account, out, touch or _default(inputs), f"import {names}", inputs.problems)


def build(
    events: Iterable[Event],
    account: Account,
    out: str,
    touch: str,
    title: str,
    problems: Callable[[], list[str]] = lambda: [],
) -> Imported:
    """Write the trace of some events; `problems` says in the end what went wrong with them. Raises UserError."""
    with Writer(out) as writer:
        importer = Importer(writer, account, touch)
        importer.take(events)
        account.notes += [*problems(), *importer.comparisons()]
        writer.flush()
        if writer.operations == 0 and not account.understood:
            raise errors.UserError(f"{title}: {_nothing(account)}")
        imported = Imported(account, writer.operations, 1 + importer.people.most, importer.faults, touch)
        writer.finish([f"ptelab {ascii(title)[1:-1]}", *account.summary()[:1], _said(imported)])
    return imported


def _nothing(account: Account) -> str:
    """Why there is no trace."""
    return next(iter([*account.first_malformed, *account.notes]), "no call in it has to do with memory")


def _default(inputs: Inputs) -> str:
    """How touches come about if nobody says it."""
    for kind, lines in inputs.files:
        sample = lines.sample()
        if kind in ("perf script", "ftrace") or (
            kind == "perf trace" and any("fault [" in line or ":page_fault_" in line for line in sample)
        ):
            return "none"
    samples = [line for kind, lines in inputs.files if kind == "snapshot" for line in lines.sample()]
    if any(line.startswith("Rss:") for line in samples):
        return "rss"
    if any(line.rstrip().endswith((" anon", " file")) for line in samples):
        return "pagemap"
    return "all"


def _watched(inputs: Inputs, progress: Progress) -> Iterator[Event]:
    """All events; progress is told now and then."""
    for i, event in enumerate(inputs.events()):
        if i % _EVERY == 0:
            progress.update(inputs.share)
        yield event


def _said(imported: Imported) -> str:
    if imported.touch == "none" and imported.faults:
        return f"touches: the {imported.faults:,} page faults of the input"
    return _SAID[imported.touch]


def show(imported: Imported, out: str) -> None:
    """What was made of the input, on stderr."""
    for text in imported.account.summary():
        note(text)
    note(_said(imported))
    if not imported.faults and imported.touch in ("none", "all"):
        note(_BLIND)
    processes = f"{imported.processes} process{'es' if imported.processes > 1 else ''} at a time"
    note(f"{out}: {imported.operations:,} operations, at most {processes}")


def row_of(imported: Imported, out: str) -> dict[str, object]:
    """What was made of the input, as --json writes it."""
    return {
        "out": out,
        "operations": imported.operations,
        "processes": imported.processes,
        "faults": imported.faults,
        "touch": imported.touch,
        **imported.account.as_json(),
    }


_HELP = (__doc__ or "").split(": ", 1)[1]


@click.command("import", help=_HELP[0].upper() + _HELP[1:])
@click.argument("files", nargs=-1, required=True, metavar="FILE ...", callback=input_file)
@click.option(
    "-o",
    "--out",
    metavar="OUT.trace",
    required=True,
    callback=output_file,
    help="The trace; packed if its name ends in .gz.",
)
@click.option(
    "--touch", **one_of("touch", MODES, optional=True), help=f"{', '.join(MODES)}. [what the input allows, else all]"
)
@click.option("--strict", is_flag=True, help="Exit 1 if anything was left out.")
@output_options
def command(files: tuple[str, ...], out: str, touch: str | None, strict: bool, json_file: str | None) -> int:
    """Import; the exit status."""
    record = Record("import", 0)
    imported = import_files(files, out, touch)
    record.rows.append(row_of(imported, out))
    if strict:
        record.checks["left_out"] = imported.account.left_out + imported.account.lost
    record.write(json_file)
    show(imported, out)
    return record.exit_status
