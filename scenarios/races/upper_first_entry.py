"""Whether a PMD table is empty is told by its first entry: one that is not empty goes, with a GiB of mappings.

CPU 0, MADV_DONTNEED                   CPU 1
====================                   =====
the last PTE table of one GiB goes
on the way to user mode: mmap_lock
  for writing; all PMD tables
the one of the GiB before: its first
  entry is none, so it is freed
                                       touches a page that was there: it is
                                       gone, or the walk is in a freed table
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene

BEHIND = BASE + SLOT  # the first slot of the next GiB


def programs(seed: int) -> Programs:
    """CPU 0 empties the second GiB, CPU 1 uses the last slot of the first."""
    return [
        [mmap(BASE, 2 * SLOT), touch(BEHIND, PAGE), dontneed(BEHIND, SLOT), jump(1)],
        [touch(BASE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("freed-table-not-empty",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, 2 * SLOT), touch(BASE, PAGE), touch(BEHIND, PAGE), STOP),
        programs=((dontneed(BEHIND, SLOT), dontneed(BEHIND, SLOT), STOP), (touch(BASE, PAGE), STOP)),
    ),
    policy="scan-eager",
    why="no policy of Linux frees PMD tables",
)
