"""Programs and machines that several tests use."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator import engine
from emulator.checks import audit
from emulator.mm_types import PCP_ROOM, Geometry
from scenarios.session.options import Lab
from scenarios.stress import Setup, failures
from workers.instruments import PLAIN, Instruments
from workers.machine import Machine
from workers.programs.program import STOP, Insn, barrier, dontneed, jump, mmap, read, touch
from workers.programs.random_programs import CHILDREN, random_workload
from workers.telling.violation import violation_of

BASE = 0x10_0000_0000 - (2 << 20)  # the last table of one GiB, then the next GiB
SLOT = 2 << 20
SLOTS = 4


def random_program(seed: int, length: int) -> list[Insn]:
    """A random program for one CPU with an mm of its own."""
    return list(random_workload(seed, 1, 1, length).programs[0])


def hammer(cpus: int, rounds: int, write: bool = True) -> list[list[Insn]]:
    """All CPUs fault into one and the same table at once, CPU 0 releases it, `rounds` times."""
    share = SLOT // cpus
    programs = []
    for cpu in range(cpus):
        access = touch if write else read
        program = [mmap(BASE, SLOT), barrier(), access(BASE + cpu * share, share), barrier()]
        if cpu == 0:
            program.append(dontneed(BASE, SLOT))
        programs.append([*program, jump(1, rounds), STOP])
    return programs


def geometry_for(programs: Sequence[Sequence[Insn]], mms: int = 1) -> Geometry:
    """A machine with room for random programs and for tables that wait for a grace period."""
    cpus = len(programs)
    return Geometry(
        cpus=cpus,
        mms=mms + CHILDREN * cpus,
        vmas=1024,
        insns=sum(len(program) for program in programs),
        frames=SLOTS * 512 * mms + cpus * 8192,
        tables=1024 + cpus * 512,
        files=2,
    )


def run_programs(machine: Machine, programs: Sequence[Sequence[Insn]]) -> None:
    """Run a program on each CPU, to the end."""
    machine.load_all(programs)
    machine.start()
    machine.wait()


ONLINE = Instruments(online=True)
# one policy of each kind: no table goes; counted, under pmd_lock and by RCU; not counted, and gone as often as can be
FAMILIES = ("none", "refcount-lock", "refcount", "pt-reclaim-any")


@contextlib.contextmanager
def at_rest(
    programs: Sequence[Sequence[Insn]],
    geometry: Geometry,
    policy: str = "refcount",
    instruments: Instruments = ONLINE,
    **machine: Any,
) -> Iterator[dict[str, Any]]:
    """What programs leave, the instructions of CPU 0 recorded: the views of a machine in which nothing was found."""
    geometry = dataclasses.replace(geometry, records=len(programs[0]))
    recorded = [insn._replace(record=i) for i, insn in enumerate(programs[0])]
    with Machine(geometry, policy, instruments, **machine) as running:
        run_programs(running, [recorded, *programs[1:]])
        assert violation_of(running.views, geometry) is None
        assert not any(audit(running.views, geometry).values())
        yield running.views


def race(
    programs: Sequence[Sequence[Insn]],
    policy: str,
    knobs: Sequence[str] = (),
    mm_of_cpu: Sequence[int] | None = None,
    online: bool = False,
    swap_pages: int = 0,
) -> tuple[dict[str, int], str | None]:
    """Run programs on real processes to their end: the audit's violations by name, and what BUG reported."""
    geometry = dataclasses.replace(geometry_for(programs, max(mm_of_cpu or [0]) + 1), swap_pages=swap_pages)
    instruments = Instruments(online=online, knobs=tuple(knobs))
    with Machine(geometry, policy, instruments, mm_of_cpu) as machine:
        run_programs(machine, programs)
        violation = violation_of(machine.views, geometry)
        if violation is not None:
            return {}, violation.headline()
        violations = {name: count for name, count in audit(machine.views, geometry).items() if count}
        return violations, None


def run_one(program: Sequence[Insn], policy: str, knobs: Sequence[str] = ()) -> tuple[dict[str, int], str | None]:
    """`race` with one CPU."""
    return race([program], policy, knobs)


def alone(program: Sequence[Insn], policy: str = "refcount", **sizes: int) -> tuple[int, int, int, int]:
    """One CPU to its end, under the detectors: what it loaded last, its errors, tables freed, VmPTE of mm 0 in kB."""
    geometry = Geometry(**{"mms": 3, "insns": len(program), "frames": 8192, "tables": 256, **sizes})
    with at_rest([program], geometry, policy) as views:
        cpu = views["cpu"][0]
        vmpte = int(views["mm"]["pgtables_bytes"][0]) // 1024
        return int(cpu["loaded"]), int(cpu["errors"]), int(cpu["tables_freed"]), vmpte


STRESS = int(os.environ.get("STRESS", "1"))  # make stress STRESS=n: how much longer


taken: Counter[str] = Counter()  # how often stress() went along each path; tests/conftest.py prints it at the end


def stress(policy: str, shape: Sequence[int], seed: int, checks: str = "online", perturb: int = 0) -> list[str]:
    """Run a seed's random programs, `shape` being CPUs, mms and length: what was found, and how to repeat it."""
    cpus, mms, length = shape
    lab = Lab(engine=engine.name(), seed=seed, checks=checks, perturb=perturb)
    return failures(policy, Setup(lab, cpus, mms, length), taken)


def stress_each(
    policies: Sequence[str],
    shapes: Sequence[Sequence[int]],
    seed: int,
    checks: str = "audit",
    perturb: int = 0,
) -> list[str]:
    """`stress` of each policy in each shape."""
    return [found for policy in policies for shape in shapes for found in stress(policy, shape, seed, checks, perturb)]


ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def sources() -> list[tuple[Path, ast.Module]]:
    """The files of the emulator, read once."""
    return [(path, ast.parse(path.read_text())) for path in sorted((ROOT / "emulator").rglob("*.py"))]


def kernels() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Name of the file and definition of each function of the emulator."""
    for path, tree in sources():
        yield from ((path.name, node) for node in tree.body if isinstance(node, ast.FunctionDef))


# What depends on time, on when the coordinator looked, or on how an engine waits; the rest is the program's doing.
TIMING = {
    "run": {"ready", "start_ns", "start_cycles"},
    "waitq": {"sleepers"},
    "gp_histogram": {"count"},
    "reuse_histogram": {"count"},
    "record": {"ended_ns"},
    "rcu": {
        "gp_seq", "gp_completed", "gp_start_ns", "gp_sum_ns", "gp_max_ns", "wake", "asleep", "hurry", "freed",
        "sync_seq", "limbo_peak",
    },
    "cpu": {
        "rcu_qs", "time_sec", "time_nsec", "timeout_sec", "timeout_nsec", "started_ns", "finished_ns", "sleeps",
        "lock_spins", "trace_at",
    },
    "trace": {"stamp", "point", "subject", "value"},
    "life": {"allocated", "installed", "get", "put", "zero", "unhooked", "flushed", "deferred", "freed"},

    "ptdesc": {"next"},
    "ptnote": {"gp_seq", "unhooked_ns"},
    "zone_slot": {"word"},  # compared as a set: callbacks come back in batches
    "pcp_slot": {"word"},  # compared without the coordinator's
}  # fmt: skip


def fingerprint(machine: Machine) -> dict[str, str]:
    """A hash of every field of a machine's shared state, but for TIMING."""
    state = {}
    for view, rows in machine.views.items():
        for field in rows.dtype.names:
            if field not in TIMING.get(view, ()):
                state[f"{view}.{field}"] = hashlib.sha256(np.ascontiguousarray(rows[field]).tobytes()).hexdigest()[:16]
    slots = np.sort(machine.views["zone_slot"]["word"][int(machine.views["zone"]["slots"][1]) :])
    kept = machine.views["pcp_slot"]["word"][: 2 * machine.geometry.cpus * PCP_ROOM]
    state["pcp_slot"] = hashlib.sha256(kept.tobytes()).hexdigest()[:16]
    state["zone_slot"] = hashlib.sha256(slots.tobytes()).hexdigest()[:16]
    return state


def state_after(program: Sequence[Insn], policy: str) -> dict[str, str]:
    """The fingerprint one CPU leaves. Few enough tables that none is used again: reuse depends on when they return."""
    geometry = Geometry(mms=1 + CHILDREN, vmas=256, insns=len(program), frames=8192, tables=1024)
    with Machine(geometry, policy) as machine:
        run_programs(machine, [program])
        return fingerprint(machine)


def state_of_seed(seed: int, length: int, policy: str) -> dict[str, str]:
    """`state_after` a random program."""
    return state_after(random_program(seed, length), policy)


def raced(times: int, cpus: int, rounds: int, policy: str, knobs: Sequence[str]) -> list[Any]:
    """`race` so many times with `hammer`."""
    return [race(hammer(cpus, rounds), policy, knobs) for _ in range(times)]


def by_family(policies: Iterable[str]) -> list[Any]:
    """Each policy as a parameter: one of each family in `make test`, the others in `make stress`."""
    return [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.stress) for name in policies]


def pieces(names: Sequence[str], count: int) -> list[list[str]]:
    """So many lists of about the same length: each is one process of its own for in_engine."""
    return [list(names[k::count]) for k in range(count)]


_CALL = """
import importlib, json, sys
module, function, arguments = json.loads(sys.argv[1])
print(json.dumps(getattr(importlib.import_module(module), function)(*arguments)))
"""


def in_engine(
    name: str, function: Callable[..., Any], *arguments: Any, build: str = "debug", families: Sequence[str] = ()
) -> Any:
    """What a function of a module of tests/ returns, called in a process of its own under an engine.

    Arguments and value are of JSON's types. `build` is debug or plain; the plain one has only these families.
    """
    environment = {**os.environ, "PTELAB_ENGINE": name, "PTELAB_BUILD": build}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    environment["PTELAB_FAMILIES"] = " ".join(families)
    call = json.dumps([function.__module__, function.__name__, arguments])
    run = subprocess.run(
        [sys.executable, "-c", _CALL, call], env=environment, capture_output=True, text=True, cwd=ROOT,
        timeout=300 * STRESS,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


__all__ = [
    "BASE",
    "FAMILIES",
    "ONLINE",
    "PLAIN",
    "SLOT",
    "alone",
    "at_rest",
    "by_family",
    "geometry_for",
    "hammer",
    "in_engine",
    "kernels",
    "pieces",
    "race",
    "raced",
    "random_program",
    "run_one",
    "run_programs",
    "state_after",
    "state_of_seed",
    "stress",
    "stress_each",
]
