"""The one word of a count has no bias while each CPU has a word: a CPU that looks too early takes it for zero.

CPU 0, MADV_DONTNEED of one page       CPU 1, mincore
================================       ==============
pins T, which has another entry
mode of T: one word, which is 0
waits for a grace period
                                       pte_try_get(): the one word is 0: T is dead
                                       clears the pmd of T, which has an entry
adds the words of the CPUs to it
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, dontneed, jump, mincore, mmap, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 releases one of two pages of a new table, CPU 1 looks at it."""
    return [
        [mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE), munmap(BASE, SLOT), jump(0)],
        [mincore(BASE, SLOT), jump(0)],
    ]


RACE = Race(
    detectors=("freed-table-not-empty",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, 2 * PAGE), STOP),
        programs=((dontneed(BASE, PAGE), STOP), (mincore(BASE, PAGE), STOP)),
    ),
    policy="percpu-ref",
    steer=(("percpu_ref.switching", "percpu_ref.cleared", 100, 0),),
    why="counts that are switched",
)
