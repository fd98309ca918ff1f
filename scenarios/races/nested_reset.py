"""Two gathers are open on one mm; the one that freed tables finds itself nested and forgets that it did.

CPU 0, munmap                          CPU 1
=============                          =====
                                       has a table of A in its paging-structure cache
gather on A: frees tables
                                       MADV_DONTNEED on B: opens a gather
tlb_finish_mmu: nested,
  resets the range, freed_tables = 0
flushes the last level only            keeps the table cached
frees the table
                                       maps A anew, walks the freed table
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race, Scene
from workers.program import STOP, barrier, dontneed, jump, mmap, munmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 unmaps A while CPU 1 releases B; then CPU 1 walks to A."""
    a, b = BASE, BASE + SLOT
    unmapper = [mmap(b, SLOT), mmap(a, SLOT), barrier(), barrier(), munmap(a, SLOT), barrier(), jump(1)]
    walker = [barrier(), touch(a, PAGE), touch(b, PAGE), barrier(), dontneed(b, PAGE), touch(a + PAGE, PAGE), barrier()]
    return [unmapper, [*walker, jump(0)]]


RACE = Race(
    detectors=("psc-hit-freed-table", "tlb-hit-freed-frame"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE - SLOT, PAGE), mmap(BASE, 2 * PAGE), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE - SLOT, PAGE), touch(BASE + PAGE, PAGE), STOP), (munmap(BASE, 2 * PAGE), STOP)),
    ),
    policy="none",
    settings={"flush_ceiling": 1024},
    steer=(("gather.unflushed", "zap.cleared", 100, 0), ("zap.cleared", "table.freed", 400, 1)),
    source="7a30df49f63a; dd2283f2605e made munmap free tables under mmap_lock for reading",
)
