"""A table and its frames are freed without a flush: other CPUs use them through their TLBs.

CPU 0                                  CPU 1
=====                                  =====
has a translation in its TLB
                                       MADV_DONTNEED clears, unhooks
                                       (no flush), frees the frame
stores through its TLB into the
  freed frame
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import EXIT, STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 touches a page again and again, CPU 1 releases it."""
    return [[mmap(BASE, SLOT), touch(BASE, PAGE), jump(1)], [dontneed(BASE, SLOT), jump(0)]]


RACE = Race(
    detectors=("tlb-hit-freed-frame", "psc-hit-freed-table", "foreign-contents"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), touch(BASE, PAGE), STOP),
        programs=((touch(BASE, PAGE), EXIT), (dontneed(BASE, PAGE), EXIT)),  # exit flushes: no stale entry is left
    ),
)
