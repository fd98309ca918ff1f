"""No page for a gather batch: the table goes alone, and is freed before the flush.

CPU 0                                  CPU 1
=====                                  =====
has the table in its paging-structure
  cache
                                       munmap clears, unhooks
                                       tlb_remove_table: no batch
                                       frees the table
walks the freed table
                                       tlb_finish_mmu: flushes, too late
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, compute, jump, mmap, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 caches the table by one page, CPU 1 unmaps it, CPU 0 walks to another page of it before that is over."""
    unmapper = [mmap(BASE, SLOT), barrier(), barrier(), munmap(BASE, SLOT), barrier(), jump(0)]
    walker = [barrier(), touch(BASE, PAGE), barrier(), compute(30), touch(BASE + PAGE, PAGE), barrier(), jump(0)]
    return [walker, unmapper]


RACE = Race(
    detectors=("psc-hit-freed-table", "walk-freed-table"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE - SLOT, PAGE), mmap(BASE, 2 * PAGE), touch(BASE, PAGE), STOP),
        programs=((touch(BASE + PAGE, PAGE), STOP), (munmap(BASE, 2 * PAGE), STOP)),
    ),
    policy="none",
    settings={"no_gather_batch": 1},
    steer=(("gather.unflushed", "walk.cached"),),
    why="memory pressure; under `none` munmap's table goes at once",
)
