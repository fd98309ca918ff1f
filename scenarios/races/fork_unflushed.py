"""fork write-protects the parent's entries and does not flush: a CPU that may store still stores into the shared page.

CPU 0, same mm                         CPU 1, fork
==============                         ===========
stores to a page: writable in its TLB
                                       clears RW of the entry, shares the frame
                                       unlocks mmap_lock
stores through its TLB: the child sees
  the word                             the child runs
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import REAP, STOP, barrier, dontneed, fork, jump, mmap, read, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 1 forks; while the child lives, CPU 0 stores to a page it stored to before."""
    child = [fork(1, hold=True), read(BASE, PAGE)]
    storer = [barrier(), touch(BASE, PAGE), barrier(), barrier(), touch(BASE, PAGE), barrier(), jump(0)]
    parent = [mmap(BASE, SLOT), barrier(), barrier(), *child, barrier(), barrier(), REAP, jump(1)]
    return [storer, parent]


RACE = Race(
    detectors=("store-to-shared",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), touch(BASE, PAGE), STOP),
        programs=((touch(BASE, PAGE, value=2), dontneed(BASE, PAGE), STOP), (fork(hold=True), STOP)),
    ),
    policy="none",
    why="any would do: no table goes",
)
