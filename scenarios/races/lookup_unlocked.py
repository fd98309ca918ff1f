"""A visitor reads the pmd and counts itself without the lock of the hash: the last one out does not see it.

CPU 0, mincore                         CPU 1, MADV_DONTNEED
==============                         ====================
reads the pmd: table T
                                       clears the last entry of T
                                       lock of the hash; one visitor, no entry
                                       clears the pmd; flushes; T goes to the cache
visitors of T + 1
takes the ptl of T, which is free, or
  the table of another 2 MiB
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mincore, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 looks at the slot, CPU 1 empties it."""
    return [
        [mincore(BASE, SLOT), jump(0)],
        [mmap(BASE, 2 * SLOT), touch(BASE + SLOT, PAGE), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(2)],
    ]


RACE = Race(
    detectors=("table-use-after-free", "freed-table-not-empty", "pmd-changed-under-pin", "count-underflow"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((mincore(BASE, PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
    ),
    policy="htable",
    steer=(("htable.found", "htable.unlinked", 100, 0),),
    why="visitors that come by a lock",
)
