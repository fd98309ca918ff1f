"""D4: a walker drops its reference with the address it has reached: the next 2 MiB are flushed, not these.

    CPU 0                                  CPU 1
    =====                                  =====
    MADV_DONTNEED clears the entries       has the table in its paging-structure cache
    last put, with addr = end of the range
    free_pte_table: unhooks the table
    flushes addr & PMD_MASK: the next one  keeps the table cached
    grace period, free
                                           walks the freed table

On x86 a flush of 2 MiB empties everything, by tlb_single_page_flush_ceiling; hardware that flushes by address does not.
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import MARK, STOP, barrier, compute, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 1 caches the table by one page, CPU 0 frees it, CPU 1 walks to another page of it."""
    map_ = [mmap(BASE, 2 * SLOT), barrier()]
    zapper = [*map_, barrier(), compute(40), dontneed(BASE, SLOT), barrier(), compute(100), barrier(), jump(1)]
    walker = [*map_, touch(BASE, PAGE), barrier(), compute(80), barrier(), compute(150)]
    return [zapper, [*walker, touch(BASE + PAGE, PAGE), barrier(), jump(1)]]


RACE = Race(
    detectors=("psc-hit-freed-table",),
    programs=programs,
    scene=Scene(  # CPU 0 alone: it does not flush its own paging-structure cache either
        setup=(mmap(BASE, SLOT), touch(BASE + SLOT - PAGE, PAGE), STOP),
        programs=((dontneed(BASE + SLOT - PAGE, PAGE), MARK, MARK, touch(BASE, PAGE), STOP),),
    ),
    policy="refcount-rcu",
    settings={"flush_ceiling": 1024},
    tick_us=50,
    why="its own flush, by address; a gather has the range anyhow",
)
