"""What can be said of a machine that did not end well, read from the segment that survives its processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emulator.kernel import WAIT_TEXT, Wait
from emulator.mm_types import LIFE, TRACE_ENTRIES, Geometry
from emulator.pgtable import TABLE_LIMBO
from emulator.points import POINTS, point_name
from emulator.tlb import REQUESTED
from workers.program import disassemble

Views = Mapping[str, Any]
Fates = Mapping[int, str]  # process -> what became of it, in one word


class MachineFailed(Exception):
    """A process died or the machine did not come to rest. The text says which CPU, what it did, what it held."""


def who(geometry: Geometry, number: int, fates: Fates | None = None, *details: str) -> str:
    """Name of process `number`, a CPU, or the coordinator behind the last; its fate, if it has met one, and details."""
    name = "the coordinator" if number == geometry.cpus else f"CPU {number}"
    told = [*([fates[number]] if fates and number in fates else []), *details]
    return f"{name} ({', '.join(told)})" if told else name


def all_of(geometry: Geometry, numbers: Sequence[int], fates: Fates | None = None) -> str:
    """Names of processes; those of many CPUs as the kernel writes a list of them: CPUs 0-4,6."""
    if len(numbers) < 3:
        return several([who(geometry, number, fates) for number in numbers])
    first = [n for n in numbers if n - 1 not in numbers]
    last = [n for n in numbers if n + 1 not in numbers]
    return "CPUs " + ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(first, last, strict=True))


def grouped(geometry: Geometry, told: Mapping[int, str]) -> list[str]:
    """One line for all processes of which the same is to be told."""
    groups: dict[str, list[int]] = {}
    for number, text in told.items():
        groups.setdefault(text, []).append(number)
    return [f"{all_of(geometry, them)}{': each' if len(them) > 1 else ''} {text}" for text, them in groups.items()]


def many(n: int, what: str) -> str:
    """A number of things."""
    if n != 1:
        what = "entries" if what == "entry" else what + "s"
    return f"{n} {what}"


def number_text(value: int) -> str:
    """A word of the segment: a small number, or hexadecimal."""
    return str(value) if abs(value) < 1 << 20 else f"{value:#x}"


def several(names: Sequence[str]) -> str:
    """Names as in a sentence; empty if there are none."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def instruction(views: Views, cpu: int) -> str:
    """The instruction a CPU is at, with its place in the program."""
    row = views["cpu"][cpu]
    if row["insn_base"] == row["insn_end"]:
        return "no program: it calls kernels directly"
    place = int(row["pc"] - row["insn_base"])
    return f"instruction {place}: {disassemble(views['insn'][int(row['pc'])])}"


def last_point(views: Views, geometry: Geometry, cpu: int) -> str | None:
    """Name of the point this process passed last, in the debug build."""
    if not geometry.debug or views["cpu"]["trace_at"][cpu] == 0:
        return None
    return point_name(int(views["trace"]["point"][_last_row(views, cpu)]))


def _last_row(views: Views, cpu: int) -> int:
    """The row of the trace that this process wrote last."""
    return cpu * TRACE_ENTRIES + (int(views["cpu"]["trace_at"][cpu]) - 1) % TRACE_ENTRIES


def locks_held(views: Views, cpu: int) -> list[str]:
    """The locks, open gather and RCU section of a CPU, in the kernel's words."""
    row = views["cpu"][cpu]
    held = []
    lock = int(row["mmap_lock_held"])
    if lock:
        held.append(f"mmap_lock of mm {(lock - 1) // 2} for {'writing' if lock % 2 == 0 else 'reading'}")
    held += [_mutex(views, int(row)) for row in np.flatnonzero(views["mutex"]["owner"] == cpu + 1)]
    for slot in np.flatnonzero(views["cache"]["writeback"] == cpu + 1):
        held.append(f"{_page(views, int(slot))} under write-back, not submitted")
    descriptors = views["ptdesc"]
    for table in np.flatnonzero(descriptors["ptl"] == cpu + 1):
        held.append(f"ptl of table {table} (level {descriptors['level'][table]})")
    for zone in np.flatnonzero(views["zone"]["lock"] == cpu + 1):
        held.append(f"zone lock of the {'tables' if zone else 'frames'}")
    if row["gather_mm"]:
        frames, tables = many(int(row["gather_pages"]), "frame"), many(int(row["gather_tables"]), "table")
        held.append(f"an open mmu_gather with {frames} and {tables}")
    if row["rcu_nesting"]:
        held.append("rcu_read_lock")
    return held


def _page(views: Views, slot: int) -> str:
    """A page of a file or of swap, by its row of `cache`."""
    config = views["config"][0]
    files, pages = int(config["n_file"]), int(config["file_pages"])
    if slot >= files * pages:
        return f"page {slot - files * pages} of swap"
    return f"page {slot % pages} of file {slot // pages}"


def _mutex(views: Views, row: int) -> str:
    """A sleeping lock, by its row of `mutex`."""
    config = views["config"][0]
    files = int(config["n_file"])
    if row < config["n_slot"]:
        return f"the page lock of {_page(views, row)}"
    row -= int(config["n_slot"])
    if row < files:
        return f"the inode lock of file {row}"
    row -= files
    if row <= files + 1:
        return f"i_mmap_lock of {f'file {row}' if row < files else ('the device file', 'hugetlbfs')[row - files]}"
    row -= files + 2
    if row < config["n_mm"]:
        return f"the anon_vma lock of the family of mm {row}"
    return f"anonymous page lock {row - int(config['n_mm'])}"


def waiting_for(views: Views, cpu: int) -> str | None:
    """What a CPU waits for, in words, or None."""
    waits, index = Wait(int(views["cpu"]["waits_for"][cpu])), int(views["cpu"]["waits_index"][cpu])
    if waits == Wait.NOTHING:
        return None
    if waits in (Wait.PAGE_LOCK, Wait.INODE_LOCK, Wait.I_MMAP_LOCK, Wait.ANON_VMA_LOCK):
        return _mutex(views, index)
    return WAIT_TEXT[waits].format(_page(views, index) if waits in (Wait.WRITEBACK, Wait.RECLAIM) else index)


def place_of(views: Views, geometry: Geometry, cpu: int) -> str:
    """At which instruction a process is, and which point it passed last."""
    parts = [] if cpu == geometry.cpus else [f"at {instruction(views, cpu)}"]
    name = last_point(views, geometry, cpu)
    if name is not None:
        parts.append(f"last seen at {name} ({POINTS[name].function}: {POINTS[name].text})")
    return "; ".join(parts)


def state_of(views: Views, geometry: Geometry, cpu: int) -> str:
    """What a process did and held: at which instruction, at which point, holding what, waiting for what."""
    parts = [place_of(views, geometry, cpu), f"holding {', '.join(locks_held(views, cpu)) or 'no lock'}"]
    waits = waiting_for(views, cpu)
    if waits is not None:
        parts.append(f"waiting for {waits}")
    return "; ".join(part for part in parts if part)


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
    arrived_in = views["trace"]["value"][_last_row(views, cpu)]  # it may have died there, in an earlier round
    return bool(arrived_in == views["barrier"]["generation"][barrier])


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
        case Wait.USERFAULT:
            return [o for o in others if not views["cpu"]["finished"][o]]
        case Wait.BARRIER:
            return [o for o in others if not _arrived(views, geometry, o, index)]
        case Wait.DYING_TABLE if geometry.debug:
            return [stamp(views["life"]["zero"][index])[1]]
    return []


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
    seq, waiting = int(rcu["gp_seq"][0]), int(np.count_nonzero(views["ptdesc"]["state"] == TABLE_LIMBO))
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
    waiting = [int(c) for c in np.flatnonzero(cpu["flush_state"] == REQUESTED)]
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
    """One line per edge: who waits for what, held by whom; grace periods and IPIs like an RCU stall warning."""
    unfinished = [cpu for cpu in range(geometry.cpus) if not views["cpu"]["finished"][cpu]]
    return [
        *wait_lines(views, geometry, unfinished, fates or {}),
        *grace_period_line(views, geometry, fates or {}),
        *flush_lines(views, geometry, fates or {}),
    ]


def stamp(word: int) -> tuple[int, int]:
    """Cycles since the start and CPU of one event of a table's life; CPU -1 if it never happened."""
    return int(word) >> 10, (int(word) & 1023) - 1


def life_of(views: Views, table: int) -> list[tuple[int, int, str]]:
    """What happened to a table, oldest first: (cycles since the start, CPU, event)."""
    row = views["life"][table]
    events = [(*stamp(row[name]), name) for name in LIFE.comments]
    return sorted(event for event in events if event[1] >= 0)


def describe_death(views: Views, geometry: Geometry, number: int, exitcode: int) -> str:
    """A process ended by itself: who, how, at which instruction, with which locks."""
    how = f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
    return f"{who(geometry, number)} {how} {state_of(views, geometry, number)}"


def describe_stuck(views: Views, geometry: Geometry, headline: str, fates: Fates) -> str:
    """A machine that does not move: every process that has not finished, who waits for whom, and what leaked."""
    from workers.leaks import leaks

    lines = [headline]
    for number in range(geometry.cpus + geometry.debug):
        if not views["cpu"]["finished"][number]:
            lines.append(f"{who(geometry, number, fates)} {state_of(views, geometry, number)}")
    lines += [*wait_for_graph(views, geometry, fates), *cycle_line(views, geometry)]
    lines += [f"leaked: {line}" for line in leaks(views, geometry, fates)]
    return "\n  ".join(lines)
