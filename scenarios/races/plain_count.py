"""The count is read, changed and written in three steps: an update is lost.

CPU 0, page fault                      CPU 1, MADV_DONTNEED
=================                      ====================
pte_put: reads 3
                                       pte_get: reads 3, writes 4
writes 2                               its +1 is lost
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import EXIT, STOP, barrier, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """Both CPUs fault half of one slot; then CPU 1 releases it."""
    half = SLOT // 2
    fault = [[mmap(BASE, SLOT), barrier(), touch(BASE + cpu * half, half), barrier()] for cpu in range(2)]
    return [[*fault[0], jump(1)], [*fault[1], dontneed(BASE, SLOT), jump(1)]]


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
