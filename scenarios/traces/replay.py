"""replay: what does a recorded memory trace cost in page tables, line by line, under a policy?

The trace is the program of one CPU. The rows have the columns of what a real Linux was recorded to do
(tests/conformance): VmPTE kB, RssAnon kB and minor faults so far, 0 or -errno. They start from no tables at all.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from emulator.checks import audit
from scenarios.traces.footprint import geometry_for
from scenarios.traces.trace import TraceError, parse, rows_of
from workers.instruments import PLAIN, Instruments
from workers.machine import Machine
from workers.programs.program import STOP
from workers.signals import signals_of
from workers.telling.violation import Violation, report_lines, violation_of


@dataclass(frozen=True)
class ReplayResult:
    """What a replay gave: one row per operation, violations per check, the BUG that ended it or None, seconds.

    `notes` says of the stops that were asked for who stood still, and which did not happen; `signals` of the first
    access that got one, and of the latest.
    """

    rows: list[str]
    checks: dict[str, int]
    violation: Violation | None
    seconds: float
    notes: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if the machine was sound to the end."""
        return self.violation is None and not any(self.checks.values())


def run_replay(path: str | Path, policy: str = "none", instruments: Instruments = PLAIN) -> ReplayResult:
    """Run a trace on a machine of its size and audit what is left.

    Raises TraceError before anything runs, SegmentTooLarge if no machine of that size fits, MachineFailed if it dies.
    """
    trace = parse(path)
    program = trace.program()
    with Machine(geometry_for(program, trace.files), policy, instruments) as machine:
        machine.views["file"]["size"][: len(trace.files)] = trace.files
        machine.views["file"]["shmem"] = 1  # the recorded machine's files were in shared memory, too
        machine.load(0, [*program, STOP])
        began = time.perf_counter()
        machine.start()
        machine.wait()
        seconds = time.perf_counter() - began
        violation = violation_of(machine.views, machine.geometry)
        cpu = machine.views["cpu"][0]
        done = len(program) if violation is None else int(cpu["pc"] - cpu["insn_base"])
        done = sum(insn.record >= 0 for insn in program[:done])
        checks = audit(machine.views, machine.geometry) if violation is None else {}
        checks["allocations_failed"] = int(cpu["oom"])  # the footprint was too small
        notes = (*machine.stops.stalls(), *filter(None, machine.stops.missed()))
        signals = tuple(str(of) for of in signals_of(machine.views, machine.geometry))
        return ReplayResult(rows_of(trace, machine.views["record"][:done]), checks, violation, seconds, notes, signals)


def command(path: str, policy: str, instruments: Instruments, host: bool = False) -> int:
    """Replay a trace and print its rows, and nothing else, on stdout; the exit status. With `host` compare them."""
    from emulator.segment import SegmentTooLarge
    from scenarios.session import errors
    from scenarios.session.progress import note
    from workers.telling.postmortem import MachineFailed

    try:
        result = run_replay(path, policy, instruments)
    except (TraceError, SegmentTooLarge) as error:
        raise errors.UserError(str(error)) from None
    except MachineFailed as failure:
        note(str(failure))
        return errors.INTERNAL
    sys.stdout.writelines(f"{row}\n" for row in result.rows)
    for text in (*result.notes, *result.signals):
        note(text)
    if result.violation is not None:
        note("\n".join(report_lines(result.violation)))
    for name, violations in result.checks.items():
        if violations:
            note(f"check {name}: {violations} violations")
    if not result.passed:
        return errors.VIOLATION
    if not host:
        return errors.OK
    from scenarios.traces.recorder import compare

    return compare(path, result.rows)
