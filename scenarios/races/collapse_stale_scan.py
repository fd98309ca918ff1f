"""Collapse looks at a table under mmap_lock, then waits for the anon_vma lock, and takes the table out.

CPU 0, collapse                        CPU 1, reclaim
===============                        ==============
mmap_lock for writing
the pmd names T, its pages are fine
                                       anon_vma lock
                                       discards the last page of T, which MADV_FREE gave up
                                       puts T: the last one, T is unhooked
                                       drops the anon_vma lock
anon_vma lock
clears the pmd, to collapse T:
  it is none by now, or T is dying

Before tables were counted mmap_lock was enough: reclaim emptied tables, and never took one away.
"""

from emulator.uapi import MADV_COLLAPSE
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, advise, dontneed, free, jump, mmap, swapout, touch
from workers.programs.scene import Scene

COLLAPSE = advise(MADV_COLLAPSE, BASE, SLOT)


def programs(seed: int) -> Programs:
    """CPU 0 gives a page up and collapses its 2 MiB, CPU 1 reclaims."""
    return [
        [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), COLLAPSE, dontneed(BASE, SLOT), jump(1)],
        [swapout(1), jump(0)],
    ]


RACE = Race(
    detectors=("pmd-changed-under-pin",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), STOP),
        programs=((COLLAPSE, STOP), (swapout(1), STOP)),
        frames=1024,
    ),
    steer=(("collapse.scanned", "free_pte_table.unhooked", 1000),),
)
