"""What can be said of a machine that did not end well, read from the segment that survives its processes."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from emulator.kernel import WAIT_TEXT, Wait
from emulator.mm_types import FRAMES, LIFE, NR_POINTS, TABLES, TRACE_ENTRIES, Geometry
from emulator.pgtable import (
    TABLE_ALLOCATED,
    TABLE_FREE,
    TABLE_LIMBO,
    TABLE_STATES,
    TABLE_UNHOOKED,
)
from emulator.points import POINTS, point_name
from emulator.tlb import REQUESTED
from workers.program import disassemble

Views = Mapping[str, Any]
LEAKS_SHOWN = 5


class MachineFailed(Exception):
    """A process died or the machine did not come to rest. The text says which CPU, what it did, what it held."""


def who(geometry: Geometry, number: int) -> str:
    """Name of process `number`: a CPU, or the coordinator behind the last."""
    return "the coordinator" if number == geometry.cpus else f"CPU {number}"


def instruction(views: Views, cpu: int) -> str:
    """The instruction a CPU is at, with its place in the program."""
    row = views["cpu"][cpu]
    place = int(row["pc"] - row["insn_base"])
    return f"instruction {place}: {disassemble(views['insn'][int(row['pc'])])}"


def last_point(views: Views, geometry: Geometry, cpu: int) -> str | None:
    """Name of the point this process passed last, in the debug build."""
    at = int(views["cpu"]["trace_at"][cpu])
    if not geometry.debug or at == 0:
        return None
    return point_name(int(views["trace"]["point"][cpu * TRACE_ENTRIES + (at - 1) % TRACE_ENTRIES]))


def locks_held(views: Views, cpu: int) -> list[str]:
    """The locks, open gather and RCU section of a CPU, in the kernel's words."""
    row = views["cpu"][cpu]
    held = []
    lock = int(row["mmap_lock_held"])
    if lock:
        held.append(f"mmap_lock of mm {(lock - 1) // 2} for {'writing' if lock % 2 == 0 else 'reading'}")
    if views["device"]["i_mmap_lock"][0] == cpu + 1:
        held.append("i_mmap_lock of the device file")
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


def waiting_for(views: Views, cpu: int) -> str | None:
    """What a CPU waits for, in words, or None."""
    waits = Wait(int(views["cpu"]["waits_for"][cpu]))
    return None if waits == Wait.NOTHING else WAIT_TEXT[waits].format(int(views["cpu"]["waits_index"][cpu]))


def state_of(views: Views, geometry: Geometry, cpu: int) -> str:
    """What a process did and held: at which instruction, at which point, holding what, waiting for what."""
    parts = [] if cpu == geometry.cpus else [f"at {instruction(views, cpu)}"]
    name = last_point(views, geometry, cpu)
    if name is not None:
        parts.append(f"last seen at {name} ({POINTS[name].function}: {POINTS[name].text})")
    parts.append(f"holding {', '.join(locks_held(views, cpu)) or 'no lock'}")
    waits = waiting_for(views, cpu)
    if waits is not None:
        parts.append(f"waiting for {waits}")
    return "; ".join(parts)


def unquiet(views: Views, geometry: Geometry) -> list[int]:
    """CPUs the current grace period waits for."""
    rcu, cpu = views["rcu"], views["cpu"]
    if rcu["gp_seq"][0] == rcu["gp_completed"][0]:
        return []
    behind = (cpu["rcu_qs"][: geometry.cpus] < rcu["gp_seq"][0]) & (cpu["idle"][: geometry.cpus] == 0)
    return [int(i) for i in np.flatnonzero(behind)]


def unacknowledged(views: Views, geometry: Geometry) -> list[int]:
    """CPUs that owe the flush agent an acknowledgement."""
    cpu = views["cpu"][: geometry.cpus]
    return [int(i) for i in np.flatnonzero((cpu["ipi_request"] != cpu["ipi_ack"]) & (cpu["lazy"] == 0))]


def owners(views: Views, geometry: Geometry, cpu: int) -> list[int]:
    """Whom a process waits for: owners of the lock, CPUs that have not arrived or acknowledged, or the coordinator."""
    if cpu == geometry.cpus:
        return sorted({*unquiet(views, geometry), *unacknowledged(views, geometry)})
    row = views["cpu"][cpu]
    index = int(row["waits_index"])
    others = [other for other in range(geometry.cpus) if other != cpu]
    match Wait(int(row["waits_for"])):
        case Wait.PTE_LOCK | Wait.PMD_LOCK:
            return [int(views["ptdesc"]["ptl"][index]) - 1]
        case Wait.ZONE_LOCK:
            return [int(views["zone"]["lock"][index]) - 1]
        case Wait.I_MMAP_LOCK:
            return [int(views["device"]["i_mmap_lock"][0]) - 1]
        case Wait.MMAP_LOCK:
            held = views["cpu"]["mmap_lock_held"]
            writer = int(views["mm"]["mmap_writer"][index]) - 1
            return [o for o in others if held[o] in (2 * index + 1, 2 * index + 2) or o == writer]
        case Wait.FLUSH | Wait.MEMORY:
            return [geometry.cpus]
        case Wait.BARRIER:
            return [o for o in others if views["cpu"]["waits_for"][o] != Wait.BARRIER]
        case Wait.DYING_TABLE if geometry.debug:
            return [(int(views["life"]["zero"][index]) & 1023) - 1]
    return []


def wait_for_graph(views: Views, geometry: Geometry) -> list[str]:
    """One line per edge: who waits for what, held by whom; grace periods and IPIs like an RCU stall warning."""
    lines = []
    for cpu in range(geometry.cpus):
        waits = waiting_for(views, cpu)
        if waits is not None and not views["cpu"]["finished"][cpu]:
            holders = [who(geometry, o) for o in owners(views, geometry, cpu) if o >= 0]
            lines.append(f"CPU {cpu} waits for {waits}" + (f": {', '.join(holders)}" if holders else ""))
    rcu = views["rcu"]
    if blockers := unquiet(views, geometry):
        names = ", ".join(f"CPU {b} (nesting {views['cpu']['rcu_nesting'][b]})" for b in blockers)
        waiting = int(np.count_nonzero(views["ptdesc"]["state"] == TABLE_LIMBO))
        lines.append(f"grace period {rcu['gp_seq'][0]} waits for {names}; {waiting} tables wait for it")
    if late := unacknowledged(views, geometry):
        lines.append(f"the flush agent waits for the IPI of {', '.join(f'CPU {cpu}' for cpu in late)}")
    elif np.any(views["cpu"]["flush_state"] == REQUESTED):
        asleep = " and sleeps: it was not woken" if rcu["asleep"][0] else ""
        lines.append(f"the flush agent has not served a request{asleep}")
    return lines


def life_of(views: Views, table: int) -> list[tuple[int, int, str]]:
    """What happened to a table, oldest first: (cycles since the start, CPU, event)."""
    row = views["life"][table]
    events = [(int(row[name]) >> 10, (int(row[name]) & 1023) - 1, name) for name in LIFE.comments]
    return sorted(event for event in events if event[1] >= 0)


def leaks(views: Views, geometry: Geometry) -> list[str]:
    """Tables that are neither installed nor free, and frames that are neither mapped nor free."""
    from emulator.checks import Frozen

    frozen = Frozen(views, geometry)
    lines = []
    lost = np.flatnonzero(np.isin(frozen.state, (TABLE_ALLOCATED, TABLE_UNHOOKED, TABLE_LIMBO)))
    for table in lost[:LEAKS_SHOWN]:
        line = f"table {table} is {TABLE_STATES[frozen.state[table]]}, neither installed nor free"
        if geometry.debug:
            line += ": " + ", ".join(f"{event} by {who(geometry, cpu)}" for _, cpu, event in life_of(views, int(table)))
        lines.append(line)
    dying = [t for t in frozen.live_pte if frozen.nonempty[t] == 0 and views["config"]["pte_counted"][0]]
    for table in dying[:LEAKS_SHOWN]:
        lines.append(f"table {table} is installed and empty, count {views['ptdesc']['pte_refcount'][table]}")
    hidden = len(lost) + len(dying) - len(lines)
    if hidden > 0:
        lines.append(f"and {hidden} tables more")
    free = np.bincount(frozen.free(FRAMES), minlength=frozen.used_frames)
    missing = np.flatnonzero((free == 0) & (frozen.mapped == 0) & (views["page"]["refcount"][: frozen.used_frames] > 0))
    if len(missing) > 1:
        lines.append(f"{len(missing) - 1} frames are neither mapped nor free (in gathers, or on their way to an entry)")
    on_lists = np.bincount(frozen.free(TABLES), minlength=frozen.used)
    vanished = np.flatnonzero((frozen.state == TABLE_FREE) & (on_lists == 0))
    if len(vanished) > 1:
        lines.append(f"{len(vanished) - 1} free tables are on no list")
    return lines


def describe_death(views: Views, geometry: Geometry, number: int, exitcode: int) -> str:
    """A process ended by itself: who, how, at which instruction, with which locks."""
    how = f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
    return f"{who(geometry, number)} {how} {state_of(views, geometry, number)}"


def describe_stuck(views: Views, geometry: Geometry, headline: str) -> str:
    """A machine that does not move: every CPU that has not finished, who waits for whom, and what leaked."""
    lines = [headline]
    for cpu in range(geometry.cpus):
        if not views["cpu"]["finished"][cpu]:
            lines.append(f"  {who(geometry, cpu)} {state_of(views, geometry, cpu)}")
    if geometry.debug:
        lines.append(f"  {who(geometry, geometry.cpus)} {state_of(views, geometry, geometry.cpus)}")
    lines += [f"  {line}" for line in wait_for_graph(views, geometry)]
    lines += [f"  leaked: {line}" for line in leaks(views, geometry)]
    return "\n".join(lines)


def describe_injection(views: Views, geometry: Geometry, stops: Any, outcome: str) -> str:
    """After --kill or --stall: who was stopped where, what came of it, who waits for whom, what leaked."""
    hit = []
    for stop in stops:
        at = list(POINTS).index(stop.point) + 1
        assert at < NR_POINTS
        if views["point"]["countdown"][at] <= 0:
            how = "killed" if stop.seconds is None else f"stopped for {stop.seconds:g} s"
            text = POINTS[stop.point].text
            hit.append(f"{who(geometry, stop.cpu)} was {how} at {stop.point} ({POINTS[stop.point].function}: {text})")
    return describe_stuck(views, geometry, f"{'; '.join(hit)}; {outcome}")
