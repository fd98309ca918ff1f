"""Migration flushes after it has dropped the ptl under which it set the migration entry.

CPU 0, migrate                         CPU 1
==============                         =====
                                       stores: its TLB has the translation
ptl: clears the PTE, sets the
  migration entry; drops ptl
                                       MADV_DONTNEED: clears the migration entry, which no
                                         TLB can hold: nothing to flush, returns
                                       loads through its TLB: what it has just given back
flushes, too late
"""

from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import STOP, dontneed, jump, migrate, mmap, read, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 migrates a page that CPU 1 stores to, releases and reads; another page keeps the table."""
    return [
        [mmap(BASE, 2 * PAGE), touch(BASE + PAGE, PAGE), migrate(BASE), jump(2)],
        [touch(BASE, PAGE), dontneed(BASE, PAGE), read(BASE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("stale-after-dontneed",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, 2 * PAGE), touch(BASE + PAGE, PAGE), STOP),
        programs=((migrate(BASE), STOP), (touch(BASE, PAGE), dontneed(BASE, PAGE), read(BASE, PAGE), STOP)),
    ),
    steer=(("pte_try_get.pinned", "migrate.unflushed", 100, 1), ("migrate.unflushed", "access.translated", 100)),
)
