"""Zap unmaps a dirty page of a file and drops ptl before it flushes: write-back comes first, a last store after it.

CPU 0, MADV_DONTNEED                   CPU 1                              CPU 2, write-back
====================                   =====                              =================
                                       stores: its TLB has the page
clears the PTE, the page is dirty
drops ptl (not flushed)
                                                                          finds no PTE to write-protect
                                                                          takes the page for clean
                                       stores through its TLB: lost
                                         when the page is reclaimed
flushes, too late
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap_file, touch, writeback
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 unmaps a page of a file, CPU 1 stores to it, CPU 2 writes it back."""
    zapper = [mmap_file(BASE, PAGE, 0, shared=True), barrier(), dontneed(BASE, SLOT), jump(2)]
    storer = [barrier(), touch(BASE, PAGE), jump(1)]
    writer = [barrier(), writeback(0), jump(1)]
    return [zapper, storer, writer]


RACE = Race(
    detectors=("store-to-clean-page",),
    programs=programs,
    scene=Scene(
        setup=(mmap_file(BASE, PAGE, 0, shared=True), touch(BASE, PAGE), STOP),
        programs=(  # CPU 1 is the writer as well
            (dontneed(BASE, PAGE), STOP),
            (touch(BASE, PAGE), writeback(0), touch(BASE, PAGE), STOP),
        ),
    ),
    steer=(("zap.cleared", "writeback.submitting", 100),),
)
