"""UFFD_MOVE sets its entry in the table that it found, without a second look at the pmd.

CPU 0, UFFD_MOVE                       CPU 1, MADV_DONTNEED
================                       ====================
reads the pmds of both places; the
  destination's entry is none
                                       empties the destination's table,
                                       which goes
both ptls; the entry is none still
sets it: in a table that nobody has
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch, uffd_copy, uffd_move, uffd_register
from workers.programs.scene import Scene

SOURCE = BASE + 4 * SLOT
SETUP = (mmap(BASE, SLOT), uffd_register(BASE, SLOT), mmap(SOURCE, SLOT), touch(SOURCE, 2 * PAGE))


def programs(seed: int) -> Programs:
    """CPU 0 moves a page beside the only one of a table, CPU 1 brings that one and releases the 2 MiB."""
    again = [touch(SOURCE, 2 * PAGE), uffd_move(SOURCE, PAGE, BASE + PAGE), dontneed(BASE + PAGE, PAGE)]
    return [[*SETUP, *again, jump(len(SETUP))], [uffd_copy(BASE, PAGE, 1), dontneed(BASE, SLOT), jump(0)]]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(
        setup=(*SETUP, uffd_copy(BASE, PAGE, 1), STOP),
        programs=((uffd_move(SOURCE, PAGE, BASE + PAGE), STOP), (dontneed(BASE, SLOT), STOP)),
    ),
    steer=(("uffd.mapped", "zap.pmd-cleared"),),
    policy="pt-reclaim",
    why="UFFD_MOVE without a reference on the destination's table",
)
