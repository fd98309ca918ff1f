"""server-snapshot: what does a server with much address space get back, and what does it need?

By default the motivating process: VIRT 55t, RES 590g, VmPTE 110g, of which about 1.2g is needed. --virt, --res and
--call take an operator's own sizes. Every 2 MiB of the address space was touched once. RES stays resident, the rest was
released as an allocator does, in MADV_DONTNEED calls of one size. Every size is divided by --scale; the program walks
the range GiB by GiB, touches one page per 2 MiB and releases it. --host does the same on this host's kernel.

Source: Qi Zheng, "[PATCH 0/7] Free user PTE page table pages", 2021-07-18.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import click

from emulator.engine import ENGINES
from emulator.mm_types import PCP_ROOM, Geometry
from emulator.segment import available_bytes
from scenarios import madvise_loop
from scenarios.session import options, report, session
from scenarios.session.errors import UserError
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.host.fault_loop import HostUnavailable
from workers.host.host_record import record_program
from workers.programs.program import STOP, dontneed, mmap, touch

VIRT, RES = 55 << 40, 590 << 30
BASE = 1 << 40
GIB, PMD_SIZE = 1 << 30, 2 << 20
RELEASE = 64 << 10  # bytes per MADV_DONTNEED
DEFAULT_SCALE, MAX_SCALE = 1024, 55 << 10
LARGEST = 96 << 40  # of address space: what lies beside it needs room
LARGE = 1 << 30  # bytes of a machine from which on the entries of its tables lie apart
RELEASED = 32  # faults that take the time of releasing 2 MiB


class Sizes(NamedTuple):
    """An operator's process: bytes of address space, of resident memory, of a MADV_DONTNEED call."""

    virt: int = VIRT
    resident: int = RES
    call: int = RELEASE

    def shape(self, scale: int) -> tuple[int, int]:
        """Bytes of address space and of resident memory at a scale, in whole 2 MiB."""
        virt = max(self.virt // scale // PMD_SIZE, 1) * PMD_SIZE
        return virt, min(max(self.resident // scale // PMD_SIZE, 1) * PMD_SIZE, virt)

    def words(self) -> str:
        """The process as its operator names it."""
        return f"VIRT {report.size(self.virt >> 10)}, RES {report.size(self.resident >> 10)}"


LETTER = Sizes()


def geometry(scale: int, sizes: Sizes = LETTER, apart: bool = False) -> Geometry:
    """The machine that holds the process at a scale, whatever the policy; with bodies apart from its tables, or not."""
    virt, resident = sizes.shape(scale)
    upper = virt // GIB + virt // (512 * GIB) + 4
    return Geometry(
        insns=8 + 2 * (virt // GIB + 2),
        vmas=8,
        frames=resident // 4096 + GIB // PMD_SIZE + 2 * PCP_ROOM,
        tables=virt // PMD_SIZE + upper + 4096,
        frame_words=1,
        bodies=resident // PMD_SIZE + GIB // PMD_SIZE + upper + 64 if apart else 0,
    )


def smallest(scale: int, sizes: Sizes, native: bool) -> int:
    """Bytes of the smallest machine that holds the process at a scale: bodies go apart in engine native alone."""
    return geometry(scale, sizes, native).needs()


def apart(scale: int, sizes: Sizes, native: bool) -> bool:
    """True if the process is so large that bodies go apart from the tables, which takes a build of its own."""
    return native and geometry(scale, sizes).needs() > min(LARGE, available_bytes())


def largest_that_fits(available: int, sizes: Sizes = LETTER, native: bool = True) -> int:
    """The smallest scale, so the largest process, whose machine takes at most `available` bytes."""
    low, high = 1, MAX_SCALE
    while low < high:
        middle = (low + high) // 2
        if smallest(middle, sizes, native) <= available:
            high = middle
        else:
            low = middle + 1
    return low


def choose_scale(wanted: str, sizes: Sizes = LETTER, default: int = DEFAULT_SCALE, native: bool = True) -> int:
    """The scale to run: a number, `fit`, or by default the first from `default` on that fits. Raises UserError."""
    available = available_bytes()
    fits = largest_that_fits(available, sizes, native)
    if wanted == "fit":
        return fits
    if not wanted:
        if fits > default:
            note(f"memory is short: running at --scale {fits} instead of {default}")
        return max(fits, default)
    if not wanted.isdecimal() or not 1 <= int(wanted) <= MAX_SCALE:
        raise UserError(f"--scale '{wanted}' is out of range; known: a whole number from 1 to {MAX_SCALE}, or fit")
    scale = int(wanted)
    if scale < fits:
        needed = smallest(scale, sizes, native)
        raise UserError(
            f"--scale {scale} needs {needed >> 20:,} MiB of shared memory and {available >> 20:,} MiB are there; "
            f"the largest that fits is --scale {fits}"
        )
    return scale


def check_sizes(sizes: Sizes) -> None:
    """Refuse a process that cannot be. Raises UserError."""
    if not PMD_SIZE <= sizes.virt <= LARGEST:
        raise UserError("--virt is out of range; known: 2M to 96T")
    if not 4096 <= sizes.resident <= sizes.virt:
        raise UserError("--res is out of range; known: 4K to --virt")
    if sizes.call % 4096 or not 4096 <= sizes.call <= GIB:
        raise UserError("--call is out of range; known: whole pages of 4K, up to 1G")


def program(virt: int, resident: int, call: int = RELEASE) -> list[Any]:
    """Touch what stays; then touch every other 2 MiB sparsely and release it, GiB by GiB."""
    code = [mmap(BASE, virt), touch(BASE, resident)]
    at = resident
    while at < virt:
        end = min((at + GIB) // GIB * GIB, virt)
        code += [touch(BASE + at, end - at, PMD_SIZE), dontneed(BASE + at, end - at, call)]
        at = end
    return [*code, STOP]


def measure(policy: str, setup: dict[str, Any], record: Record, progress: Progress) -> None:
    """Run the process under one policy and enter its row."""
    from workers.machine import Machine

    sizes, lab = setup.get("sizes", LETTER), setup["lab"]
    virt, resident = sizes.shape(setup["scale"])
    code = program(virt, resident, sizes.call)
    work = resident // 4096 + (virt - resident) // PMD_SIZE * (1 + RELEASED)

    def done(cpu: Any) -> float:
        return float(cpu["faults"] + RELEASED * cpu["zapped"]) / work

    with Machine(geometry(setup["scale"], sizes, lab.bodies_apart), policy, lab.instruments(1)) as machine:
        row = session.memory_row(machine, code, policy, lab, record, progress, done)
        record.rows.append({"scale": setup["scale"], **row})


def host(record: Record, setup: dict[str, Any]) -> None:
    """The same process on this host's real kernel, if it has room for the tables."""
    sizes = setup["sizes"]
    virt, resident = sizes.shape(setup["scale"])
    wanted = virt // PMD_SIZE * 4096 + resident
    try:
        if wanted > available_bytes() // 2:
            raise HostUnavailable(f"it would take {wanted / GIB:.1f} GiB of this machine's memory; try --scale")
        insns = [insn._replace(record=row) for row, insn in enumerate(program(virt, resident, sizes.call)[:-1])]
        last = record_program(insns, len(insns))[-1]
    except HostUnavailable as reason:
        note(f"this host's kernel is not measured: {reason}")
        return
    figures = {"vmpte_kb": int(last["pgtables_bytes"]) // 1024, "res_kb": int(last["rss_anon"]) * 4}
    missing = dict.fromkeys(("engine", "needed_kb", "tables_installed", "tables_freed", "seconds"))
    virt_kb = {"virt_kb": virt // 1024, "faults": int(last["minflt"])}
    record.rows.append({"scale": setup["scale"], "policy": "host", **missing, **virt_kb, **figures})


def run(record: Record, setup: dict[str, Any]) -> None:
    """Every policy in turn, then this host's kernel if asked for."""
    with Progress("server-snapshot") as progress:
        for policy in setup["lab"].policies:
            measure(policy, setup, record, progress)
        if setup["host"]:
            progress.update(1.0, "host")
            host(record, setup)


def show(record: Record, setup: dict[str, Any]) -> None:
    """The process at its scale, and what that means at full size."""
    scale, sizes = setup["scale"], setup["sizes"]
    report.prose(
        f"server-snapshot: the process of {sizes.words()} at 1/{scale}; engine {setup['lab'].engine}, "
        f"released in calls of {sizes.call >> 10:,} kB"
    )
    report.write("needed: PTE tables with an entry in them, and the tables above those\n")
    madvise_loop.show_memory(replace(record, rows=[row for row in record.rows if row["policy"] != "host"]))
    for row in report.rows_of(record, policy="host"):
        report.write(
            f"host: this kernel, from nothing on: VmPTE {report.kb(row['vmpte_kb'])}, {row['faults']:,} faults\n"
        )
    lines = []
    for row in record.rows:
        full = row["vmpte_kb"] * scale / (1 << 20)
        needed = "-" if row["needed_kb"] is None else f"{row['needed_kb'] * scale / (1 << 20):.2f} GiB"
        lines.append([row["policy"], f"{full:.1f} GiB", needed])
    letter = " (the cover letter: 110g held, 1.2g needed)" if sizes == LETTER else ""
    report.table(["policy", "VmPTE x scale", "needed x scale"], lines, f"at full size{letter}")
    if machines := [row["machine_kb"] for row in record.rows if "machine_kb" in row]:
        report.write(f"shared memory of this host: {max(machines) >> 10:,} MiB for one machine at a time\n")


@click.command("server-snapshot", help=(__doc__ or "").split("\n\n")[1])
@click.option(
    "--virt", default="55T", metavar="SIZE", callback=options.size, help="Address space, each 2 MiB touched once. [55T]"
)
@click.option("--res", default="590G", metavar="SIZE", callback=options.size, help="Memory that stays resident. [590G]")
@click.option(
    "--call", default="64K", metavar="SIZE", callback=options.size, help="Released by one MADV_DONTNEED. [64K]"
)
@click.option(
    "--scale", default="", metavar="N", help=f"Divide every size by N; fit: the largest that fits. [{DEFAULT_SCALE}]"
)
@click.option("--host/--no-host", default=False, help="Run the same on this host's kernel. [no]")
@options.shared
def command(virt: int, res: int, call: int, scale: str, host: bool, lab: options.Lab) -> int:
    """Run the scenario; the exit status."""
    lab.check_stops(1)
    sizes = Sizes(virt, res, call)
    check_sizes(sizes)
    default = DEFAULT_SCALE if sizes[:2] == LETTER[:2] else 1
    native = lab.engine == ENGINES[0]
    chosen = choose_scale(scale, sizes, default, native)
    lab = replace(lab, bodies_apart=apart(chosen, sizes, native))
    setup: dict[str, Any] = {"sizes": sizes, "scale": chosen, "host": host, "lab": lab}
    record = Record("server-snapshot", lab.seed)
    return session.conduct(record, lab, lambda: run(record, setup), lambda: show(record, setup))
