"""One lock an mm and no grace period: a walker that does not look again, once it has the lock, enters a freed table.

CPU 0, mincore                         CPU 1, MADV_DONTNEED
==============                         ====================
reads the pmd: table T
                                       the lock of the mm
                                       clears the last entry, the pmd; flushes
                                       drops the lock, frees T at once
takes the lock; T is free, or
  somebody else's
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
    knob="lock-no-pmd-recheck",
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((mincore(BASE, PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
    ),
    policy="pmap-mutex",
    source="pmap_extract, PMAP_LOCK, sys/amd64/amd64/pmap.c",
    why="one lock an mm",
)
