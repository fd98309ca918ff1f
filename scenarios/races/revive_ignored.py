"""A review does not look whether somebody has come to the dying table since: it takes the table out under an entry.

CPU 0, MADV_DONTNEED            CPU 1, page fault               the coordinator
====================            =================               ===============
T: -1, for its last entry
sees epoch 1, adds up
  count of T: 0, dying
                                sees epoch 2, adds up
                                comes to T, and revives it
                                  T: +1, for its entry
                                                                all have seen 2: epoch 3
                                                                T is still at 0; whether it is
                                                                  dying is not looked at
                                                                takes T out: there is an entry in it
"""

from scenarios.races.review_early import RACE as EARLY
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
    detectors=EARLY.detectors,
    programs=programs,
    scene=EARLY.scene,
    policy="refcache",
    tick_us=50,
    why="its weak references",
)
