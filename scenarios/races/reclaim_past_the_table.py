"""H28, CVE-2026-74674: PT_RECLAIM gives the gather the address behind the range, and that is what is flushed.

    CPU 0                                  CPU 1
    =====                                  =====
    two MADV_DONTNEED of 1 MiB each        has the table in its paging-structure cache
      empty the table, and leave it
    MADV_DONTNEED of the 2 MiB:
      nothing to clear, unhooks the table
      flushes the first page behind it     keeps the table cached
    grace period, free
                                           walks the freed table

A zap that clears an entry flushes that entry's address as well, so the table must be empty before the call. A processor
whose invalidation of one address drops the whole paging-structure cache never shows it; that is how tests missed it.
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import MARK, STOP, barrier, compute, dontneed, jump, mmap, touch
from workers.programs.scene import Scene

EMPTIED = (dontneed(BASE, SLOT // 2), dontneed(BASE + SLOT // 2, SLOT // 2))


def programs(seed: int) -> Programs:
    """CPU 1 caches the table by one page, CPU 0 empties it and frees it, CPU 1 walks to another page of it."""
    map_ = [mmap(BASE, 2 * SLOT), barrier()]
    zapper = [
        *map_,
        barrier(),
        compute(40),
        *EMPTIED,
        dontneed(BASE, SLOT),
        barrier(),
        compute(100),
        barrier(),
        jump(1),
    ]
    walker = [*map_, touch(BASE, PAGE), barrier(), compute(80), barrier(), compute(150)]
    return [zapper, [*walker, touch(BASE + PAGE, PAGE), barrier(), jump(1)]]


RACE = Race(
    knob="advanced-address",
    detectors=("psc-hit-freed-table",),
    programs=programs,
    scene=Scene(  # CPU 0 alone: it does not flush its own paging-structure cache either
        setup=(mmap(BASE, 2 * SLOT), touch(BASE, PAGE), *EMPTIED, STOP),
        programs=((dontneed(BASE, SLOT), MARK, MARK, touch(BASE + PAGE, PAGE), STOP),),
    ),
    policy="pt-reclaim",
    tick_us=50,
    source="H28; 4c640eb4181c in 7.0, fixed by 478a1c3abebf; CVE-2026-74674",
    why="the address that PT_RECLAIM gives its gather",
)
