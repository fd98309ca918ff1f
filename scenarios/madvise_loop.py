"""madvise-loop: how large are the page tables after 50 GiB of touch and MADV_DONTNEED?

The cover letter's loop at full size: mmap 50 GiB; for each of 25,600 pieces of 2 MiB: touch it, MADV_DONTNEED it. VIRT,
RES and VmPTE by the kernel's accounting, for every policy. The tiny process it starts from has 10 tables (2 PUD, 3 PMD,
5 PTE, 40 kB). Its libraries lie in the GiB where the mapping ends. So the sweep needs 50 new PMD tables.

Source: Qi Zheng, "[PATCH 0/7] Free user PTE page table pages", 2021-07-18.
"""

from __future__ import annotations

from typing import Any

import click

from emulator import lazy_numpy as np
from emulator.mm_types import PCP_ROOM, Geometry
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.host.fault_loop import HostUnavailable, measure_madvise_loop
from workers.programs.image import BASE_KB, LIBRARIES, PIECE, image
from workers.programs.program import STOP, assemble, dontneed, mmap, touch

COVER_LETTER = "cover letter: 102640 kB before, 248 kB after; merged in 2025: 240 kB"


def sweep(start: int, total: int, piece: int) -> Any:
    """The rows of the loop: touch, MADV_DONTNEED, piece by piece."""
    rows = np.tile(assemble([touch(0, piece), dontneed(0, piece)]), total // piece)
    rows["addr"] = start + np.repeat(np.arange(total // piece), 2) * piece
    return rows


def geometry(total: int, piece: int, base_kb: int) -> Any:
    """The machine that holds the loop, whatever the policy."""
    regions = 3 + 2 + (base_kb - BASE_KB) // 4
    return Geometry(
        insns=2 * regions + 2 + 2 * (total // piece),
        vmas=2 * regions + 8,
        frames=piece // 4096 + 8 * regions + 2 * PCP_ROOM,
        tables=total // PIECE + total // (1 << 30) + base_kb // 4 + 4096,
    )


def measure(policy: str, setup: dict[str, Any], record: Record, progress: Progress) -> None:
    """Run the loop under one policy and enter its row."""
    from workers.machine import Machine

    total, piece = setup["size"], setup["piece"]
    start = LIBRARIES - total
    prologue = image(setup["base_kb"])
    program = np.concatenate([assemble([*prologue, mmap(start, total)]), sweep(start, total, piece), assemble([STOP])])
    with Machine(geometry(total, piece, setup["base_kb"]), policy, setup["lab"].instruments(1)) as machine:
        lab, faults = setup["lab"], total // 4096
        row = session.memory_row(machine, program, policy, lab, record, progress, lambda cpu: cpu["faults"] / faults)
        record.rows.append(row)


def run(record: Record, setup: dict[str, Any]) -> None:
    """Every policy in turn, then this host's kernel if asked for."""
    with Progress("madvise-loop") as progress:
        for policy in setup["lab"].policies:
            measure(policy, setup, record, progress)
        if setup["host"]:
            host(record, setup, progress)


def host(record: Record, setup: dict[str, Any], progress: Progress) -> None:
    """The same loop on this host's real kernel."""
    try:
        figures = measure_madvise_loop(setup["size"], setup["piece"], lambda share: progress.update(share, "host"))
    except HostUnavailable as reason:
        note(f"this host's kernel is not measured: {reason}")
        return
    missing = {"engine": None, "needed_kb": None, "tables_installed": None, "tables_freed": None}
    record.rows.append({"policy": "host", **missing, **figures})


def show(record: Record, setup: dict[str, Any]) -> None:
    """VIRT, RES, VmPTE per policy."""
    report.write(
        f"madvise-loop: {setup['size'] // setup['piece']:,} pieces of {setup['piece'] >> 10:,} kB, touched, released; "
        f"engine {setup['lab'].engine}, base {setup['base_kb']} kB"
    )
    report.write(f"{COVER_LETTER}\n")
    show_memory(record)
    for row in report.rows_of(record, policy="host"):
        before = row["before"]
        sizes = zip(("VIRT", "RES", "VmPTE"), ("virt_kb", "res_kb", "vmpte_kb"), strict=True)
        began = ", ".join(f"{name} {report.size(before[key])}" for name, key in sizes)
        report.prose(f"host: a Python process that began with {began}; its kernel has a rule of its own")
        report.write()


def show_memory(record: Record) -> None:
    """One line per policy: memory by the kernel's accounting, PTE tables, faults.

    No times: most of them is the emulator's own memory, which is touched for the first time.
    """
    lines = []
    for row in record.rows:
        lines.append(
            [
                row["policy"],
                report.size(row["virt_kb"]),
                report.size(row["res_kb"]),
                f"{row['vmpte_kb']:,} kB",
                f"{row['needed_kb']:,} kB" if row.get("needed_kb") is not None else "-",
                *(
                    f"{row[name]:,}" if row.get(name) is not None else "-"
                    for name in ("tables_installed", "tables_freed")
                ),
                f"{row['faults']:,}",
            ]
        )
    header = [
        "policy",
        "VIRT",
        "RES",
        "VmPTE",
        "needed",
        "installed",
        "freed",
        "faults",
    ]
    report.table(header, lines)


def check_sizes(size: int, piece: int, base_kb: int) -> None:
    """Refuse a sweep that the figures do not describe. Raises UserError."""
    if piece % PIECE or size % piece or size > 256 << 30:
        raise UserError("--size must be a multiple of --piece up to 256G, and --piece a multiple of 2M")
    if base_kb % 4 or not BASE_KB <= base_kb <= 512:
        raise UserError(f"--base-kb '{base_kb}' is out of range; known: multiples of 4 from {BASE_KB} to 512")


@click.command("madvise-loop", help=(__doc__ or "").split("\n\n")[1])
@click.option("--size", default="50G", metavar="SIZE", callback=options.size, help="Memory that is swept. [50G]")
@click.option("--piece", default="2M", metavar="SIZE", callback=options.size, help="Touched and released at once. [2M]")
@click.option(
    "--base-kb",
    default="40",
    metavar="N",
    callback=options.number(0, 1 << 20, whole=True),
    help="Page tables at the start. [40]",
)
@click.option("--host/--no-host", default=False, help="Run the same on this host's kernel. [no]")
@options.shared
def command(
    size: int,
    piece: int,
    base_kb: int,
    host: bool,
    lab: options.Lab,
) -> int:
    """Run the scenario; the exit status."""
    lab.check_stops(1)
    check_sizes(size, piece, base_kb)
    session.check_fits(
        "--size",
        size // piece,
        1,
        lambda pieces: geometry(pieces * piece, piece, base_kb),
        lambda pieces: f"{pieces * piece >> 20}M",
    )
    setup: dict[str, Any] = {
        "size": size,
        "piece": piece,
        "base_kb": base_kb,
        "host": host,
        "lab": lab,
    }
    record = Record("madvise-loop", lab.seed)
    return session.conduct(record, lab, lambda: run(record, setup), lambda: show(record, setup))
