"""A table joins the cache of its process before it is flushed: another thread fills it while it is walked.

CPU 0, MADV_DONTNEED                   CPU 1
====================                   =====
                                       has T in its paging-structure cache, for slot A
clears the last entry of T, the pmd
T goes to the cache of the process
                                       fault in slot B: takes T from the cache
                                       stores to A: walks T, finds what is mapped at B
flushes
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 empties a slot again and again, CPU 1 fills the next one between two pages of it."""
    return [
        [mmap(BASE, 2 * SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), jump(1)],
        [touch(BASE, PAGE), touch(BASE + SLOT, PAGE), touch(BASE + PAGE, PAGE), dontneed(BASE + SLOT, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("psc-hit-freed-table", "walk-freed-table"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, 2 * SLOT), touch(BASE, PAGE), STOP),
        programs=(
            (dontneed(BASE, PAGE), STOP),
            (touch(BASE, PAGE), touch(BASE + SLOT, PAGE), touch(BASE + PAGE, PAGE), STOP),
        ),
    ),
    policy="htable",
    steer=(("htable.kept", "pmd_install.locked", 100, 0),),
    why="the cache of a process",
)
