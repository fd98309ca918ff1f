"""replay: what does a recorded memory trace cost in page tables, line by line, under a policy?

The trace is the program of one CPU, or with --timing each of its threads has one. The rows have the columns of what a
real Linux was recorded to do (tests/conformance). These are VmPTE kB, RssAnon kB and minor faults so far, 0 or -errno.
They start from no tables at all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emulator import engine
from emulator import lazy_numpy as np
from emulator.checks import audit
from emulator.mm_types import PAGE_SIZE, PCP_ROOM, Geometry
from emulator.segment import SegmentTooLarge
from emulator.uapi import VM_ACCESS_FLAGS, VM_EXEC, VM_PKEY_BIT0, Op
from scenarios.session import errors, report
from scenarios.session.options import Lab
from scenarios.session.progress import note
from scenarios.session.record import Record
from scenarios.session.session import needed_kb
from scenarios.session.style import style
from scenarios.traces.footprint import MOST_MACHINES, geometry_for, larger
from scenarios.traces.recorder import compare
from scenarios.traces.timing import programs, threads_of
from scenarios.traces.trace import Trace, TraceError, parse, rows_of
from workers.host.kernel_facts import has_protection_keys
from workers.instruments import PLAIN, Instruments
from workers.machine import Machine
from workers.programs.program import Insn
from workers.signals import signals_of
from workers.telling.postmortem import MachineFailed
from workers.telling.violation import Violation, report_lines, violation_of

CHILD_COLUMNS = ("vmpte_kb", "rss_anon_kb", "minflt")
COLUMNS = (*CHILD_COLUMNS, "error")
HEADING = ("VmPTE kB", "RssAnon kB", "minor faults", "0 or -errno", "child", "operation", "found")
SUMMARY = ("policy", "VmPTE peak", "VmPTE end", "needed end", "RSS peak", "RSS end", "faults", "errors", "lines")
COUNTERS = ("faults", "flushes_local", "flushes_full", "tables_installed", "tables_freed", "zapped")
TOO_SMALL = "allocations_failed"


@dataclass(frozen=True)
class ReplayResult:
    """What a replay of `trace` gave: a row of m.record per operation, violations per check, the BUG that ended it or
    None, seconds.

    `needed_kb` are the page tables that hold something at the end, `counters` those of the CPU. `notes` has the
    processes that stood still as they were asked to, and the stops that did not happen. `signals` has the first access
    that got one, and the latest.
    """

    trace: Trace
    records: np.ndarray
    checks: dict[str, int]
    violation: Violation | None
    seconds: float
    missed: bool = False  # a stop that was asked for did not happen
    notes: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    needed_kb: int = 0
    counters: dict[str, int] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[str]:
        """The figures of each operation as text."""
        return rows_of(self.trace, self.records)

    @property
    def passed(self) -> bool:
        """True if the machine was sound to the end."""
        return self.violation is None and not any(self.checks.values())


def run_replay(
    path: str | Path, policy: str = "none", instruments: Instruments = PLAIN, timing: str | None = None
) -> ReplayResult:
    """Run a trace on a machine of its size and audit what is left; with a `timing` (timing.TIMINGS) on many CPUs.

    Raises TraceError before anything runs, SegmentTooLarge if no machine of that size fits, MachineFailed if it dies.
    """
    return replay_trace(parse(path), policy, instruments, timing)


def replay_trace(
    trace: Trace,
    policy: str = "none",
    instruments: Instruments = PLAIN,
    timing: str | None = None,
    protection_keys: bool = False,
) -> ReplayResult:
    """Run a parsed trace, on a larger machine if the first was too small: that is no answer of Linux's.

    With `protection_keys` as on a processor that has them. Raises as run_replay.
    """
    own = programs(trace, timing)
    if protection_keys:
        own = [[with_keys(insn) for insn in one] for one in own]
    geometry = geometry_for(trace.program(), trace.files)
    geometry = replace(
        geometry,
        cpus=len(own),
        insns=sum(map(len, own)),
        frames=geometry.frames + (len(own) - 1) * PCP_ROOM,
        tables=geometry.tables + (len(own) - 1) * PCP_ROOM,
    )
    for _ in range(MOST_MACHINES - 1):
        result = replay_on(trace, own, geometry, policy, instruments)
        if not result.checks.get(TOO_SMALL):
            return result
        geometry = larger(geometry)
    return replay_on(trace, own, geometry, policy, instruments)


def with_keys(insn: Insn) -> Insn:
    """An instruction whose PROT_EXEC, where that stands alone, gets a key that denies reads (execute_only_pkey)."""
    if insn.op in (Op.MMAP, Op.MPROTECT) and insn.arg & VM_ACCESS_FLAGS == VM_EXEC:
        return insn._replace(arg=insn.arg & ~VM_EXEC | VM_PKEY_BIT0)
    return insn


def replay_on(
    trace: Trace, own: list[list[Insn]], geometry: Geometry, policy: str, instruments: Instruments
) -> ReplayResult:
    """Run a parsed trace, as programs of CPUs, on a machine of a given size. Raises as run_replay."""
    with Machine(geometry, policy, instruments) as machine:
        machine.views["file"]["size"][: len(trace.files)] = trace.files
        machine.load_all(own)
        began = time.perf_counter()
        machine.start()
        machine.wait()
        seconds = time.perf_counter() - began
        violation = violation_of(machine.views, machine.geometry)
        cpu = machine.views["cpu"][: geometry.cpus]
        done = len(trace.operations)
        if violation is not None:  # the rows up to the first that somebody has yet to do
            left = (insns[int(pc - base) :] for insns, pc, base in zip(own, cpu["pc"], cpu["insn_base"], strict=True))
            done = min((insn.record for insns in left for insn in insns if insn.record >= 0), default=done)
        checks = audit(machine.views, machine.geometry) if violation is None else {}
        checks[TOO_SMALL] = int(cpu["oom"].sum())  # the footprint was too small
        missed = any(machine.stops.missed())
        notes = (*machine.stops.stalls(), *filter(None, machine.stops.missed()))
        signals = tuple(str(of) for of in signals_of(machine.views, machine.geometry))
        return ReplayResult(
            trace,
            machine.views["record"][:done].copy(),
            checks,
            violation,
            seconds,
            missed,
            notes,
            signals,
            needed_kb(machine),
            {name: int(cpu[name].sum()) for name in COUNTERS},
        )


@dataclass(frozen=True)
class Shown:
    """What of a replay is printed: each row, or a row each `every` lines, or a `summary` of each policy."""

    every: int | None = None
    summary: bool = False


def replay_file(
    path: str,
    policies: Sequence[str],
    lab: Lab,
    host: bool = False,
    timing: str | None = None,
    shown: Shown = Shown(),
) -> int:
    """Replay a trace and print its rows, and nothing else, on stdout; the exit status. With `host` compare them.

    The rows of each of several policies stand behind a comment with its name.
    """
    record = Record("replay", lab.seed)
    results: dict[str, ReplayResult] = {}
    try:
        if remark := engine.remark():
            note(remark)
        trace = parse(path)
        instruments = lab.instruments(len(threads_of(trace)) if timing else 1)
        for policy in policies:
            results[policy] = replay_trace(trace, policy, instruments, timing, host and has_protection_keys())
            _enter(record, results[policy], policy)
    except (TraceError, SegmentTooLarge) as error:
        raise errors.UserError(str(error)) from None
    except MachineFailed as failure:
        record.failure = str(failure)
        note(record.failure)
    if not record.write(lab.json_file):
        if shown.summary:
            _show_summary(path, results)
        else:
            for policy, result in results.items():
                _show_rows(result, policy if len(policies) > 1 else "", shown.every)
    for result in results.values():
        _tell(result)
    if record.exit_status != errors.OK or not host:
        return record.exit_status

    return compare(path, results[policies[0]].rows, policies[0])


def _enter(record: Record, result: ReplayResult, policy: str) -> None:
    """The rows of --json: a line of the trace each, with its figures as the text has them."""
    for row, operation in zip(result.rows, result.trace.operations, strict=False):
        words = row.split("\t")[1:] if result.trace.numbered else row.split("\t")
        figures: dict[str, Any] = dict(zip(COLUMNS, map(int, words[: len(COLUMNS)]), strict=True))
        child = words[len(COLUMNS)] if len(words) > len(COLUMNS) and not result.trace.numbered else ""
        figures["value"] = int(words[-1]) if operation.value else None
        figures["child"] = dict(zip(CHILD_COLUMNS, map(int, child.split(":")), strict=True)) if child else None
        record.rows.append({"policy": policy, "line": operation.line, "operation": operation.text, **figures})
    record.add_checks(result.checks)
    record.violations += [result.violation] if result.violation is not None else []
    record.inconclusive = record.inconclusive or result.missed


def _show_rows(result: ReplayResult, policy: str, every: int | None) -> None:
    """The rows on stdout, or with their line each so many and the last; a heading where people read them."""
    rows = result.rows
    heading: tuple[str, ...] = HEADING
    if result.trace.numbered:
        heading = ("line", *HEADING[: len(COLUMNS)], HEADING[-1])
    if every is not None:
        chosen = sorted({*range(every - 1, len(rows), every), len(rows) - 1} & set(range(len(rows))))
        if not result.trace.numbered:
            heading = ("line", *HEADING)
            rows = [f"{at.line}\t{row}" for at, row in zip(result.trace.operations, rows, strict=False)]
        rows = [rows[i] for i in chosen]
    if every is not None or sys.stdout.isatty():
        rows = ["\t".join(heading), *rows]
    report.verbatim("\n".join([f"# {policy}"] * bool(policy) + rows))


def _show_summary(path: str, results: Mapping[str, ReplayResult]) -> None:
    """A line per policy: how high it went, what is left, and what of it is needed."""
    lines = []
    for policy, result in results.items():
        rows = result.records
        vmpte, rss = (rows[name] * (to_kb / 1024) for name, to_kb in (("pgtables_bytes", 1), ("rss_anon", PAGE_SIZE)))
        figures = [(each.max(), each[-1]) if len(rows) else (0, 0) for each in (vmpte, rss)]
        kilobytes = [*figures[0], result.needed_kb, *figures[1]]
        counts = [int(rows["minflt"][-1]) if len(rows) else 0, int((rows["error"] != 0).sum()), len(rows)]
        lines.append([policy, *(f"{figure:,.0f}" for figure in (*kilobytes, *counts))])
    report.table(
        SUMMARY, lines, f"replay: {Path(path).name}; kB of the first process; needed: tables with an entry, of all"
    )


def _tell(result: ReplayResult) -> None:
    """What else is to be said, on stderr."""
    for text in (*result.notes, *result.signals):
        note(text)
    if result.violation is not None:
        note("\n".join(report_lines(result.violation, style().width)))
    for name, violations in result.checks.items():
        if violations:
            note(f"check {name}: {violations} violations")
