"""A walker that takes no reference: the table is freed under it.

CPU 0, mincore                         CPU 1, MADV_DONTNEED
==============                         ====================
reads the pmd: a table
                                       clears the entries, last put: count 0
                                       clears the pmd, flush, grace period, free
takes the ptl, reads entries
  of a table that is free
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mincore, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 looks at the slot, CPU 1 faults and releases it."""
    return [
        [mmap(BASE, SLOT), mincore(BASE, SLOT), jump(1)],
        [touch(BASE, PAGE), dontneed(BASE, SLOT), jump(0)],
    ]


SCENE = Scene(
    setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
    programs=((mincore(BASE, PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
)

RACE = Race(
    detectors=("table-use-after-free", "ptlock-dead"),
    programs=programs,
    scene=SCENE,
    steer=(("mincore.walking", "free_pte_table.unhooked"),),
)
