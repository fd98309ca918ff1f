"""No page for a gather batch: the table goes alone, and is freed before the flush.

CPU 0                                  CPU 1
=====                                  =====
                                       has the table in its paging-structure cache
MADV_DONTNEED: last put, unhooks
tlb_remove_table: no batch
frees the table (grace period)
                                       walks the freed table
tlb_finish_mmu: flushes, too late
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race
from workers.program import barrier, compute, dontneed, jump, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 1 caches the table by one page, CPU 0 frees it, CPU 1 walks to another page of it meanwhile."""
    map_ = [mmap(BASE, SLOT), barrier()]
    zapper = [*map_, barrier(), dontneed(BASE, SLOT), barrier(), jump(1)]
    walker = [*map_, touch(BASE, PAGE), barrier(), compute(700)]
    return [zapper, [*walker, touch(BASE + PAGE, PAGE), barrier(), jump(1)]]


RACE = Race(
    detectors=("psc-hit-freed-table", "walk-freed-table"),
    programs=programs,
    settings={"no_gather_batch": 1},
    tick_us=50,
    steer=(("gather.unflushed", "walk.cached", 3000),),
    source="d86564a2f085: tlb_remove_table_one frees before tlb_table_invalidate",
)
