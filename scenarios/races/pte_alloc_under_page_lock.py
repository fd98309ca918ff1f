"""H1: finish_fault allocates its table while it holds a page lock; reclaim waits for write-back, which wants that lock.

CPU 0, write-back                      CPU 1, page fault
=================                      =================
locks page 0, marks it as under
  write-back, unlocks it
                                       locks page 1
wants the lock of page 1
                                       allocates a table: the control group is
                                       at its limit, reclaim waits for page 0
(page 0 is submitted with the batch,
 which page 1 is to join)
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, jump, mmap_file, munmap, touch, writeback
from workers.programs.scene import Scene

OTHER = BASE + 2 * SLOT


def programs(seed: int) -> Programs:
    """CPU 0 dirties two pages and writes them back, CPU 1 copies the second one to where there is no table."""
    writer = [mmap_file(OTHER, 2 * PAGE, 0, shared=True), touch(OTHER, 2 * PAGE), writeback(0), jump(1)]
    faulter = [mmap_file(BASE, PAGE, 0, page=1), touch(BASE, PAGE), munmap(BASE, PAGE), jump(0)]
    return [writer, faulter]


RACE = Race(
    detectors=("no-progress", "deadlock"),
    programs=programs,
    scene=Scene(
        setup=(
            mmap_file(OTHER, 2 * PAGE, 0, shared=True),
            touch(OTHER, 2 * PAGE),
            mmap_file(BASE, PAGE, 0, page=1),
            STOP,
        ),
        programs=((writeback(0), STOP), (touch(BASE, PAGE), STOP)),
        memcg_limit=1,
    ),
    steer=(("writeback.collected", "finish_fault.page-locked"), ("finish_fault.page-locked", "writeback.collected")),
    patience=1.0,
)
