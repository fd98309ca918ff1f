"""Parallel MADV_DONTNEED: the second finds nothing to clear, flushes nothing, and returns before the first has flushed.

CPU 0                                  CPU 1
=====                                  =====
stores to a page: in its TLB
                                       MADV_DONTNEED clears the entry
                                         (flush deferred)
MADV_DONTNEED: the entry is none,
  nothing to gather, returns
loads the page: the old contents,
  through its TLB
                                       flushes
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap, read, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """Both CPUs release the page CPU 0 has stored to; CPU 0 reads it back."""
    storer = [barrier(), touch(BASE, PAGE, value=7), barrier(), dontneed(BASE, SLOT), read(BASE, PAGE), barrier()]
    other = [mmap(BASE, SLOT), barrier(), barrier(), dontneed(BASE, SLOT), barrier(), jump(1)]
    return [[*storer, jump(0)], other]


RACE = Race(
    detectors=("stale-after-dontneed",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE, value=7), STOP),
        programs=((dontneed(BASE, PAGE), read(BASE, PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
    ),
    steer=(("gather.unflushed", "access.translated"),),
)
