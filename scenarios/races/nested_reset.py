"""Two gathers are open on one mm; the one that freed tables finds itself nested and forgets that it did.

CPU 0                                  CPU 1, munmap
=====                                  =============
has a table of A in its
  paging-structure cache
                                       gather on A: frees tables
MADV_DONTNEED on B: opens a gather
                                       tlb_finish_mmu: nested,
                                         resets the range, freed_tables = 0
keeps the table cached                 flushes the last level only
                                       frees the table
maps A anew, walks the freed table
"""

from functools import partial
from typing import Any

from emulator.fault.zap import zap_page_range
from emulator.program.mmu import store
from emulator.syscalls.mmap import do_munmap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 releases B while CPU 1 unmaps A; then CPU 0 walks to A."""
    a, b = BASE, BASE + SLOT
    unmapper = [mmap(b, SLOT), mmap(a, SLOT), barrier(), barrier(), munmap(a, SLOT), barrier(), jump(1)]
    walker = [barrier(), touch(a, PAGE), touch(b, PAGE), barrier(), dontneed(b, PAGE), touch(a + PAGE, PAGE), barrier()]
    return [[*walker, jump(0)], unmapper]


def release_and_walk(m: Any, cpu: int) -> None:
    """MADV_DONTNEED of B, then a store to A, whose table this CPU has cached."""
    zap_page_range(m, cpu, 0, BASE - SLOT, BASE - SLOT + PAGE, 0)
    store(m, cpu, 0, BASE + PAGE, 1)


RACE = Race(
    detectors=("psc-hit-freed-table", "tlb-hit-freed-frame"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE - SLOT, PAGE), mmap(BASE, 2 * PAGE), touch(BASE, PAGE), STOP),
        bodies=lambda m: [partial(release_and_walk, m, 0), partial(do_munmap, m, 1, 0, BASE, 2 * PAGE)],
        cpus=2,
    ),
    policy="none",
    settings={"flush_ceiling": 1024},
    steer=(("gather.unflushed", "zap.cleared", 100, 1), ("zap.cleared", "table.freed", 400, 0)),
    why="munmap's gather frees tables after its flush; 33 would do",
)
