"""H29: collapse looks at the table under mmap_lock alone, MADV_DONTNEED holds the lock of the VMA alone.

CPU 0, MADV_DONTNEED of 2 MiB          CPU 1, MADV_COLLAPSE of 12 MiB
=============================          ==============================
the lock of the VMA; no mmap_lock
                                       mmap_lock for writing
                                       looks at the pmd: table T
T is empty: clears the pmd
                                       the lock of the VMA: waits
lets the lock go
                                       clears the pmd, which names nothing,
                                         and takes that for T
"""

from emulator.uapi import MADV_COLLAPSE
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, advise, barrier, dontneed, jump, mmap, touch
from workers.programs.scene import Scene

SLOTS = 6
START = BASE - SLOTS * SLOT
SETUP = (mmap(START, SLOTS * SLOT), touch(START, PAGE))
COLLAPSE = advise(MADV_COLLAPSE, START, SLOTS * SLOT)


def programs(seed: int) -> Programs:
    """CPU 0 releases the first 2 MiB, CPU 1 collapses; then all begins anew."""
    again = [touch(START, PAGE), barrier(), COLLAPSE, barrier(), dontneed(START, SLOTS * SLOT), jump(1)]
    return [[barrier(), dontneed(START, SLOT), barrier(), jump(0)], [mmap(START, SLOTS * SLOT), *again]]


RACE = Race(
    detectors=("pmd-changed-under-pin",),
    programs=programs,
    scene=Scene(setup=(*SETUP, STOP), programs=((dontneed(START, SLOT), STOP), (COLLAPSE, STOP)), frames=1024),
    policy="pt-reclaim",
    settings={"vma_locks": 1},
    steer=(("collapse.scanned", "zap.pmd-cleared", 500),),
    why="a table that goes under the lock of a VMA alone",
)
