"""A path that forgets its pte_put: the table is never freed.

CPU 0                                  CPU 1
=====                                  =====
read fault: pins the table
(no pte_put)
                                       munmap: zap clears the entries, its puts are not the last
                                       free_pgtables: the table is still there - BUG() in patch 5
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, jump, mmap, munmap, read, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 reads a page, CPU 1 unmaps it."""
    reader = [barrier(), read(BASE, PAGE), barrier(), jump(0)]
    unmapper = [mmap(BASE, SLOT), barrier(), barrier(), munmap(BASE, SLOT), jump(0)]
    return [reader, unmapper]


RACE = Race(
    detectors=("table-left-at-teardown",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), mmap(BASE - SLOT, PAGE), touch(BASE - SLOT, PAGE), STOP),  # the upper tables stay
        programs=((read(BASE, PAGE), STOP), (munmap(BASE, PAGE), STOP)),
    ),
)
