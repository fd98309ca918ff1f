"""The flush of a freed table forgets the translations and leaves the paging-structure cache.

CPU 0                                  CPU 1
=====                                  =====
                                       has the table in its paging-structure cache
MADV_DONTNEED clears, unhooks
flushes, freed_tables = 0              forgets the page, keeps the table
grace period, free
                                       walks the freed table
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race
from workers.program import barrier, compute, dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 1 caches the table by one page, CPU 0 frees it, CPU 1 walks to another page of it."""
    map_ = [mmap(BASE, SLOT), barrier()]
    zapper = [*map_, barrier(), compute(40), dontneed(BASE, SLOT), barrier(), compute(100), barrier(), jump(1)]
    walker = [*map_, touch(BASE, PAGE), barrier(), compute(80), barrier(), compute(150)]
    return [zapper, [*walker, touch(BASE + PAGE, PAGE), barrier(), jump(1)]]


RACE = Race(
    detectors=("psc-hit-freed-table",),
    programs=programs,
    tick_us=50,
    source="patch 7: tlb->freed_tables; flush_tlb_range says freed_tables=false (016c4d92cd16, D8)",
)
