"""bad-input: what becomes of a thread that makes a wrong access, and of the machine?

One CPU loads from where nothing is mapped, one stores to a read-only mapping. One goes past the end of a file, one
stores to more memory than there is. Each must get the signal that Linux sends, with its address; then it goes on, and
finds its own page as it was. With --fatal the signal ends its program instead. The audit looks at what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from emulator.mm_types import Geometry
from scenarios.session import options, report, session
from scenarios.session.progress import Progress
from scenarios.session.record import Record
from workers.programs.program import STOP, barrier, load, mmap, mmap_file, munmap, store, touch
from workers.signals import signals_of

BASE, PAGE = 0x10_0000_0000, 4096
FRAMES = 2048
WORD = 7  # what each CPU keeps in its own page


class Case(NamedTuple):
    """One wrong access: what it is in words, the signal due and its code, the address (None: wherever memory ends)."""

    title: str
    signal: str
    code: str
    addr: int | None


CASES = (
    Case("outside of every VMA", "SIGSEGV", "SEGV_MAPERR", BASE + 5 * PAGE),
    Case("store, read-only mapping", "SIGSEGV", "SEGV_ACCERR", BASE + PAGE),
    Case("past the end of a file", "SIGBUS", "BUS_ADRERR", BASE + 65 * PAGE),
    Case("more than there is", "SIGKILL", "out of memory", None),
)


def programs() -> list[list[Any]]:
    """Each CPU maps and fills a page of its own, waits for the others, makes its access, and looks at its page."""
    wrong = [
        [load(BASE + 5 * PAGE)],
        [mmap(BASE + PAGE, PAGE, writable=False), store(BASE + PAGE, 1)],
        [mmap_file(BASE + PAGE, 128 * PAGE, 0), store(BASE + 65 * PAGE, 1)],
        [*_hog(), munmap(BASE + PAGE, 2 * FRAMES * PAGE)],
    ]
    return [[mmap(BASE, PAGE), store(BASE, WORD), barrier(), *insns, load(BASE), STOP] for insns in wrong]


def _hog() -> list[Any]:
    return [mmap(BASE + PAGE, 2 * FRAMES * PAGE), touch(BASE + PAGE, 2 * FRAMES * PAGE)]


def judge(views: Mapping[str, Any], cpu: int, first: Any, fatal: bool) -> dict[str, Any]:
    """What came of one program, whose first signal this is, and whether it is as it should be."""
    case = CASES[cpu]
    due = first is not None and (first.signal, first.code) == case[1:3] and case.addr in (None, first.addr)
    ended = int(views["mm"]["vmas"][cpu]) == 0  # by exit, which leaves nothing
    kept = int(views["cpu"]["loaded"][cpu]) == WORD
    return {
        "cpu": cpu,
        "input": case.title,
        "signal": first and first.signal,
        "code": first and first.code,
        "addr": first and first.addr,
        "as_due": due and ended == fatal and (fatal or kept),
        "ended": ended,
    }


def measure(policy: str, record: Record, lab: options.Lab, fatal: bool) -> list[dict[str, Any]]:
    """Run the four programs under one policy: a row each."""
    from workers.machine import Machine

    bodies = programs()
    geometry = Geometry(cpus=len(bodies), mms=len(bodies), insns=64, frames=FRAMES, files=1, file_pages=64)
    mms = range(len(bodies))
    instruments = lab.instruments(len(bodies))
    with Machine(geometry, policy, instruments, mms, fatal_signals=fatal) as machine:
        machine.load_all(bodies)
        machine.start()
        machine.wait()
        session.finish(machine, record, lab)
        first = {of.cpu: of.first for of in signals_of(machine.views, geometry)}
        row = {"policy": policy, "engine": lab.engine}
        return [row | judge(machine.views, cpu, first.get(cpu), fatal) for cpu in range(len(CASES))]


def run(record: Record, lab: options.Lab, fatal: bool) -> None:
    """Every policy in turn."""
    with Progress("bad-input") as progress:
        for done, policy in enumerate(lab.policies):
            progress.update(done / len(lab.policies), policy)
            rows = measure(policy, record, lab, fatal)
            record.rows += rows
            record.add_checks({"signals": sum(not row["as_due"] for row in rows)})


_AFTER = {"out of memory": "would have been killed"}  # the machine goes on: the kernel's OOM killer is not modelled


def show(record: Record, lab: options.Lab) -> None:
    """A line per access."""
    lines = []
    for row in record.rows:
        then = (
            ("program ended" if row["ended"] else _AFTER.get(row["code"], "went on")) if row["as_due"] else "NOT AS DUE"
        )
        where = "-" if row["addr"] is None else f"{row['addr']:#x}"
        lines.append([row["policy"], row["input"], f"{row['signal']} ({row['code']})", where, then])
    report.write(f"bad-input: wrong accesses, engine {lab.engine}, checks {lab.checks}\n")
    report.table(["policy", "access", "signal", "address", "then"], lines)


@click.command("bad-input", help=(__doc__ or "").split("\n\n")[1])
@click.option("--fatal", is_flag=True, help="A signal ends the program of its CPU.")
@options.shared_with(policies="none,refcount")
def command(fatal: bool, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    record = Record("bad-input", lab.seed)
    return session.conduct(record, lab, lambda: run(record, lab, fatal), lambda: show(record, lab))
