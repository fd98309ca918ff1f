"""A walker reads the pmd twice: no huge page at the first look, no table at the second. So it is bad, and is cleared.

CPU 0, mincore                         CPU 1
==============                         =====
the pmd is a huge page? no, it is none
                                       page fault: a huge page
the pmd is none? no
it names no table: pmd_clear_bad()
                                       the huge page is gone, with its table
                                       munmap: the PMD table still keeps that
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, jump, mincore, mmap, munmap, read, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 looks at a huge page, CPU 1 faults it in and unmaps it."""
    return [
        [mincore(BASE, SLOT), jump(0)],
        [mmap(BASE, SLOT, huge=True), touch(BASE, PAGE), munmap(BASE, SLOT), jump(0)],
    ]


RACE = Race(
    detectors=("deposit-left", "lost-store"),
    programs=programs,
    scene=Scene(  # the huge zero page is one as well
        setup=(mmap(BASE - SLOT, 2 * SLOT, huge=True), read(BASE, PAGE), STOP),
        programs=((mincore(BASE - SLOT, SLOT), STOP), (read(BASE - SLOT, PAGE), munmap(BASE - SLOT, 2 * SLOT), STOP)),
    ),
    steer=(("mincore.read-pmd", "huge.installed", 200),),
)
