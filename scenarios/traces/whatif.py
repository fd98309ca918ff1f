"""whatif: what would a real program hold in page tables under each design, over its time, and what would that cost?

FILE is a memory trace, or what `ptelab import` makes one of: a log of strace or perf. The program is one CPU; the
figures are those of all its processes together.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from emulator import lazy_numpy as np
from emulator.policy.policies import POLICIES
from emulator.segment import SegmentTooLarge
from emulator.uapi import Op
from scenarios.imports.account import Account
from scenarios.imports.command import import_files, show
from scenarios.imports.inputs import Inputs
from scenarios.imports.lines import Unreadable
from scenarios.reports.reading import Run
from scenarios.session import errors, report
from scenarios.session.files import input_file
from scenarios.session.options import Lab, completing, engine_options, names_of
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from scenarios.traces.agreement import host_policy
from scenarios.traces.trace import Operation, Trace, TraceError, parse
from workers.programs.program import compute
from workers.telling.postmortem import MachineFailed

if TYPE_CHECKING:
    from scenarios.traces.replay import ReplayResult

DEFAULTS = ("none", "refcount", "pt-reclaim", "async-scan")
REST_US, RESTS = 100_000, 4  # the program then sleeps, so that what scans now and then has its chance
_POINTS = 400  # of a curve in the JSON
_RELEASES = ("munmap", "exit", "reap", "mr", "mremap", "mremapmv", "mm", "mf", "mmap")
_SCAN = "the scan"


class Curve(NamedTuple):
    """VmPTE of all processes after each operation, in kB, under one policy; `freed` is kB by the call that freed it."""

    policy: str
    held: np.ndarray
    freed: Counter[str]
    result: ReplayResult
    off: np.ndarray  # at each `expect`, how much more its process has here than it had, kB

    @property
    def peak(self) -> int:
        """The most."""
        return int(self.held.max(initial=0))

    @property
    def end(self) -> int:
        """What is held when the program ends."""
        return int(self.held[-RESTS - 1]) if len(self.held) > RESTS else 0

    @property
    def at_rest(self) -> int:
        """What is held when it has slept a while."""
        return int(self.held[-1]) if len(self.held) else 0


def with_rest(trace: Trace) -> Trace:
    """The same trace, and then nothing for a while."""
    rest = [Operation(0, "rest", (compute(REST_US),)) for _ in range(RESTS)]
    return trace._replace(operations=[*trace.operations, *rest])


def curve_of(policy: str, result: ReplayResult) -> Curve:
    """What a replay held, over its operations."""
    records = result.records
    held = records["pgtables_bytes"].astype(np.int64) // 1024
    children = np.zeros(len(records), np.int64)
    living: dict[int, int] = {}
    for row in np.flatnonzero(_of_children(result.trace, len(records))):
        first, done = result.trace.operations[row].insn, result.trace.operations[row].done
        before = sum(living.values())
        if first.op == Op.REAP:
            living.clear()
        elif done.op == Op.EXIT_CHILD:
            living.pop(done.addr, None)
        elif records["child"][row] and first.addr:
            living[first.addr] = int(records["child_pgtables_bytes"][row]) // 1024
        children[row] = sum(living.values()) - before
    held = held + np.cumsum(children)
    return Curve(policy, held, _freed(policy, result.trace, held), result, _off(result))


def _off(result: ReplayResult) -> np.ndarray:
    """The differences to what the trace expects."""
    found = []
    for operation, record in zip(result.trace.operations, result.records, strict=False):
        words = operation.text.split()
        if "expect" in words[:3:2]:
            field = "pgtables_bytes" if words[0] == "expect" else "child_pgtables_bytes"
            found.append(int(record[field]) // 1024 - int(words[-2].removesuffix("K")))
    return np.array(found, np.int64)


def _of_children(trace: Trace, rows: int) -> np.ndarray:
    """For each row whether its line is about a child that stays."""
    of = (Op.FORK_HOLD, Op.IN_CHILD, Op.EXIT_CHILD, Op.REAP)
    return np.array([operation.insn.op in of for operation in trace.operations[:rows]], bool)


def _freed(policy: str, trace: Trace, held: np.ndarray) -> Counter[str]:
    """How many kB went at which kind of call; what goes at others than releases of addresses is the scan's."""
    found: Counter[str] = Counter()
    change = np.diff(held, prepend=0)
    for row in np.flatnonzero(change < 0):
        words = trace.operations[row].text.split()
        word = words[2] if words[0] == "in" else words[0]
        if POLICIES[policy].scan_period and word not in _RELEASES:
            word = _SCAN
        found[word] -= int(change[row])
    return found


def read(file: str, touch: str | None = None) -> Trace:
    """The trace that a file is, or that an import of it gives. Raises UserError."""
    try:
        if file.endswith((".trace", ".trace.gz")) or not _is_log(file):
            return parse(file)
        with tempfile.TemporaryDirectory(prefix="ptelab-") as directory:
            out = str(Path(directory) / "imported.trace")
            show(import_files([file], out, touch), file)
            return parse(out)
    except TraceError as error:
        raise errors.UserError(str(error)) from None


def _is_log(file: str) -> bool:
    """True if some tool that is known wrote a file."""
    try:
        Inputs([file], Account()).close()
    except Unreadable:
        return False
    return True


def run(trace: Trace, lab: Lab, record: Record) -> list[Curve]:
    """Replay a trace under each policy; each is a row. Raises SegmentTooLarge, MachineFailed."""
    from scenarios.traces.replay import replay_trace  # loads the engine, which the options have chosen by now

    curves = []
    whole = with_rest(trace)
    with Progress("whatif") as progress:
        for i, policy in enumerate(lab.policies):
            progress.update(i / len(lab.policies), policy)
            result = replay_trace(whole, policy, lab.instruments(1))
            curves.append(curve_of(policy, result))
            record.add_checks(result.checks)
            record.violations += [result.violation] if result.violation is not None else []
            record.rows.append(_row(curves[-1]))
    return curves


def _row(curve: Curve) -> dict[str, Any]:
    """The row of --json of one policy."""
    counters = curve.result.counters
    held = curve.held
    step = max(1, -(-len(held) // _POINTS))
    return {
        "policy": curve.policy,
        "operations": len(held) - RESTS,
        "peak_kb": curve.peak,
        "peak_operation": int(held.argmax()) if len(held) else 0,
        "end_kb": curve.end,
        "at_rest_kb": curve.at_rest,
        "needed_kb": curve.result.needed_kb,
        "mean_kb": round(float(held.mean()), 1) if len(held) else 0.0,
        "freed_kb": dict(curve.freed.most_common()),
        "flushes": counters["flushes_local"],
        "flushes_full": counters["flushes_full"],
        "faults": counters["faults"],
        "tables_installed": counters["tables_installed"],
        "tables_freed": counters["tables_freed"],
        "expected": len(curve.off),
        "as_expected": int((curve.off == 0).sum()),
        "largest_difference_kb": int(np.abs(curve.off).max(initial=0)),
        "seconds": curve.result.seconds,
        "curve_step": step,
        "curve_kb": [int(held[at : at + step].max()) for at in range(0, len(held), step)],
    }


def tell(file: str, curves: Sequence[Curve], record: Record, host: str) -> None:
    """The curves and the tables, on stdout."""
    operations = len(curves[0].held) - RESTS
    report.write(f"whatif: {Path(file).name}, {operations:,} operations; VmPTE of all its processes, in kB")
    report.write(f"this kernel's design is {host}; needed: tables with an entry, and those above, at the end\n")
    report.pictures([Run(Path(file).name, record.as_json())])
    base = curves[0].result.counters["flushes_local"]
    lines = [
        [
            curve.policy,
            f"{curve.peak:,}",
            f"{curve.end:,}",
            f"{curve.at_rest:,}",
            f"{curve.result.needed_kb:,}",
            f"{curve.result.counters['tables_freed']:,}",
            f"{curve.result.counters['flushes_local']:,}",
            f"{curve.result.counters['flushes_local'] - base:+,}",
            f"{curve.result.counters['faults']:,}",
        ]
        for curve in curves
    ]
    over = f"over {curves[0].policy}"
    report.table(["policy", "peak", "end", "at rest", "needed", "tables freed", "flushes", over, "faults"], lines)
    _tell_expected(curves)
    calls = Counter[str]()
    for curve in curves:
        calls.update(curve.freed)
    names = [name for name, _ in calls.most_common(6)]
    if names:
        freed = [[curve.policy, *(f"{curve.freed[name]:,}" for name in names)] for curve in curves]
        report.table(["kB freed by", *names], freed)
    if any(POLICIES[curve.policy].scan_period for curve in curves):
        report.write("async-scan goes by the clock, and a replay is faster than the program: look at its rest")


def _tell_expected(curves: Sequence[Curve]) -> None:
    """How near each design comes to what the program had when it was recorded."""
    if len(curves[0].off):
        lines = [
            [
                curve.policy,
                f"{(curve.off == 0).sum():,} of {len(curve.off):,}",
                f"{curve.off.min():+,} .. {curve.off.max():+,}",
            ]
            for curve in curves
        ]
        report.table(["policy", "as recorded", "kB more than recorded"], lines)


def default_policies() -> tuple[str, ...]:
    """This kernel's, if it can be told, and those it is compared with."""
    return tuple(dict.fromkeys(("none", host_policy(), *DEFAULTS)))


def _policies(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """A click callback for some policies, or those that are compared by default."""
    return names_of("policy", POLICIES, value) or list(default_policies())


_HELP = (__doc__ or "").split(": ", 1)[1]


@click.command("whatif", help=_HELP[0].upper() + _HELP[1:])
@click.argument("file", callback=input_file)
@click.option(
    "--policy",
    default="",
    metavar="NAME,...",
    callback=_policies,
    shell_complete=completing(POLICIES, lists=True),
    help=f"Compared with each other. [this kernel's, {', '.join(DEFAULTS)}]",
)
@engine_options
def command(file: str, policy: list[str], lab: Lab) -> int:
    """Compare; the exit status."""
    lab = Lab(**{**vars(lab), "policies": tuple(policy)})
    record = Record("whatif", lab.seed)
    trace = read(file)
    if not trace.operations:
        raise errors.UserError(f"{file}: no operation in it")
    curves: list[Curve] = []
    try:
        curves = run(trace, lab, record)
    except SegmentTooLarge as error:
        raise errors.UserError(f"{file}: {error}") from None
    except MachineFailed as failure:
        record.failure = str(failure)
        note(record.failure)
    if not record.write(lab.json_file) and curves:
        tell(file, curves, record, host_policy())
    return record.exit_status
