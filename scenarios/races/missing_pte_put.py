"""A path that forgets its pte_put: the table is never freed.

CPU 0                                  CPU 1
=====                                  =====
read fault: pins the table
(no pte_put)
                                       munmap: zap clears the entries, its puts are not the last
                                       free_pgtables: the table is still there - BUG() in patch 5
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race
from workers.program import barrier, jump, mmap, munmap, read


def programs(seed: int) -> Programs:
    """CPU 0 reads a page, CPU 1 unmaps it."""
    reader = [barrier(), read(BASE, PAGE), barrier(), jump(0)]
    unmapper = [mmap(BASE, SLOT), barrier(), barrier(), munmap(BASE, SLOT), jump(0)]
    return [reader, unmapper]


RACE = Race(
    detectors=("table-left-at-teardown",),
    programs=programs,
    source="v1 of the series: insert_pages puts once for several gets (D5); free_pte_range",
)
