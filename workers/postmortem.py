"""What can be said of a machine that did not end well, read from the segment that survives its processes."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from emulator.kernel import BUG_TEXT, WAIT_TEXT, Bug, Wait
from emulator.mm_types import Geometry
from workers.program import disassemble


class MachineFailed(Exception):
    """A process died or the machine did not come to rest. The text says which CPU, what it did, what it held."""


def who(geometry: Geometry, number: int) -> str:
    """Name of process `number`: a CPU, or the coordinator behind the last."""
    return "the coordinator" if number == geometry.cpus else f"CPU {number}"


def instruction(views: Mapping[str, Any], cpu: int) -> str:
    """The instruction a CPU is at, with its place in the program."""
    row = views["cpu"][cpu]
    place = int(row["pc"] - row["insn_base"])
    return f"instruction {place}: {disassemble(views['insn'][int(row['pc'])])}"


def locks_held(views: Mapping[str, Any], cpu: int) -> list[str]:
    """The locks, open gather and RCU section of a CPU, in the kernel's words."""
    row = views["cpu"][cpu]
    held = []
    lock = int(row["mmap_lock_held"])
    if lock:
        held.append(f"mmap_lock of mm {(lock - 1) // 2} for {'writing' if lock % 2 == 0 else 'reading'}")
    descriptors = views["ptdesc"]
    for table in np.flatnonzero(descriptors["ptl"] == cpu + 1):
        held.append(f"ptl of table {table} (level {descriptors['level'][table]})")
    for zone in np.flatnonzero(views["zone"]["lock"] == cpu + 1):
        held.append(f"zone lock of the {'tables' if zone else 'frames'}")
    if row["gather_mm"]:
        held.append(f"an open mmu_gather with {row['gather_pages']} frames and {row['gather_tables']} tables")
    if row["rcu_nesting"]:
        held.append("rcu_read_lock")
    return held


def _state(views: Mapping[str, Any], geometry: Geometry, cpu: int) -> str:
    if cpu == geometry.cpus:
        return "holding " + (", ".join(locks_held(views, cpu)) or "no lock")
    waits = Wait(int(views["cpu"]["waits_for"][cpu]))
    text = f"at {instruction(views, cpu)}; holding {', '.join(locks_held(views, cpu)) or 'no lock'}"
    if waits != Wait.NOTHING:
        text += f"; waiting for {WAIT_TEXT[waits].format(int(views['cpu']['waits_index'][cpu]))}"
    return text


def describe_death(views: Mapping[str, Any], geometry: Geometry, number: int, exitcode: int) -> str:
    """A process ended by itself: who, how, at which instruction, with which locks."""
    how = f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
    return f"{who(geometry, number)} {how} {_state(views, geometry, number)}"


def describe_stuck(views: Mapping[str, Any], geometry: Geometry) -> str:
    """A machine that was told to stop and did not: every CPU that has not finished."""
    lines = ["the machine does not come to rest:"]
    for cpu in range(geometry.cpus):
        if not views["cpu"]["finished"][cpu]:
            lines.append(f"  {who(geometry, cpu)} {_state(views, geometry, cpu)}")
    rcu = views["rcu"]
    if rcu["gp_seq"][0] != rcu["gp_completed"][0]:
        lines.append(f"  grace period {rcu['gp_seq'][0]} has not ended")
    return "\n".join(lines)


def describe_bug(views: Mapping[str, Any]) -> str | None:
    """What BUG reported, or None."""
    run = views["run"]
    bug = Bug(int(run["bug"][0]))
    if bug == Bug.NONE:
        return None
    cpu = int(run["bug_cpu"][0])
    text = BUG_TEXT[bug].format(subject=int(run["bug_subject"][0]), seen=int(run["bug_seen"][0]))
    return f"CPU {cpu}, {instruction(views, cpu)}\n  {text}"
