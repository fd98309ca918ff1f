"""A review comes an epoch early: a CPU holds back the reference of an entry, and its table is freed under it.

CPU 0, MADV_DONTNEED            CPU 1, page fault               the coordinator
====================            =================               ===============
                                sees epoch 1, adds up
T: -1, for its last entry
                                comes to T, which is not
                                  dying; T: +1, for its entry
sees epoch 1, adds up
  count of T: 0, dying
                                                                all have seen 1: epoch 2
                                                                T is still at 0, and dying
                                                                takes T out: there is an entry in it
                                would add up in epoch 2
"""

from scenarios.zoo.bodies import ONE_ENTRY, at_once, rest_then_fault, zap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import dontneed, jump, mmap, touch

NEXT = BASE + PAGE


def programs(seed: int) -> Programs:
    """Two CPUs fill and empty a table by turns."""
    return [
        [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(1)],
        [touch(NEXT, PAGE), dontneed(NEXT, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("freed-table-not-empty", "table-use-after-free", "pmd-changed-under-pin"),
    programs=programs,
    scene=at_once(ONE_ENTRY, zap, rest_then_fault, coordinator=True),
    policy="refcache",
    tick_us=50,
    why="its epochs",
)
