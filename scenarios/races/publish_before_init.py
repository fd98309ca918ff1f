"""D1: the table is published before its count is initialised, as posted in v1 and v2.

CPU 0                                  CPU 1
=====                                  =====
fault: pmd none, pmd_lock
pmd_populate(table)
                                       fault: the pmd is there
                                       inc-not-zero on whatever the word held: 0x6b... -> "pinned"
pte_ref_init(table, 1)                 its +1 is lost
sets its entry, count 2, puts: 1       sets its entry, count 2, puts: 1 - two entries, one reference
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """Both CPUs fault into one empty slot at once; then CPU 0 releases it."""
    fault = [[mmap(BASE, SLOT), barrier(), touch(BASE + cpu * PAGE, PAGE), barrier()] for cpu in range(2)]
    return [[*fault[0], dontneed(BASE, SLOT), jump(1)], [*fault[1], jump(1)]]


RACE = Race(
    detectors=("count-saturated", "count-underflow", "freed-table-not-empty", "pmd-changed-under-pin"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), STOP),  # leaves a poisoned table
        programs=((touch(BASE, PAGE), STOP), (touch(BASE + PAGE, PAGE), STOP)),
    ),
    steer=(("pmd_install.published", "pte_try_get.pinned"),),
)
