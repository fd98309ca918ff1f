"""A walker takes the ptl of the table that it found, and does not look at the pmd again: the table has gone.

CPU 0, page fault                      CPU 1, MADV_DONTNEED of 2 MiB
=================                      =============================
reads the pmd: table T
                                       ptl of T; T is empty
rcu_read_lock(); the pmd names T
                                       clears the pmd; drops the ptl
ptl of T
sets its entry: in a table that
  nobody will ever walk
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 touches a page of the slot, CPU 1 releases that."""
    return [[touch(BASE + PAGE, PAGE), jump(0)], [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)]]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((touch(BASE + PAGE, PAGE), STOP), (dontneed(BASE, SLOT), STOP)),
    ),
    policy="pt-reclaim",
    steer=(("pte_lock.read-pmd", "zap.pmd-cleared"),),
    why="a counted table is pinned: its pmd cannot change",
)
