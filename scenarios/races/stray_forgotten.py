"""A table is unhooked and not marked: a CPU that waits for its lock maps a page in it, and says that all is well.

CPU 0, page fault                      CPU 1, MADV_DONTNEED of 2 MiB
=================                      =============================
reads the pmd: table T
rcu_read_lock(); the pmd names T
                                       pmd_lock, ptl of T
                                         clears the pmd; T is not marked
                                       drops both
ptl of T; T is not stray
sets its entry: in a table that
  nobody will ever walk
                                       empties T; T joins the gather
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 touches a page of the slot, CPU 1 releases that."""
    return [[touch(BASE + PAGE, PAGE), jump(0)], [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)]]


RACE = Race(
    detectors=("freed-table-not-empty", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((touch(BASE + PAGE, PAGE), STOP), (dontneed(BASE, SLOT), STOP)),
    ),
    policy="corten",
    steer=(("pte_lock.read-pmd", "corten.stray"),),
    why="the mark of its tables",
)
