"""free_ptes takes mmap_lock for writing and frees a table at once: a walk by the reverse map holds another lock.

CPU 0, migration                       CPU 1, MADV_DONTNEED, free_ptes
================                       ===============================
anon_vma lock: which VMAs map the page?
reads the pmd: table T
                                       clears the last entry of T
                                       mmap_lock for writing; T has count 0
                                       clears the pmd, flushes, frees T
takes the ptl of T, which is free, or
  somebody else's
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import FREE_PTES, STOP, dontneed, jump, migrate, mmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 migrates a page, CPU 1 releases it and asks for its table."""
    return [
        [migrate(), jump(0)],
        [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), FREE_PTES, jump(1)],
    ]


RACE = Race(
    detectors=("table-use-after-free", "ptlock-dead", "freed-under-rcu-reader"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((migrate(BASE), STOP), (dontneed(BASE, PAGE), FREE_PTES, STOP)),
    ),
    policy="two-counter-safe",
    steer=(("pte_lock.read-pmd", "table.freed", 100, 0),),
    why="the policy that waits to be asked",
)
