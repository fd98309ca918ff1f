"""The ptl is destroyed when the table is unhooked; the table itself waits for a grace period.

CPU 0, mincore                         CPU 1, MADV_DONTNEED
==============                         ====================
rcu_read_lock(), reads the pmd
                                       the table is empty: clears the pmd
                                       pte_free_tlb: destroys the ptl, defers the page
takes the ptl: freed memory
(would look at the pmd again)
"""

from scenarios.races.uncounted_walker import programs
from scenarios.zoo.race import BASE, PAGE, SLOT, Race
from workers.programs.program import STOP, dontneed, mincore, mmap, touch
from workers.programs.scene import Scene

RACE = Race(
    detectors=("ptlock-dead",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((mincore(BASE, PAGE), STOP), (dontneed(BASE, SLOT), STOP)),
    ),
    policy="pt-reclaim",
    steer=(("pte_lock.read-pmd", "gather.flushed"),),
    why="a walker without reference: a counted one keeps the table, and so the lock",
)
