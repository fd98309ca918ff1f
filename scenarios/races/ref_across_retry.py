"""Patch 4 left out: a fault that waits for a page drops mmap_lock and keeps its reference on the table.

CPU 0, fault                           CPU 1                              CPU 2
============                           =====                              =====
                                                                          locks the page
pins the table: count + 1
the page is locked: drops mmap_lock
                                       munmap: the zap's put is not the
                                       last, the table is still there
  or: mmap again, another table
pte_put(): reads the pmd again. Whose table is that?

A fault that waits for userfaultfd is the second place (handle_userfault, patch 5): hunts with an odd seed are there.
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import (
    STOP,
    barrier,
    jump,
    mmap,
    mmap_file,
    munmap,
    read,
    touch,
    uffd_copy,
    uffd_register,
    writeback,
)
from workers.programs.scene import Scene

OTHER = BASE + 4 * SLOT


def userfaults(seed: int) -> Programs:
    """CPU 0 misses a page beside one that is there, CPU 1 unmaps both, CPU 2 fills the page if it comes in time."""
    setup = [munmap(BASE, SLOT), mmap(BASE, 2 * PAGE), uffd_register(BASE + PAGE, PAGE, 200)]
    return [
        [barrier(), touch(BASE, PAGE), read(BASE + PAGE, PAGE), barrier(), jump(0)],
        [*setup, barrier(), munmap(BASE, SLOT), barrier(), jump(0)],
        [barrier(), *[uffd_copy(BASE + PAGE, PAGE, 7)] * 4, barrier(), jump(0)],
    ]


def programs(seed: int) -> Programs:
    """CPU 0 reads a page beside one that is there, CPU 1 unmaps both, CPU 2 writes the page back."""
    if seed % 2:
        return userfaults(seed)
    reader = [barrier(), touch(BASE, PAGE), read(BASE + PAGE, PAGE), barrier(), jump(0)]
    setup = [munmap(BASE, SLOT), mmap(BASE, PAGE), mmap_file(BASE + PAGE, PAGE, 0)]
    unmapper = [*setup, barrier(), munmap(BASE, SLOT), barrier(), jump(0)]
    again = [mmap_file(OTHER, PAGE, 0, shared=True), *[touch(OTHER, PAGE), writeback(0)] * 8]
    locker = [barrier(), *again, barrier(), jump(0)]
    return [reader, unmapper, locker]


RACE = Race(
    detectors=("table-left-at-teardown", "pmd-changed-under-pin", "count-underflow", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(
            mmap(BASE, PAGE),
            touch(BASE, PAGE),
            mmap_file(BASE + PAGE, PAGE, 0),
            mmap_file(OTHER, PAGE, 0, shared=True),
            touch(OTHER, PAGE),
            STOP,
        ),
        programs=((read(BASE + PAGE, PAGE), STOP), (writeback(0), munmap(BASE, 2 * PAGE), STOP)),
    ),
    steer=(
        ("page.locked", "fault.retrying", 50),
        ("fault.retrying", "munmap.zapped", 100),
        ("uffd.waiting", "munmap.zapped", 100),
    ),
)
