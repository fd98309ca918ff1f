"""A process scans its tables on the way to user mode; a fault of another thread does not look again, behind the ptl.

CPU 0, page fault                      CPU 1, returns to user mode
=================                      ===========================
reads the pmd: table T, empty
rcu_read_lock(); the pmd names T
                                       100 ms are over: scans
                                       pmd_lock, ptl of T; 512 entries none
                                       clears the pmd; drops both
ptl of T
sets its entry: in a table that
  nobody will ever walk
"""

from scenarios.zoo.bodies import EMPTY, at_once, fault, scan
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import barrier, compute, dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 empties its table and touches it again, CPU 1 goes to user mode and back."""
    return [
        [mmap(BASE, SLOT), barrier(), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(2)],
        [barrier(), compute(50), jump(1)],
    ]


RACE = Race(
    knob="lock-no-pmd-recheck",
    detectors=("table-use-after-free",),
    programs=programs,
    scene=at_once(EMPTY, fault, scan),
    policy="async-scan",
    source="RFC of 2024-06-13, 3 of 3; pte_offset_map_lock, mm/pgtable-generic.c, since 6.5",
    steer=(("pte_lock.read-pmd", "free_pte_table.unhooked"),),
    why="the scan by time: it frees what nobody zaps",
)
