"""Leave each barrier of the kernels out, one by one: under which memory model is it needed, and what shows it?

    ptelab barriers                           every barrier that some scene passes
    ptelab barriers --only rcu.py             of some files or functions
    ptelab barriers --write docs/explore.md   the table, between its two comments there

A barrier that a claim names is left out of that claim, for as many executions as it takes. Another one is searched for
in the scenes that pass it, shortest first, unless a reason is known why no scene can show it. All that under pso, then
under arm; what fails under pso is tried under tso as well. That nothing fails proves nothing: the scenes are few, and
so are the executions.

Exit status: 0, 1 a scene fails with all barriers in place, 2 usage, 3 internal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from emulator.engines.access_log import TooManyTasks
from scenarios.proofs.finding import Plan, machine_for
from scenarios.proofs.redundant import REASONS
from scenarios.proofs.subject import names, subject
from scenarios.session import errors, options, report, session
from scenarios.session.files import kept_file, write_file
from scenarios.session.progress import Progress
from scenarios.session.record import Record

HELP = str(__doc__).replace("\n\n    ptelab", "\n\n\b\n    ptelab")  # click keeps such lines as they are
MOST = 200
CLAIMED = {"pso": 1500, "arm": 6000}  # executions, all by lots, of a claim that names the barrier
SCENES = 3  # that pass a barrier and are searched without it
BEGIN, END = "<!-- barriers -->\n", "<!-- end of barriers -->\n"


@dataclass
class Row:
    """What came of one barrier: the strongest model under which it is needed, and what shows it there."""

    site: Any
    passed: int
    memory: str = ""
    subject: str = ""
    found: str = ""
    schedule: str = ""
    executions: int = 0
    searches: int = 0  # a scene under a model, each
    reason: str = ""  # why none shows it

    def as_json(self) -> dict[str, Any]:
        """The row of --json."""
        site = self.site
        return {
            "barrier": site.name,
            "file": site.file,
            "says": site.says,
            "scenes": self.passed,
            "needed_under": self.memory or None,
            "subject": self.subject or None,
            "found": self.found or None,
            "schedule": self.schedule or None,
            "executions": self.executions,
            "searches": self.searches,
            "reason": self.reason or None,
        }


def _machine(name: str, memory: str, *without: str) -> Any:
    """The machine of a subject, whole but for some barriers."""
    return machine_for(subject(name), Plan(False, memory, races=False, barriers=without))


def _search(machine: Any, most: int) -> Any:
    """A search of both kinds: few preemptions, and lots."""
    from workers.explorer.hunt import Budget, chances, search
    from workers.explorer.search import Deepening, InTurn

    return search(machine, lambda: InTurn([Deepening(2), *chances(machine, 0)]), Budget(1e9, most))


def _lots(machine: Any) -> Any:
    """The strategies that draw lots, in turn."""
    from workers.explorer.hunt import chances
    from workers.explorer.search import InTurn

    return InTurn(chances(machine, 0))


class Scenes:
    """The scenes there are: which barriers each passes, and whether it is sound with all of them in place."""

    def __init__(self, most: int, record: Record) -> None:
        self.most, self.record = most, record
        self.steps: dict[str, int] = {}
        self.passed: dict[str, set[Any]] = {}
        self._sound: dict[tuple[str, str], bool] = {}

    def measure(self, of: Sequence[Any]) -> None:
        """Run each scene a few times under sc."""
        from workers.explorer.barriers import counting
        from workers.explorer.hunt import Budget, search

        with Progress("scenes") as bar:
            for done, name in enumerate(names()):
                machine = _machine(name, "sc")
                with counting(of) as passed:
                    verdict = search(machine, partial(_lots, machine), Budget(1e9, 12))
                self.steps[name], self.passed[name] = verdict.steps, set(passed)
                bar.update((done + 1) / len(names()), name)

    def of(self, site: Any) -> list[str]:
        """The scenes that pass a barrier, shortest first."""
        return sorted((name for name, passed in self.passed.items() if site in passed), key=self.steps.__getitem__)

    def is_sound(self, name: str, memory: str) -> bool:
        """True if a scene has nothing to find with all barriers in place, and is small enough."""
        if (name, memory) not in self._sound:
            try:
                failure = _search(_machine(name, memory), self.most).failure
            except TooManyTasks:
                self._sound[name, memory] = False
                return False
            self._sound[name, memory] = failure is None
            if failure is not None:
                self.record.found.append(f"{name} under {memory}, with all barriers: {failure.what}")
        return self._sound[name, memory]


def _without(row: Row, name: str, memory: str, most: int, lots: bool = False) -> bool:
    """Search a scene without a barrier, by few preemptions and by lots, or by lots alone; enter what is found."""
    from workers.explorer.counterexample import shrink
    from workers.explorer.hunt import Budget, search

    machine = _machine(name, memory, row.site.name)
    try:
        verdict = search(machine, partial(_lots, machine), Budget(1e9, most)) if lots else _search(machine, most)
    except TooManyTasks:
        return False
    row.executions, row.searches = row.executions + verdict.executions, row.searches + 1
    if verdict.failure is None:
        return False
    example = shrink(machine, verdict.failure)
    row.memory, row.subject, row.found, row.schedule = memory, name, example.what, example.schedule
    return True


def judge(site: Any, scenes: Scenes) -> Row:
    """Find out under which model a barrier is needed."""
    from scenarios.proofs.orderings import ORDERINGS

    names = scenes.of(site)
    row = Row(site, len(names), reason=REASONS.get(site.name, ""))
    claims = [one.name for one in ORDERINGS.values() if site.name in one.barriers]
    for memory in ("pso", "arm"):
        sound = [] if row.reason else claims
        if not row.reason and not claims:
            sound = [name for name in names[: 2 * SCENES] if scenes.is_sound(name, memory)][:SCENES]
        most = CLAIMED[memory] if claims else scenes.most
        if any(_without(row, name, memory, most, bool(claims)) for name in sound):
            break
    if row.memory == "pso" and scenes.is_sound(row.subject, "tso"):
        _without(row, row.subject, "tso", scenes.most)
    return row


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, those that are needed first."""
    lines = ["| barrier | needed under | what is found without it | shown by |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (not row.memory, row.site.file, row.site.place)):
        if row.memory:
            again = f"`{row.subject}`: `{row.schedule or '-'}`"
            lines.append(f"| `{row.site.name}` | {row.memory} | {row.found} | {again} |")
        else:
            tried = f"{row.executions:,} executions in {row.searches} searches" if row.searches else "no scene"
            lines.append(f"| `{row.site.name}` | not shown | - | {row.reason or tried} |")
    return "\n".join(lines) + "\n"


def write(file: str, rows: Sequence[Row], check: bool = False) -> None:
    """Put the table in its place, or only look whether there is one. Raises UserError if the document has none."""
    text = Path(file).read_text() if Path(file).exists() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise errors.UserError(f"{file} has no place for the table, between {BEGIN.strip()} and {END.strip()}")
    if check:
        return
    before, _, rest = text.partition(BEGIN)
    write_file(file, before + BEGIN + table(rows) + END + rest.partition(END)[2])


@click.command("barriers", help=HELP, short_help="Leave each barrier out: which memory model needs it?")
@click.option("--only", default="", metavar="WORD[,WORD]", help="Only barriers whose name has one of these words.")
@click.option(
    "--executions", default=str(MOST), metavar="N", callback=options.number(1, 1 << 40, whole=True),
    help=f"Executions of each search. [{MOST}]",
)  # fmt: skip
@click.option("--write", "document", metavar="FILE", callback=kept_file, help="Write the table into this document.")
@options.output_options
def barriers_command(only: str, executions: int, document: str | None, json_file: str | None) -> int:
    """Run it; the exit status."""
    from workers.explorer.barriers import sites

    lab = options.Lab(engine="explore", json_file=json_file, checks="online")
    lab.choose_engine()

    words = [word.strip() for word in only.split(",") if word.strip()]
    of = [site for site in sites() if not words or any(word in site.name for word in words)]
    if not of:
        some = ", ".join(site.name for site in sites()[:3])
        raise errors.UserError(f"--only '{only}' names no barrier; known: parts of {some}, ...")
    if document is not None:
        write(document, [], check=True)
    record, rows = Record("barriers", 0), []

    def body() -> None:
        scenes = Scenes(int(executions), record)
        scenes.measure(of)
        with Progress("barriers") as bar:
            for done, site in enumerate(of):
                rows.append(judge(site, scenes))
                record.rows.append(rows[-1].as_json())
                bar.update((done + 1) / len(of), site.name)

    def show() -> None:
        shown = [[row.site.name, row.memory or "not shown", row.found or "-", row.subject or "-"] for row in rows]
        report.table(["barrier", "needed under", "found", "scene"], shown)
        if document is not None and not record.interrupted:
            write(document, rows)

    return session.conduct(record, lab, body, show)
