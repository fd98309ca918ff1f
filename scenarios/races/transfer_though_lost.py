"""Two faults meet on one entry, and the one that finds it set gives its reference away: the table never goes.

CPU 0, page fault                      CPU 1, page fault on the same page
=================                      ==================================
pins T: count 2
                                       pins T: count 3
the entry is none
                                       the entry is none
ptl: sets it; it has the reference
                                       ptl: it is set; leaves without a put
T has two entries and count 3
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import EXIT, STOP, barrier, jump, mmap, munmap, touch
from workers.programs.scene import Scene

NEXT = BASE + PAGE


def programs(seed: int) -> Programs:
    """Both CPUs fault on the same pages; then CPU 0 unmaps them."""
    meet = [barrier(), touch(BASE, SLOT), barrier()]
    return [[mmap(BASE, SLOT), *meet, munmap(BASE, SLOT), jump(0)], [*meet, jump(0)]]


RACE = Race(
    detectors=("table-left-at-teardown",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, 2 * PAGE), touch(BASE, PAGE), STOP),
        programs=((touch(NEXT, PAGE), EXIT), (touch(NEXT, PAGE), EXIT)),
    ),
    policy="refcount-transfer",
    why="its fault gives the reference away",
)
