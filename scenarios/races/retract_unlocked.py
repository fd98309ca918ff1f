"""Retract takes an empty table out with mmap_lock and pmd_lock alone: a walk through i_mmap is in the table.

CPU 0, write-back                      CPU 1, retract
=================                      ==============
i_mmap_lock: where is the page mapped?
  here, perhaps
reads the pmd: table T
                                       mmap_lock for writing
                                       T is empty: clears the pmd, flushes
                                       frees T
takes the ptl of T, which is somebody
  else's by now
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap_file, read, retract, touch, writeback
from workers.programs.scene import Scene

OTHER = BASE + 4 * SLOT
MAP = (mmap_file(BASE, SLOT, 0, shared=True), mmap_file(OTHER, SLOT, 0, shared=True))


def programs(seed: int) -> Programs:
    """CPU 0 makes a page dirty and writes it back, CPU 1 empties a table of the file elsewhere and has it retracted."""
    return [
        [touch(OTHER, PAGE), writeback(0), jump(0)],
        [*MAP, read(BASE, PAGE), dontneed(BASE, SLOT), retract(0), jump(2)],
    ]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(
        setup=(*MAP, read(BASE, PAGE), dontneed(BASE, SLOT), touch(OTHER, PAGE), STOP),
        programs=((writeback(0), STOP), (retract(0), STOP)),
    ),
    policy="none",
    steer=(("pte_try_get.pinned", "table.freed", 100, 0),),
    why="where tables are counted none is empty",
)
