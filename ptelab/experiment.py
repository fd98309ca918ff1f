"""One run of some programs under a policy, on a machine of its own, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from emulator import engine
from emulator.mm_types import PCP_ROOM, Geometry
from emulator.policy.policies import POLICIES
from scenarios.session.errors import UserError, unknown
from scenarios.session.options import Lab
from scenarios.session.record import Record
from scenarios.session.session import finish, needed_kb
from scenarios.traces.footprint import MOST_MACHINES, geometry_for, larger
from workers.programs.program import STOP, Insn


@dataclass(frozen=True)
class Result:
    """What came of a run. Sizes are kB, of all address spaces together, when the programs had ended.

    `counters` are those of the CPUs, summed: faults, zapped, tables_installed, tables_freed, flushes_local, ipis, ...
    `checks` is the audit, violations by name. `violations` are what a detector stopped the machine for, as docs/json.md
    describes them. `verdict` is pass or fail.
    """

    policy: str
    cpus: int
    seconds: float
    virt_kb: int
    res_kb: int
    vmpte_kb: int
    needed_kb: int
    grace_periods: int
    counters: dict[str, int]
    checks: dict[str, int]
    violations: list[dict[str, Any]]
    verdict: str

    @property
    def faults_per_minute(self) -> float:
        """Page faults of all CPUs together, by wall clock."""
        return self.counters["faults"] / self.seconds * 60

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; the counters are keys of their own, so that it is a row of a DataFrame."""
        whole = asdict(self)
        return {**whole.pop("counters"), **whole}


def run(
    programs: Sequence[Sequence[Insn]],
    policy: str = "none",
    lab: Lab | None = None,
    *,
    mm_of_cpu: Sequence[int] | None = None,
    seconds: float | None = None,
    geometry: Geometry | None = None,
) -> Result:
    """Run a program on each CPU to its end, or endless ones for `seconds`; audit what is left.

    `mm_of_cpu[i]` is the address space of CPU i, by default all share one. Without `geometry` the machine is as large
    as the programs need. `lab` says the rest, as the options of a command do: policies, engine, checks, knobs,
    perturbation, seed; engine and build are chosen once per process. Raises UserError for what is not known,
    MachineFailed if a process dies.
    """
    lab = lab or Lab()
    lab = replace(lab, policies=tuple(dict.fromkeys((*lab.policies, policy))))
    _choose(lab)
    spaces = list(mm_of_cpu) if mm_of_cpu is not None else [0] * len(programs)
    whole = [[*program, STOP] for program in programs]
    size = geometry or _room(whole, spaces)
    for _ in range(1 if geometry else MOST_MACHINES):
        result = _run_on(size, whole, policy, lab, spaces, seconds)
        if result is not None:
            return result
        size = larger(size)
    raise UserError("the machine is too small for these programs; give a larger geometry")


def _choose(lab: Lab) -> None:
    """Engine and build. Raises UserError if the policy or the engine is not known, or another build is loaded."""
    for name in lab.policies:
        if name not in POLICIES:
            raise unknown("policy", name, POLICIES)
    try:
        lab.choose_engine()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{error}; name all policies in the first Lab") from None
    engine.prepare()


def _room(programs: Sequence[Sequence[Insn]], spaces: Sequence[int]) -> Geometry:
    """A machine in which all programs fit: each address space needs what its programs need one after another."""
    of = []
    for mm in range(max(spaces) + 1):
        own = [program for program, space in zip(programs, spaces, strict=True) if space == mm]
        of.append(geometry_for([insn for program in own for insn in program]))
    return Geometry(
        cpus=len(programs),
        mms=sum(one.mms for one in of),
        vmas=max(one.vmas for one in of),
        insns=sum(map(len, programs)),
        frames=sum(one.frames for one in of) + len(programs) * PCP_ROOM,
        tables=sum(one.tables for one in of),
        files=max(one.files for one in of),
    )


def _run_on(
    size: Geometry, programs: Sequence[Sequence[Insn]], policy: str, lab: Lab, spaces: list[int], seconds: float | None
) -> Result | None:
    """One machine; None if it was too small, which is no answer of Linux's."""
    from workers.machine import Machine  # and all kernels, in the engine that is chosen by now

    record = Record("python", lab.seed)
    with Machine(size, policy, lab.instruments(len(programs)), spaces) as machine:
        machine.load_all(programs)
        machine.start()
        if seconds is None:
            machine.wait()
        else:
            machine.run_for(seconds)
            machine.stop()
        if machine.views["cpu"]["oom"].any():
            return None
        counters = finish(machine, record, lab)
        mm = machine.views["mm"]
        return Result(
            policy=policy,
            cpus=len(programs),
            seconds=_until(machine, record) / 1e9,
            virt_kb=int(mm["total_vm"].sum()) * 4,
            res_kb=int(mm["rss_anon"].sum() + mm["rss_file"].sum()) * 4,
            vmpte_kb=int(mm["pgtables_bytes"].sum()) // 1024,
            needed_kb=needed_kb(machine),
            grace_periods=int(machine.views["rcu"]["gp_completed"][0]),
            counters=counters,
            checks=record.checks,
            violations=[violation.as_json() for violation in record.violations],
            verdict=record.verdict,
        )


def _until(machine: Any, record: Record) -> int:
    """Nanoseconds from the start to the end of the last program, or to what froze the machine."""
    if record.violations:
        return int(record.violations[0].ns)
    cpu = machine.views["cpu"][: machine.geometry.cpus]
    return int(cpu["finished_ns"].max() - cpu["started_ns"].min())
