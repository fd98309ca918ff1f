"""pte_try_get looks at the count, then adds: zero is no longer absorbing.

CPU 0, fault                           CPU 1, MADV_DONTNEED
============                           ====================
pte_try_get: the count is 1
                                       last put: the count is 0
adds 1: a dying table is pinned
                                       clears the pmd, frees the table
sets an entry in it
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race
from workers.program import dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 faults and releases one page, CPU 1 another one of the same slot."""
    return [
        [mmap(BASE, SLOT), touch(BASE + 7 * PAGE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE, PAGE), dontneed(BASE, SLOT), jump(0)],
    ]


RACE = Race(
    detectors=("count-from-zero", "count-saturated"),
    programs=programs,
    steer=(("pte_try_get.checked", "free_pte_table.zero"),),
    source="patch 5: pte_get_unless_zero",
)
