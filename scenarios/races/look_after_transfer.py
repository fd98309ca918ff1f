"""A fault looks at the table once more when the entry has its reference: nothing keeps the table there.

CPU 0, page fault                      CPU 1, MADV_DONTNEED
=================                      ====================
pins T: count 1 -> 2
ptl: sets its entry, which has
  that reference now; unlocks
                                       clears both entries, puts their references
                                         and its own: count 0, clears the pmd
looks at T: it is out
"""

from functools import partial

from scenarios.zoo.bodies import ONE_ENTRY, at_once, fault, zap_slot
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 faults into the table that CPU 1 empties."""
    return [
        [touch(BASE + PAGE, PAGE), jump(0)],
        [mmap(BASE, 2 * SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)],
    ]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=at_once(ONE_ENTRY, partial(fault, page=1), zap_slot),
    policy="refcount-transfer",
    steer=(("set_pte.given", "free_pte_table.unhooked"),),
    why="its fault gives the reference away",
)
