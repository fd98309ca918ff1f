"""H16: the zap lets go of the ptl half way, a fault comes back behind it, and the fast path believes what it cleared.

CPU 0, MADV_DONTNEED of 2 MiB          CPU 1, page fault
=============================          =================
ptl; clears entries 0 to k
need_resched: lets go of the ptl
                                       sets entry 0
ptl; clears the rest, to the end
"I have cleared all": clears the pmd
  of a table that is not empty
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 releases the slot, CPU 1 touches its first page."""
    return [[mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1)], [touch(BASE, PAGE), jump(0)]]


RACE = Race(
    detectors=("freed-table-not-empty",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE + SLOT - PAGE, PAGE), STOP),
        programs=((dontneed(BASE, SLOT), STOP), (touch(BASE, PAGE), STOP)),
    ),
    policy="pt-reclaim",
    settings={"zap_batch": 256},
    steer=(("zap.cleared", "set_pte.done", 100, 0),),
    why="a zap that lets go of the ptl",
)
