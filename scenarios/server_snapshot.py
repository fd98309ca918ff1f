"""server-snapshot: what does a 55 TiB server get back, and what does it need?

The motivating process: VIRT 55t, RES 590g, VmPTE 110g, of which about 1.2g is needed. Every 2 MiB of its address space
was touched once; 590g stay resident, the rest was released as an allocator does, in small MADV_DONTNEED calls. Every
size is divided by --scale; the program walks the range GiB by GiB, touches one page per 2 MiB and releases it in calls
of 64 KiB.

Source: Qi Zheng, "[PATCH 0/7] Free user PTE page table pages", 2021-07-18.
"""

from __future__ import annotations

from typing import Any

import click

from emulator.mm_types import PCP_ROOM, Geometry
from emulator.segment import available_bytes
from scenarios import madvise_loop
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.programs.program import STOP, dontneed, mmap, touch

VIRT, RES, VMPTE, NEEDED = 55 << 40, 590 << 30, 110 << 30, 1.2
BASE = 1 << 40
GIB, PMD_SIZE = 1 << 30, 2 << 20
RELEASE = 64 << 10  # bytes per MADV_DONTNEED
DEFAULT_SCALE, MAX_SCALE = 1024, 55 << 10


def shape(scale: int) -> tuple[int, int]:
    """Bytes of address space and of resident memory at a scale, in whole 2 MiB."""
    return VIRT // scale // PMD_SIZE * PMD_SIZE, max(RES // scale // PMD_SIZE, 1) * PMD_SIZE


def geometry(scale: int) -> Any:
    """The machine that holds the process at a scale, whatever the policy."""
    virt, resident = shape(scale)
    return Geometry(
        insns=8 + 2 * (virt // GIB + 2),
        vmas=8,
        frames=resident // 4096 + GIB // PMD_SIZE + 2 * PCP_ROOM,
        tables=virt // PMD_SIZE + virt // GIB + virt // (512 * GIB) + 4096,
    )


def largest_that_fits(available: int) -> int:
    """The smallest scale, so the largest process, whose machine takes at most `available` bytes."""
    low, high = 1, MAX_SCALE
    while low < high:
        middle = (low + high) // 2
        if geometry(middle).offsets()[1] <= available:
            high = middle
        else:
            low = middle + 1
    return low


def choose_scale(wanted: str) -> int:
    """The scale to run: a number, `fit`, or by default the first from 1024 on that fits. Raises UserError."""
    available = available_bytes()
    fits = largest_that_fits(available)
    if wanted == "fit":
        return fits
    if not wanted:
        if fits > DEFAULT_SCALE:
            note(f"memory is short: running at --scale {fits} instead of {DEFAULT_SCALE}")
        return max(fits, DEFAULT_SCALE)
    if not wanted.isdecimal() or not 1 <= int(wanted) <= MAX_SCALE:
        raise UserError(f"--scale '{wanted}' is out of range; known: a whole number from 1 to {MAX_SCALE}, or fit")
    scale = int(wanted)
    if scale < fits:
        needed = geometry(scale).offsets()[1]
        raise UserError(
            f"--scale {scale} needs {needed >> 20:,} MiB of shared memory and {available >> 20:,} MiB are there; "
            f"the largest that fits is --scale {fits}"
        )
    return scale


def program(virt: int, resident: int) -> list[Any]:
    """Touch what stays; then touch every other 2 MiB sparsely and release it, GiB by GiB."""
    code = [mmap(BASE, virt), touch(BASE, resident)]
    at = resident
    while at < virt:
        end = min((at + GIB) // GIB * GIB, virt)
        code += [touch(BASE + at, end - at, PMD_SIZE), dontneed(BASE + at, end - at, RELEASE)]
        at = end
    return [*code, STOP]


def measure(policy: str, setup: dict[str, Any], record: Record, progress: Progress) -> None:
    """Run the process under one policy and enter its row."""
    from workers.machine import Machine

    virt, resident = shape(setup["scale"])
    code = program(virt, resident)
    with Machine(geometry(setup["scale"]), policy, setup["lab"].instruments(1)) as machine:
        faults = resident // 4096 + (virt - resident) // PMD_SIZE
        row = session.memory_row(machine, code, policy, setup["lab"], record, progress, faults)
        record.rows.append({"scale": setup["scale"], **row})


def run(record: Record, setup: dict[str, Any]) -> None:
    """Every policy in turn."""
    with Progress("server-snapshot") as progress:
        for policy in setup["lab"].policies:
            measure(policy, setup, record, progress)


def show(record: Record, setup: dict[str, Any]) -> None:
    """The process at its scale, and what that means at full size."""
    scale = setup["scale"]
    report.write(
        f"server-snapshot: the process of VIRT 55t, RES 590g, VmPTE 110g at 1/{scale}; engine {setup['lab'].engine}, "
        f"released in calls of {RELEASE >> 10} kB"
    )
    report.write("needed: PTE tables with an entry in them, and the tables above those\n")
    madvise_loop.show_memory(record)
    lines = []
    for row in record.rows:
        full = row["vmpte_kb"] * scale / (1 << 20)
        lines.append([row["policy"], f"{full:.1f} GiB", f"{row['needed_kb'] * scale / (1 << 20):.2f} GiB"])
    report.table(
        ["policy", "VmPTE x scale", "needed x scale"], lines, "at full size (the cover letter: 110g held, 1.2g needed)"
    )


@click.command("server-snapshot", help=(__doc__ or "").split("\n\n")[1])
@click.option("--scale", default="", help=f"Divide every size by N; fit: the largest that fits. [{DEFAULT_SCALE}]")
@options.shared
def command(scale: str, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    lab.check_stops(1)
    setup: dict[str, Any] = {
        "scale": choose_scale(scale),
        "lab": lab,
    }
    record = Record("server-snapshot", lab.seed)
    return session.conduct(record, lab, lambda: run(record, setup), lambda: show(record, setup))
