"""The coordinator finds no work and goes to sleep; what arrives in between does not wake it.

CPU 0                                  coordinator
=====                                  ===========
                                       looks: no flush requested
requests a flush
counts rcu.wake up; nobody sleeps
                                       sleeps, without a second look
waits for the flush                    for ever
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, compute, dontneed, jump, mmap, munmap, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 faults and releases a page, CPU 1 is busy elsewhere: each release needs a flush on CPU 1."""
    releaser = [mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, SLOT), compute(5 + seed % 7), jump(1)]
    return [releaser, [compute(20), jump(0)]]


RACE = Race(
    detectors=("no-progress", "deadlock"),
    programs=programs,
    scene=Scene(  # CPU 1 waits for mmap_lock, so it does not end and wake the coordinator
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE, PAGE), STOP), (munmap(BASE, PAGE), STOP)),
    ),
    policy="refcount-lock",
    patience=1.0,
    steer=(("coordinator.idle", "flush.requested"),),
    why="no callbacks, so the coordinator has nothing to do between flushes",
)
