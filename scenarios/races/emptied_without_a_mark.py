"""The last entry of a table goes, and its table with it, unmarked: a fault that waits for its lock maps a page there.

CPU 0, page fault                      CPU 1, MADV_DONTNEED of one page
=================                      ================================
reads the pmd: table T
rcu_read_lock(); the pmd names T
                                       ptl of T: clears the last entry; drops it
                                       pmd_lock, ptl of T: 0 entries
                                         clears the pmd; T is not marked
                                       drops both; flush, grace period
ptl of T; T is not stray
sets its entry: in a table that
  nobody will ever walk
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 touches a page of the slot, CPU 1 another one, and releases both."""
    return [
        [touch(BASE + PAGE, PAGE), jump(0)],
        [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, 2 * PAGE), jump(1)],
    ]


RACE = Race(
    knob="stray-forgotten",
    detectors=("freed-table-not-empty", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((touch(BASE + PAGE, PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
    ),
    policy="corten-eager",
    steer=(("pte_lock.read-pmd", "corten.stray"),),
    why="a table that goes with its last entry",
)
