"""A fault that waits for userfaultfd looks at the entry, and then notes what it will sleep on.

CPU 0, fault                           CPU 1, UFFD_COPY
============                           ================
the entry is none
                                       sets the entry
                                       counts uffd_seq up; nobody sleeps
notes uffd_seq: the new one
sleeps until it changes                for ever
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, load, mmap, uffd_copy, uffd_register
from workers.programs.scene import Scene

SETUP = (mmap(BASE, SLOT), uffd_register(BASE, SLOT))


def programs(seed: int) -> Programs:
    """CPU 0 misses a page, CPU 1 fills it."""
    waiter = [*SETUP, barrier(), load(BASE), barrier(), dontneed(BASE, PAGE), jump(len(SETUP))]
    return [waiter, [barrier(), uffd_copy(BASE, PAGE, 7), barrier(), jump(0)]]


RACE = Race(
    detectors=("no-progress", "deadlock"),
    programs=programs,
    scene=Scene(setup=(*SETUP, STOP), programs=((load(BASE), STOP), (uffd_copy(BASE, PAGE, 7), STOP))),
    steer=(("uffd.looked", "uffd.woken", 1000),),
    patience=1.0,
)
