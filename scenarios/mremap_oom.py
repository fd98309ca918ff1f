"""mremap-oom: does an mremap that runs out of memory half-way leave every page where it was?

One CPU moves a range, entry by entry, to where there are no tables yet, again and again. Another one takes tables and
gives them back, so that now and then none is left. mremap then moves back what it has moved, "which will succeed since
page tables still there", as move_vma puts it. Where tables are counted they are not. The last entry that moved away
took its table along, and another process has it by now. What cannot go back is unmapped: the pages are lost. The
program is told -ENOMEM, as if nothing had happened. The check counts the pages.

Source: move_vma, mm/mremap.c; analysis of this project.
"""

from __future__ import annotations

import time
from typing import Any

import click

from emulator.mm_types import Geometry
from emulator.uapi import MADV_POPULATE_WRITE
from scenarios.session import options, report, session
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.programs.program import MARK, STOP, advise, barrier, dontneed, jump, mmap, mremap_fixed, munmap

PAGE, SLOT = 4096, 2 << 20
SOURCE = 0x10_0000_0000
SLOTS = 8  # source tables, one page in each
TABLES = 2 * SLOTS + 3  # too few to have source and target tables at once
TARGET = SOURCE + 64 * SLOT + PAGE  # not aligned with the source: no table moves as a whole
LENGTH = SLOTS * SLOT
BATCH = 200  # moves of one machine
MOST_MOVES = 500 * BATCH  # without running out of memory
ENOMEM = -12


def programs() -> tuple[list[Any], list[Any]]:
    """The mover, with two records for each move, before and after; and the CPU that takes tables, a little later."""
    wanted = [advise(MADV_POPULATE_WRITE, SOURCE + slot * SLOT, PAGE) for slot in range(2 * SLOTS)]
    filled = wanted[:SLOTS]
    mover = [mmap(SOURCE, LENGTH), *filled, barrier()]
    for move in range(BATCH):
        mover += [mmap(SOURCE, LENGTH), *filled, MARK._replace(record=2 * move)]
        mover += [mremap_fixed(SOURCE, LENGTH, TARGET)._replace(record=2 * move + 1)]
        mover += [munmap(SOURCE, LENGTH), munmap(TARGET, LENGTH)]
    taker = [barrier(), mmap(SOURCE, 2 * LENGTH), *wanted, jump(2, 4), dontneed(SOURCE, 2 * LENGTH), jump(2, BATCH)]
    return [*mover, STOP], [*taker, STOP]


def measure(policy: str, record: Record, lab: options.Lab) -> dict[str, int]:
    """One machine: moves, those that ran out of memory, and pages that were there before such a move and not after."""
    from workers.machine import Machine

    mover, taker = programs()
    geometry = Geometry(cpus=2, mms=2, insns=len(mover) + len(taker), records=2 * BATCH, frames=4096, tables=TABLES)
    with Machine(geometry, policy, lab.instruments(2), (0, 1)) as machine:
        machine.load_all((mover, taker))
        machine.start()
        machine.wait()
        session.finish(machine, record, lab)
        rows = machine.views["record"]
        before, after = rows["rss_anon"][0::2], rows["rss_anon"][1::2]
        failed = rows["error"][1::2] == ENOMEM
        lost = int((before - after)[failed].sum())
    return {"moves": BATCH, "out_of_memory": int(failed.sum()), "pages_lost": lost}


def run(record: Record, lab: options.Lab, seconds: float) -> None:
    """Every policy for so long, and until it has run out of memory; a run that never does shows nothing."""
    for policy in lab.policies:
        row: dict[str, Any] = {"policy": policy, "engine": lab.engine, "moves": 0, "out_of_memory": 0, "pages_lost": 0}
        record.rows.append(row)
        began = time.perf_counter()
        with Progress("mremap-oom") as progress:
            while not record.violations:
                spent = time.perf_counter() - began
                if spent >= seconds and (row["out_of_memory"] or row["moves"] >= MOST_MOVES):
                    break
                progress.update(min(1.0, spent / seconds), policy)
                for name, count in measure(policy, record, lab).items():
                    row[name] += count
        record.add_checks({"pages_lost": row["pages_lost"]})
        if not row["out_of_memory"]:
            note(f"{policy}: none of {row['moves']:,} moves ran out of memory, so this run says nothing of it")
            record.inconclusive = True


def show(record: Record, lab: options.Lab) -> None:
    """A line per policy."""
    report.write(f"mremap-oom: {SLOTS} pages in {SLOTS} tables, {TABLES} tables in all, engine {lab.engine}\n")
    lines = [
        [row["policy"], *(f"{row[name]:,}" for name in ("moves", "out_of_memory", "pages_lost"))] for row in record.rows
    ]
    report.table(["policy", "moves", "out of memory", "pages lost"], lines)


@click.command("mremap-oom", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--seconds", default="2", metavar="N", callback=options.number(0.1, 10**6), help="How long each policy runs. [2]"
)
@options.shared_with(policies="none,refcount", checks="audit")
def command(seconds: float, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    record = Record("mremap-oom", lab.seed)
    return session.conduct(record, lab, lambda: run(record, lab, seconds), lambda: show(record, lab))
