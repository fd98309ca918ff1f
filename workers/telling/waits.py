"""What waits for what: locks, grace periods and acknowledgements, and cycles of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from emulator import lazy_numpy as np
from emulator.mm_types import FLUSH_PENDING, TABLES, Geometry
from emulator.pgtable_types import TABLE_LIMBO
from emulator.watch.waits import Wait
from workers.telling.whereabouts import (
    Fates,
    Views,
    all_of,
    grouped,
    last_point,
    last_row,
    many,
    several,
    stamp,
    waiting_for,
    who,
)


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


def _arrived(views: Views, geometry: Geometry, cpu: int, barrier: int) -> bool:
    """True if a CPU waits at a barrier, in the round that is not complete."""
    row = views["cpu"][cpu]
    if row["waits_for"] != Wait.BARRIER or row["waits_index"] != barrier:
        return False
    if last_point(views, geometry, cpu) != "barrier.arrived":
        return True
    arrived_in = views["trace"]["value"][last_row(views, cpu)]  # it may have died there, in an earlier round
    return bool(arrived_in == views["barrier"]["generation"][barrier])


def owners(views: Views, geometry: Geometry, cpu: int) -> list[int]:
    """What a process waits for: owners of the lock, CPUs that have not arrived or acknowledged, or the coordinator."""
    if cpu == geometry.cpus:
        return sorted({*unquiet(views, geometry), *unacknowledged(views, geometry)})
    row = views["cpu"][cpu]
    index = int(row["waits_index"])
    others = [other for other in range(geometry.cpus) if other != cpu]
    match Wait(int(row["waits_for"])):
        case Wait.PTE_LOCK | Wait.PMD_LOCK:
            return [int(views["ptdesc"]["ptl"][index]) - 1]
        case Wait.PMAP_LOCK:
            return [-int(views["mm"]["pmap_lock"][index]) - 1]  # readers have no name
        case Wait.RMAP_WALK | Wait.IRQ_OFF:
            return [index]
        case Wait.ZONE_LOCK:
            return [int(views["zone"]["lock"][index]) - 1]
        case Wait.HTABLE_LOCK:
            return [int(views["htable"]["lock"][index]) - 1]
        case Wait.PAGE_LOCK | Wait.INODE_LOCK | Wait.I_MMAP_LOCK | Wait.ANON_VMA_LOCK:
            return [int(views["mutex"]["owner"][index]) - 1]
        case Wait.WRITEBACK | Wait.RECLAIM:
            return [int(views["cache"]["writeback"][index]) - 1]
        case Wait.MMAP_LOCK:
            writer = int(views["mm"]["mmap_writer"][index]) - 1
            if writer != cpu:
                return [writer]
            return [o for o in others if views["cpu"]["mmap_lock_held"][o] == 2 * index + 1]
        case Wait.FLUSH | Wait.MEMORY:
            return [geometry.cpus]
        case Wait.POST:
            return [index]
        case Wait.USERFAULT:
            return [o for o in others if not views["cpu"]["finished"][o]]
        case Wait.BARRIER:
            return [o for o in others if not _arrived(views, geometry, o, index)]
        case Wait.DYING_TABLE if geometry.debug:
            return [stamp(views["life"]["zero"][index])[1]]
    return []


def wait_edges(views: Views, geometry: Geometry) -> list[dict[str, str]]:
    """What waits for what in whose hands, an edge for each CPU and holder: `who`, `for`, `by`."""
    unfinished = [cpu for cpu in range(geometry.cpus) if not views["cpu"]["finished"][cpu]]
    return [
        {"who": who(geometry, cpu), "for": waits, "by": who(geometry, other)}
        for cpu in unfinished
        if (waits := waiting_for(views, cpu)) is not None
        for other in owners(views, geometry, cpu)
        if other >= 0 and other != cpu
    ]


def wait_lines(views: Views, geometry: Geometry, cpus: Sequence[int], fates: Fates) -> list[str]:
    """For the CPUs of `cpus` that wait: for what, and in whose hands that is."""
    told = {}
    for cpu in cpus:
        waits = waiting_for(views, cpu)
        if waits is None:
            continue
        told[cpu] = f"waits for {waits}"
        if holders := [who(geometry, o, fates) for o in owners(views, geometry, cpu) if o >= 0]:
            is_lock = views["cpu"]["waits_for"][cpu] < Wait.BARRIER
            told[cpu] += f"{', held by' if is_lock else ':'} {several(holders)}"
    return grouped(geometry, told)


def grace_period_line(views: Views, geometry: Geometry, fates: Fates) -> list[str]:
    """What the grace period waits for and what waits for it, like an RCU stall warning; nothing if there is none."""
    rcu, cpu, agent = views["rcu"], views["cpu"], geometry.cpus
    states = views["ptdesc"]["state"][: int(views["zone"]["fresh"][TABLES])]
    seq, waiting = int(rcu["gp_seq"][0]), int(np.count_nonzero(states == TABLE_LIMBO))
    under_way = seq != int(rcu["gp_completed"][0])
    age = f"grace period {seq}, begun {(time.monotonic_ns() - int(rcu['gp_start_ns'][0])) / 1e9:.2f} s ago,"
    tables = f"{many(waiting, 'table')} cannot be freed before"
    blockers = [
        who(geometry, b, fates, f"nesting {cpu['rcu_nesting'][b]}", f"last quiescent in {cpu['rcu_qs'][b]}")
        for b in unquiet(views, geometry)
    ]
    if agent in fates:
        busy = who(geometry, agent, fates)
    elif blockers:
        return [f"{age} waits for {several(blockers)}; {tables}"]
    elif waiting and unacknowledged(views, geometry):
        busy = who(geometry, agent, None, "in the flush agent")
    else:
        return []
    if under_way:
        return [f"{age} waits for {busy} to end it; {tables}"]
    return [f"no grace period begins without {busy}; {tables}"] if waiting else []


def flush_lines(views: Views, geometry: Geometry, fates: Fates) -> list[str]:
    """Whose acknowledgement the flush agent waits for, and which CPUs it keeps waiting."""
    cpu, agent = views["cpu"][: geometry.cpus], geometry.cpus
    waiting = [int(c) for c in np.flatnonzero(cpu["flush_state"] == FLUSH_PENDING)]
    callers = all_of(geometry, waiting, fates)
    if not waiting:
        return []
    if agent in fates:
        return [f"the flush of {callers} is not carried out: {who(geometry, agent, fates)} does that"]
    if late := unacknowledged(views, geometry):
        names = [f"IPI {cpu['ipi_request'][c]} by {who(geometry, c, fates)}" for c in late]
        return [f"the flush agent waits for the ack of {several(names)}, to release {callers}"]
    asleep = " and sleeps: it was not woken" if views["rcu"]["asleep"][0] else ""
    return [f"the flush agent has not served {callers}{asleep}"]


def find_cycle(edges: Mapping[int, Sequence[int]]) -> list[int]:
    """Tasks that wait for each other in a ring, the first one again at the end; empty if there is none."""
    done: set[int] = set()

    def follow(task: int, path: list[int]) -> list[int]:
        if task in path:
            return [*path[path.index(task) :], task]
        if task in done:
            return []
        done.add(task)
        for other in edges.get(task, ()):
            if found := follow(other, [*path, task]):
                return found
        return []

    for task in sorted(edges):
        if found := follow(task, []):
            return found
    return []


def cycle_line(views: Views, geometry: Geometry) -> list[str]:
    """A cycle of CPUs that wait for each other, and for what; nothing if there is none."""
    unfinished = [cpu for cpu in range(geometry.cpus) if not views["cpu"]["finished"][cpu]]
    edges = {cpu: [o for o in owners(views, geometry, cpu) if 0 <= o < geometry.cpus] for cpu in unfinished}
    cycle = find_cycle(edges)
    steps = [f"{who(geometry, cpu)} -> {waiting_for(views, cpu)}" for cpu in cycle[:-1]]
    return [f"cycle: {' -> '.join(steps)} -> {who(geometry, cycle[-1])}"] if cycle else []


def wait_for_graph(views: Views, geometry: Geometry, fates: Fates | None = None) -> list[str]:
    """One line per edge: waiter, what it waits for, its holder; grace periods and IPIs like an RCU stall warning."""
    unfinished = [cpu for cpu in range(geometry.cpus) if not views["cpu"]["finished"][cpu]]
    return [
        *wait_lines(views, geometry, unfinished, fates or {}),
        *grace_period_line(views, geometry, fates or {}),
        *flush_lines(views, geometry, fates or {}),
    ]
