"""D3: fault-around finds no table to map into, and leaves through the exit that puts a reference.

CPU 0, read fault                      CPU 1
=================                      =====
the pmd is none, takes a table
                                       installs a table, and zaps it: count 0, dying
the pmd is not none: pte_try_get
  fails
goto put: pte_put() without a pin:
  the count falls below zero, or
  the pmd is none by now
"""

from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap, mmap_file, read, touch
from workers.programs.scene import Scene

SCENE = Scene(
    setup=(mmap_file(BASE, PAGE, 0), read(BASE, PAGE), dontneed(BASE, PAGE), mmap(BASE + PAGE, PAGE), STOP),
    programs=((read(BASE, PAGE), STOP), (touch(BASE + PAGE, PAGE), dontneed(BASE + PAGE, PAGE), STOP)),
)


def programs(seed: int) -> Programs:
    """CPU 0 reads a page of a file, CPU 1 makes and releases the table that it lies in."""
    reader = [mmap_file(BASE, PAGE, 0), read(BASE, PAGE), barrier(), dontneed(BASE, PAGE), read(BASE, PAGE), jump(3)]
    other = [mmap(BASE + PAGE, PAGE), barrier(), touch(BASE + PAGE, PAGE), dontneed(BASE + PAGE, PAGE), jump(2)]
    return [reader, other]


RACE = Race(
    detectors=("pmd-changed-under-pin", "count-underflow", "table-use-after-free"),
    programs=programs,
    scene=SCENE,
    steer=(("map_pages.unpinned", "free_pte_table.zero", 100), ("free_pte_table.zero", "map_pages.unpinned", 100)),
)
