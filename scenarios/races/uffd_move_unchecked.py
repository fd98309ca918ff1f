"""UFFD_MOVE sets its entry in the table that it found, without a second look at the pmd.

CPU 0, UFFD_MOVE                       CPU 1, MADV_DONTNEED
================                       ====================
reads the pmds of both places; the
  destination's entry is none
                                       clears the last entry of the
                                       destination's table: it goes
both ptls; the entry is none still
sets it: in a table that nobody has
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch, uffd_move, uffd_register
from workers.programs.scene import Scene

SOURCE = BASE + 4 * SLOT
SETUP = (mmap(BASE, SLOT), uffd_register(BASE + PAGE, PAGE), mmap(SOURCE, SLOT), touch(SOURCE, 2 * PAGE))


def programs(seed: int) -> Programs:
    """CPU 0 moves a page beside the only one of a table, CPU 1 brings that one and releases it."""
    again = [touch(SOURCE, 2 * PAGE), uffd_move(SOURCE, PAGE, BASE + PAGE), dontneed(BASE + PAGE, PAGE)]
    return [[*SETUP, *again, jump(len(SETUP))], [touch(BASE, PAGE), dontneed(BASE, PAGE), jump(0)]]


RACE = Race(
    detectors=("pmd-changed-under-pin", "table-use-after-free", "count-from-zero", "count-underflow"),
    programs=programs,
    scene=Scene(
        setup=(*SETUP, touch(BASE, PAGE), STOP),
        programs=((uffd_move(SOURCE, PAGE, BASE + PAGE), STOP), (dontneed(BASE, PAGE), STOP)),
    ),
    steer=(("uffd.mapped", "free_pte_table.unhooked"),),
    settings={"rcu_walk": 1},
    why="UFFD_MOVE without a reference on the destination's table",
)
