"""mremap decides to move a table, takes its locks, and does not look at the pmd again: retract has taken the table.

CPU 0, mremap                          CPU 1, retract
=============                          ==============
reads the pmd: table T, to be moved
                                       i_mmap_lock, pmd_lock
                                       T is empty: clears the pmd, flushes
                                       frees T
i_mmap_lock, both pmd_locks
moves the table that the pmd names: page 0
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap_file, mremap_fixed, munmap, read, retract
from workers.programs.scene import Scene

OTHER = BASE + 4 * SLOT
SETUP = (mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), dontneed(BASE, SLOT))


def programs(seed: int) -> Programs:
    """CPU 0 moves an empty table of a file, CPU 1 retracts it."""
    move = [barrier(), mremap_fixed(BASE, SLOT, OTHER), barrier(), munmap(OTHER, SLOT), jump(0)]
    return [[*SETUP, *move], [barrier(), retract(0), barrier(), jump(0)]]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(setup=(*SETUP, STOP), programs=((mremap_fixed(BASE, SLOT, OTHER), STOP), (retract(0), STOP))),
    policy="none-rcu",
    steer=(("mremap.table", "table.freed", 200),),
    why="with mmap_lock held for writing retract cannot come in between",
)
