"""An empty PMD table is taken out with mmap_lock held for reading: a fault has a pmd in it.

CPU 0, MADV_DONTNEED                   CPU 1, page fault
====================                   =================
                                       mmap_lock for reading; goes down to a
                                       pmd: none
mmap_lock for reading, too
512 entries none: clears the pud
                                       installs a PTE table at the pmd, which
                                       nobody can walk to; its page is lost
flushes; a grace period; freed
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 empties the GiB again and again, CPU 1 touches a page of it."""
    return [
        [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE + PAGE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("freed-table-not-empty", "table-use-after-free", "table-double-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE, SLOT), dontneed(BASE, SLOT), STOP), (touch(BASE + PAGE, PAGE), STOP)),
    ),
    policy="pmap-mutex",
    why="no policy of Linux frees PMD tables",
)
