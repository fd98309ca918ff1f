"""A table without entries goes under a fault that has wired it, and allocates its page.

CPU 0, page fault                      CPU 1, MADV_DONTNEED
=================                      ====================
the lock of the mm, shared: wires T
drops it, allocates a page
                                       clears the last entry of T
                                       the lock of the mm, alone
                                         T has no entry; that it is wired
                                         is not looked at: clears the pmd
                                       frees T
sets its entry in T, which is free
"""

from functools import partial

from scenarios.zoo.bodies import ONE_ENTRY, at_once, fault, zap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import dontneed, jump, mmap, touch

NEXT = BASE + PAGE


def programs(seed: int) -> Programs:
    """CPU 0 faults into the table that CPU 1 empties."""
    return [
        [touch(NEXT, PAGE), dontneed(NEXT, PAGE), jump(0)],
        [mmap(BASE, 2 * SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), jump(1)],
    ]


RACE = Race(
    detectors=("table-use-after-free", "pmd-changed-under-pin", "count-underflow", "freed-table-not-empty"),
    programs=programs,
    scene=at_once(ONE_ENTRY, partial(fault, page=1), zap),
    policy="xnu-ptd",
    steer=(("pte_try_get.pinned", "xnu.unhooked"),),
    why="its count of visitors",
)
