"""The entries that a split of a huge page makes are not counted: the count runs below zero, or meets it too early.

CPU 0                                  CPU 1
=====                                  =====
MADV_DONTNEED of 4 KiB: splits a
huge page; its table has 512 entries,
and count 0
  clears one: count -1                 a fault sets one: count 0
                                       clears it: the table goes, with 511
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mincore, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 splits a huge page again and again, CPU 1 takes single pages of it."""
    return [
        [mmap(BASE, SLOT, huge=True), touch(BASE, PAGE), dontneed(BASE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE + PAGE, PAGE), dontneed(BASE + PAGE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("count-underflow", "freed-table-not-empty"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT, huge=True), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE, PAGE), STOP), (mincore(BASE, PAGE), STOP)),
        frames=1024,
    ),
    policy="pmap-mutex",
    why="the count of entries alone",
)
