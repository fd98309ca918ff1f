"""mremap moves a whole table without the rmap locks: a walk that has found an entry at its old address flushes that.

CPU 0                            CPU 1, mremap                CPU 2, write-back
=====                            =============                =================
                                                              i_mmap_lock: the page may be
                                                              mapped here; reads the pmd
                                 clears the old pmd, flushes
                                 sets the new pmd
stores at the new address
                                                              ptl: write-protects the entry
                                                              flushes the old address
                                                              the page is clean
stores through its TLB: nobody
  will write that
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, jump, mmap, mmap_file, mremap_fixed, munmap, touch, writeback
from workers.programs.scene import Scene

OTHER = BASE + 4 * SLOT


def programs(seed: int) -> Programs:
    """CPU 1 moves a dirty page of a file with its table, CPU 2 writes it back, CPU 0 stores where it is moved to."""
    setup = (munmap(OTHER, SLOT), mmap(OTHER, SLOT), mmap_file(BASE, SLOT, 0, shared=True), touch(BASE, PAGE))
    return [
        [barrier(), *[touch(OTHER, PAGE)] * 40, barrier(), jump(0)],
        [*setup, barrier(), mremap_fixed(BASE, SLOT, OTHER), barrier(), jump(0)],
        [barrier(), writeback(0), barrier(), jump(0)],
    ]


RACE = Race(
    detectors=("store-to-clean-page", "table-use-after-free"),
    programs=programs,
    scene=Scene(  # CPU 0 writes back as well
        setup=(mmap_file(BASE, SLOT, 0, shared=True), touch(BASE, PAGE), STOP),
        programs=(
            (writeback(0), touch(OTHER, PAGE), STOP),
            (mremap_fixed(BASE, SLOT, OTHER), touch(OTHER, PAGE), touch(OTHER, PAGE), STOP),
        ),
    ),
    policy="none",
    steer=(("pte_try_get.pinned", "access.translated", 100, 2),),
    why="any would do; a counting one notices that a pinned table was moved, too",
)
