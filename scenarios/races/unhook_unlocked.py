"""The pmd of a dying table is cleared without pmd_lock: patch 5 pins under that lock alone.

CPU 0, MADV_DONTNEED                   CPU 1, fault
====================                   ============
                                       pte_try_get: pmd_lock, reads the pmd
last put: count 0
clears the pmd (no pmd_lock), flushes,
  frees the table at once
                                       inc-not-zero on memory that is free
"""

from scenarios.zoo.bodies import ONE_ENTRY, at_once, walk, zap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """Both CPUs fault and release pages of the same slot."""
    return [
        [mmap(BASE, SLOT), touch(BASE + 7 * PAGE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE, PAGE), dontneed(BASE, SLOT), jump(0)],
    ]


RACE = Race(
    detectors=("count-saturated", "table-use-after-free", "count-from-zero"),
    programs=programs,
    scene=at_once(ONE_ENTRY, zap, walk),
    policy="refcount-lock",
    steer=(("pte_try_get.locked", "table.freed"),),
    why="there pmd_lock alone protects the pin; later patches pin under RCU",
)
