"""A state in which no task can move: which waits for which, and the cycle; or the word that nobody will change any
more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emulator.mm_types import Geometry
from workers.telling.phrases import Names, noun, value
from workers.telling.waits import find_cycle, owners, wait_for_graph
from workers.telling.whereabouts import Views, instruction, locks_held, mutex_names, several, who

Waits = Mapping[int, Sequence[tuple[str, int, int]]]  # task -> (field, index, the value it saw) of each word


def _unfinished(views: Views, geometry: Geometry, waits: Waits) -> list[int]:
    """The tasks that are in the deadlock, CPUs first."""
    cpus = [cpu for cpu in range(geometry.cpus) if not views["cpu"]["finished"][cpu]]
    return cpus + [task for task in sorted(waits) if task not in cpus]


def _word_lines(views: Views, geometry: Geometry, waits: Waits, tasks: Sequence[int]) -> list[str]:
    """The words that each task waits to see changed."""
    levels = {table: int(level) for table, level in enumerate(views["ptdesc"]["level"])}
    names = Names(levels, [who(geometry, number) for number in range(geometry.cpus + 1)], mutex_names(views))
    lines = []
    for task in tasks:
        told = [
            f"{field}[{i}] ({noun(field, i, names)}) is no longer {value(field, i, seen, names)}"
            for field, i, seen in waits.get(task, ())
        ]
        if told:
            lines.append(f"{names.tasks[task]} waits until {' or '.join(told)}")
    return lines


def _conclusion(names: Sequence[str], tasks: Sequence[int], edges: Mapping[int, Sequence[int]]) -> str:
    """The cycle; without one, the task that left with a lock, or one that sleeps with none left to wake it."""
    if cycle := find_cycle(edges):
        return f"cycle: {' -> '.join(names[task] for task in cycle)}"
    if gone := sorted({other for task in tasks for other in edges[task] if other not in tasks}):
        return f"no cycle: {several([names[task] for task in gone])} ended without giving back what is waited for"
    asleep = [names[task] for task in tasks if not edges[task]]
    return f"no cycle: nobody is left to wake {several(asleep)}: a wake-up was lost"


def deadlock_lines(views: Views, geometry: Geometry, waits: Waits) -> list[str]:
    """The report: where each task stands and what it holds and waits for, and why that has no end."""
    tasks = _unfinished(views, geometry, waits)
    names = [who(geometry, number) for number in range(geometry.cpus + 1)]
    edges = {task: [o for o in owners(views, geometry, task) if o >= 0 and o != task] for task in tasks}
    lines = [f"DEADLOCK  nobody can move: {several([names[task] for task in tasks])}"]
    for task in tasks:
        held = f"holds {', '.join(locks_held(views, task)) or 'no lock'}"
        at = f"at {instruction(views, task)}; " if task < geometry.cpus else ""
        lines.append(f"{names[task]:<16} {at}{held}")
    lines += wait_for_graph(views, geometry)
    lines += _word_lines(views, geometry, waits, [task for task in tasks if not edges[task]])
    lines.append(_conclusion(names, tasks, edges))
    return lines[:1] + [f"  {line}" for line in lines[1:]]
