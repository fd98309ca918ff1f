"""One workload under one policy on one machine: what its page tables take, and what its instructions cost.

Every instruction is recorded: the VmPTE behind it, and when it had ended. So a cost is a median over many instructions
of one run, which a machine that others use as well disturbs little.
"""

from __future__ import annotations

import statistics
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import REUSE_BUCKETS
from emulator.policy.policies import POLICIES
from emulator.uapi import Op
from scenarios.arena.workloads import Job
from scenarios.session import session
from scenarios.session.options import Lab
from scenarios.session.record import Record
from workers.programs.program import FREE_PTES, STOP, Insn, assemble, compute

ACCESSES = (Op.TOUCH, Op.READ)
ZAPS = (Op.MADVISE, Op.MUNMAP, Op.TRUNCATE)
COUNTERS = ("tables_freed", "tables_reused", "ipis")


def run_job(job: Job, policy: str, lab: Lab, record: Record, command: str) -> dict[str, float | None] | None:
    """Run it to its end and audit it: the figures of one round, None if a violation stopped it."""
    from workers.machine import Machine

    cpus = job.geometry.cpus
    with Machine(job.geometry, policy, lab.instruments(cpus)) as machine:
        first, records = 0, []
        for cpu, program in enumerate(job.programs):
            rows = program.copy()
            rows["record"] = np.arange(first, first + len(rows))
            records.append(slice(first, first + len(rows)))
            first += len(rows)
            machine.load(cpu, np.concatenate([rows, assemble(ending(policy, cpus))]))
        machine.start()
        machine.wait()
        counters = session.finish(machine, record, lab, command)
        if machine.frozen:
            return None
        return {**memory(machine, records[0]), **costs(machine.views, job, records), **traffic(machine.views, counters)}


def ending(policy: str, cpus: int) -> list[Insn]:
    """What ends a program. A policy that waits to be asked is asked; one that looks now and then finds the CPU idle for
    two more looks. The first may begin behind the memory that is meant, where the one before had stopped.
    """
    asked = [FREE_PTES] if POLICIES[policy].demand else []
    idle = POLICIES[policy].scan_period * 6 // 5
    return [*asked, compute(idle), compute(idle), STOP] if idle and cpus == 1 else [*asked, STOP]


def memory(machine: Any, rows: slice) -> dict[str, float]:
    """VmPTE at the end, at rest, at its peak and as needed, in kB: of the child if there is one."""
    views = machine.views
    recorded = views["record"][rows]
    child = np.flatnonzero(views["mm"]["held_by"])
    mm = int(child[0]) if len(child) else 0
    pgtables = "child_pgtables_bytes" if len(child) else "pgtables_bytes"
    return {
        "left_kb": int(recorded[pgtables][-1]) // 1024,
        "later_kb": int(views["mm"]["pgtables_bytes"][mm]) // 1024,
        "peak_kb": int(recorded[pgtables].max()) // 1024,
        "needed_kb": session.needed_kb(machine, mm),
        "limbo_tables": int(views["rcu"]["limbo_peak"][0]),
    }


def costs(views: Any, job: Job, records: list[slice]) -> dict[str, float | None]:
    """Medians over the instructions of all CPUs: nanoseconds per page fault and per call that zaps; faults a minute.

    What ends a program is not counted: an idle CPU has no faults, and only some policies need one.
    """
    faulting: list[float] = []
    zapping: list[float] = []
    faulted_in_all, ended_ns = 0, 0
    for cpu, (program, rows) in enumerate(zip(job.programs, records, strict=True)):
        recorded = views["record"][rows]
        took = np.diff(recorded["ended_ns"], prepend=views["cpu"]["started_ns"][cpu])
        faults = np.diff(recorded["minflt"], prepend=0)
        faulted = np.isin(program["op"], ACCESSES) & (faults > 0)
        zapped = np.isin(program["op"], ZAPS)
        calls = np.maximum(1, -(-program["length"] // np.where(program["step"] > 0, program["step"], 1 << 62)))
        faulting += (took[faulted] / faults[faulted]).tolist()
        zapping += (took[zapped] / calls[zapped]).tolist()
        faulted_in_all += int(recorded["minflt"][-1])
        ended_ns = max(ended_ns, int(recorded["ended_ns"][-1]))
    seconds = (ended_ns - int(views["cpu"]["started_ns"][: job.geometry.cpus].min())) / 1e9
    return {
        "pf_per_min": faulted_in_all / seconds * 60,
        "ns_per_fault": statistics.median(faulting),
        "ns_per_zap": statistics.median(zapping) if zapping else None,
    }


def traffic(views: Any, counters: dict[str, int]) -> dict[str, float | None]:
    """Tables freed, flushes, grace periods; microseconds until an unhooked table could be used again."""
    times = views["reuse_histogram"]["count"].reshape(-1, REUSE_BUCKETS).sum(axis=0)
    return {
        **{name: counters[name] for name in COUNTERS},
        "flushes": counters["flushes_local"] + counters["flushes_remote"],
        "grace_periods": int(views["rcu"]["gp_completed"][0]),
        "reuse_median_us": percentile_us(times, 0.5),
        "reuse_p99_us": percentile_us(times, 0.99),
    }


def percentile_us(times: np.ndarray, share: float) -> float | None:
    """That share of the tables could be used again after so many microseconds; None if there were none."""
    total = int(times.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(times), share * total))
    return middle_ns(bucket) / 1000


def middle_ns(bucket: int) -> float:
    """The middle of a bucket of page_alloc.reuse_bucket."""
    if bucket < 16:
        return bucket
    octave = bucket // 8 - 1
    return (8 + bucket % 8 + 0.5) * (1 << octave)
