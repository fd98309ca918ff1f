"""The count is read, changed and written in three steps: an update is lost.

CPU 0                                  CPU 1
=====                                  =====
pte_put: reads 2
                                       pte_get: reads 2, writes 3
writes 1                               its +1 is lost
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import EXIT, STOP, barrier, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """Both CPUs fault half of one slot; then CPU 0 releases it."""
    half = SLOT // 2
    fault = [[mmap(BASE, SLOT), barrier(), touch(BASE + cpu * half, half), barrier()] for cpu in range(2)]
    return [[*fault[0], dontneed(BASE, SLOT), jump(1)], [*fault[1], jump(1)]]


RACE = Race(
    detectors=(
        "count-underflow",
        "freed-table-not-empty",
        "pmd-changed-under-pin",
        "count-from-zero",
        "count-saturated",
        "table-use-after-free",
        "table-left-at-teardown",
    ),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, 2 * PAGE), touch(BASE, PAGE), STOP),
        programs=((touch(BASE + PAGE, PAGE), EXIT), (dontneed(BASE, PAGE), EXIT)),
    ),
    steer=(("pte_ref.read", "pte_ref.read", 20),),
)
