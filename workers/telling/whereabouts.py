"""Where each process of a machine is, what it holds and waits for, in words, read from the segment alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import LIFE, TABLES, TRACE_ENTRIES, Geometry
from emulator.watch.points import POINTS, point_name
from emulator.watch.waits import WAIT_TEXT, Wait
from workers.programs.program import disassemble

Views = Mapping[str, Any]
Fates = Mapping[int, str]  # process -> what became of it, in one word


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
    return point_name(int(views["trace"]["point"][last_row(views, cpu)]))


def last_row(views: Views, cpu: int) -> int:
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
    descriptors = views["ptdesc"][: int(views["zone"]["fresh"][TABLES])]  # behind them nobody has touched the memory
    for table in np.flatnonzero(descriptors["ptl"] == cpu + 1):
        held.append(f"ptl of table {table} (level {descriptors['level'][table]})")
    for mm in np.flatnonzero(views["mm"]["pmap_lock"] == -cpu - 1):
        held.append(f"the lock of the tables of mm {mm}")
    for zone in np.flatnonzero(views["zone"]["lock"] == cpu + 1):
        held.append(f"zone lock of the {'tables' if zone else 'frames'}")
    held += [f"htable lock {lock}" for lock in np.flatnonzero(views["htable"]["lock"] == cpu + 1)]
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


def mutex_names(views: Views) -> list[str]:
    """All sleeping locks, row by row."""
    return [_mutex(views, row) for row in range(len(views["mutex"]))]


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
        parts.append(f"last seen at {name} ({POINTS[name].where}: {POINTS[name].holds})")
    return "; ".join(parts)


def state_of(views: Views, geometry: Geometry, cpu: int) -> str:
    """What a process did and held: at which instruction, at which point, holding what, waiting for what."""
    parts = [place_of(views, geometry, cpu), f"holding {', '.join(locks_held(views, cpu)) or 'no lock'}"]
    waits = waiting_for(views, cpu)
    if waits is not None:
        parts.append(f"waiting for {waits}")
    return "; ".join(part for part in parts if part)


def stamp(word: int) -> tuple[int, int]:
    """Cycles since the start and CPU of one event of a table's life; CPU -1 if it never happened."""
    return int(word) >> 10, (int(word) & 1023) - 1


def life_of(views: Views, table: int) -> list[tuple[int, int, str]]:
    """What happened to a table, oldest first: (cycles since the start, CPU, event)."""
    row = views["life"][table]
    events = [(*stamp(row[name]), name) for name in LIFE.comments]
    return sorted(event for event in events if event[1] >= 0)
