"""What every scenario does around its machines: prepare the engine, watch, audit, end well when interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from emulator import engine
from emulator.checks import Frozen, audit
from emulator.mm_types import CPU, PAGE_SIZE, TABLES
from emulator.segment import SegmentTooLarge, available_bytes
from scenarios.session import errors, report
from scenarios.session.options import Lab
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers.interrupts import Interrupted
from workers.signals import signals_of
from workers.telling.postmortem import MachineFailed
from workers.telling.violation import violation_of

SAMPLE_SECONDS = 0.2  # between two looks at what a machine holds


def conduct(record: Record, lab: Lab, body: Callable[[], None], show: Callable[[], None]) -> int:
    """Run `body`, which fills the record, then show and write it; the exit status.

    An interrupt or a process that dies ends the body; what was measured until then is shown all the same.
    """
    lab.choose_engine()

    try:
        if remark := engine.remark():
            note(remark)
        if not engine.is_prepared():
            note("compiling the kernels, once for this version: a minute or two")
        body()
    except Interrupted as interrupt:
        record.interrupted = 128 + interrupt.number
    except MachineFailed as failure:
        record.failure = str(failure)
        note(str(failure))
    except SegmentTooLarge as error:
        raise errors.UserError(str(error)) from None
    for text in record.missed():
        note(text)
        record.inconclusive = True  # what was asked for did not happen
    try:
        elsewhere = record.write(lab.json_file)
    except OSError as error:
        if error.filename is None:
            raise
        elsewhere, record.failure = False, f"cannot write {error.filename}: {error.strerror}"
        note(record.failure)
    if not elsewhere:
        show()
        report.checks_and_verdict(record)
    return record.exit_status


def finish(
    machine: Any, record: Record, lab: Lab, command: str | None = None, frozen: Frozen | None = None
) -> dict[str, int]:
    """Audit a machine that has come to rest, or enter what it froze on; its counters, summed over the CPUs.

    `command` runs this machine again, if it is not the command of the whole record; `frozen` is what was found in it.
    """
    violation = violation_of(machine.views, machine.geometry)
    if violation is not None:
        violation.command = command or record.command
        record.violations.append(violation)
    elif lab.checks != "off":
        record.add_checks(audit(machine.views, machine.geometry, frozen))
    record.add_signals(signals_of(machine.views, machine.geometry))
    record.add_ages(machine.views["rcu_age"]["count"])
    if machine.geometry.debug:
        record.add_paths(machine.views["path_taken"]["word"])
    for text in record.add_stops(machine.stops):
        note(text)
    names = list(CPU.comments)
    first = names.index("insns")
    return {name: int(machine.views["cpu"][name].sum()) for name in names[first:]}


def needed_kb(machine: Any, mm: int | None = None, frozen: Frozen | None = None) -> int:
    """Page tables that hold something: PTE tables with an entry that is not none, and the tables above them, in kB.

    Those of all address spaces, or of one.
    """
    needed = (frozen or Frozen(machine.views, machine.geometry)).needed()
    if mm is not None:
        needed = needed[machine.views["ptdesc"]["mm"][needed] == mm + 1]
    return len(needed) * PAGE_SIZE // 1024


Samples = dict[str, list[float]]  # what a machine held, look by look


def add_sample(samples: Samples, machine: Any, seconds: float) -> None:
    """Enter what the machine holds now: VmPTE of all mms, tables that wait for a grace period, free tables."""
    views = machine.views
    zone = views["zone"][TABLES]
    free = zone["limit"] - zone["fresh"] + zone["count"] + views["pcp"]["count"][TABLES::2].sum()
    now = {
        "seconds": round(seconds, 6),
        "vmpte_kb": int(views["mm"]["pgtables_bytes"].sum()) // 1024,
        "limbo_tables": int(views["cpu"]["tables_deferred"].sum() - views["rcu"]["freed"][0]),
        "free_tables": int(free),
    }
    for name, value in now.items():
        samples.setdefault(name, []).append(value)


def run_sampled(machine: Any, seconds: float) -> Samples:
    """Watch a machine for `seconds`, or until it stops by itself: what it held."""
    samples: Samples = {}
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0 and machine.run_for(min(left, SAMPLE_SECONDS)):
        add_sample(samples, machine, time.monotonic() - began)
    return samples


def wait_sampled(machine: Any, every: float = SAMPLE_SECONDS, look: Callable[[], None] = lambda: None) -> Samples:
    """Wait for a machine's end: what it held until then, and in the end. `look` is called as often as that is noted."""
    samples: Samples = {}
    began = time.monotonic()
    while not machine.wait(every):
        look()
        add_sample(samples, machine, time.monotonic() - began)
    add_sample(samples, machine, time.monotonic() - began)
    return samples


def memory_row(
    machine: Any,
    program: Any,
    policy: str,
    lab: Lab,
    record: Record,
    progress: Progress,
    done: Callable[[Any], float],
) -> dict[str, Any]:
    """Run a program on CPU 0 to its end, audit, and read what its mm holds then.

    `done` says of the CPU's row of `cpu` which share of the program is behind it.
    """
    machine.load(0, program)
    machine.start()
    cpu, mm = machine.views["cpu"], machine.views["mm"]
    samples = wait_sampled(machine, look=lambda: progress.update(min(1.0, done(cpu[0])), policy))
    machine_kb = machine.segment.taken_bytes() // 1024
    frozen = Frozen(machine.views, machine.geometry)
    counters = finish(machine, record, lab, frozen=frozen)
    return {
        "policy": policy,
        "engine": lab.engine,
        "virt_kb": int(mm["total_vm"][0]) * 4,
        "res_kb": int(mm["rss_anon"][0] + mm["rss_file"][0]) * 4,
        "vmpte_kb": int(mm["pgtables_bytes"][0]) // 1024,
        "needed_kb": needed_kb(machine, frozen=frozen),
        **{name: counters[name] for name in ("faults", "tables_installed", "tables_freed", "tables_reused")},
        "machine_kb": machine_kb,
        "grace_periods": int(machine.views["rcu"]["gp_completed"][0]),
        "samples": samples,
        "seconds": int(cpu["finished_ns"][0] - cpu["started_ns"][0]) / 1e9,
    }


def check_fits(
    option: str, value: int, low: int, geometry: Callable[[int], Any], spell: Callable[[int], str] = str
) -> None:
    """Refuse a machine that does not fit into memory, naming the largest value of the option that does.

    `geometry(value)` grows with the value, and `low` is the smallest one. Raises UserError.
    """

    def size(of: int) -> int:
        return int(geometry(of).offsets()[1])

    available = available_bytes()
    if size(value) <= available:
        return
    best, above = low - 1, value
    while above - best > 1:
        middle = (best + above) // 2
        best, above = (middle, above) if size(middle) <= available else (best, middle)
    known = (
        f"the largest that fits is {option} {spell(best)}" if best >= low else f"not even {option} {spell(low)} fits"
    )
    raise errors.UserError(
        f"{option} {spell(value)} needs {size(value) / 2**20:,.0f} MiB of shared memory and "
        f"{available / 2**20:,.0f} MiB are there; {known}"
    )
