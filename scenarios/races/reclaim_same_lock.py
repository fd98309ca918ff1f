"""H23: without split locks pmd_lock and the ptl are one lock, which PT_RECLAIM tries to take twice.

CPU 0, MADV_DONTNEED of 2 MiB          CPU 1, page fault
=============================          =================
ptl: the lock of the mm
  clears all entries
fast path: tries pmd_lock, which is
  held, by this CPU: gives up
drops the ptl
scan: pmd_lock, then ptl:              wants the lock of the mm, too
  waits for itself
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 releases the slot, CPU 1 touches the next one."""
    return [
        [mmap(BASE, 2 * SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE + SLOT, PAGE), dontneed(BASE + SLOT, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("no-progress", "deadlock"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE, SLOT), STOP),),
    ),
    policy="pt-reclaim",
    settings={"one_ptl": 1},
    patience=1.0,
    why="one lock for all tables of an mm",
)
