"""A table is freed without a wait for rmap walks: one that has read the pmd takes the ptl of no table.

CPU 0, page-out                        CPU 1, MADV_DONTNEED
===============                        ====================
is in an rmap walk: no lock of the
  mm, and nothing is wired
reads the pmd: table T
                                       clears the last entry of T
                                       the lock of the mm; T is not wired
                                         clears the pmd; flushes
                                       frees T at once, without a wait for
                                         CPUs in an rmap walk
takes the ptl of T; T is free, or
  somebody else's
"""

from scenarios.zoo.bodies import LAZYFREE, at_once, reclaim, zap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import dontneed, jump, migrate, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 moves the page to another frame by its rmap, CPU 1 empties the table."""
    return [
        [touch(BASE + SLOT, PAGE), migrate(BASE), jump(0)],
        [mmap(BASE, 2 * SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(1)],
    ]


RACE = Race(
    detectors=("table-use-after-free", "ptlock-dead", "freed-under-rcu-reader"),
    programs=programs,
    scene=at_once(LAZYFREE, reclaim, zap),
    policy="xnu-ptd",
    steer=(("pte_lock.read-pmd", "xnu.waiting"),),
    why="its rmap walks, which pin nothing",
)
