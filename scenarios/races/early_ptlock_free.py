"""The ptl is destroyed when the table is unhooked; the table itself waits for a grace period.

CPU 0, mincore                         CPU 1, MADV_DONTNEED
==============                         ====================
rcu_read_lock(), reads the pmd
                                       last put, clears the pmd
                                       pte_free_tlb: destroys the ptl, defers the page
takes the ptl: freed memory
(would look at the pmd again)
"""

from scenarios.races.uncounted_walker import SCENE, programs
from scenarios.zoo.race import Race

RACE = Race(
    detectors=("ptlock-dead",),
    programs=programs,
    scene=SCENE,
    settings={"rcu_walk": 1},
    steer=(("mincore.walking", "gather.flushed"),),
    why="a walker without reference: a counted one keeps the table, and so the lock",
)
