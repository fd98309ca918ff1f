"""The coordinator finds no work and goes to sleep; what arrives in between does not wake it.

CPU 0                                  coordinator
=====                                  ===========
                                       looks: no flush requested
requests a flush
counts rcu.wake up; nobody sleeps
                                       sleeps, without a second look
waits for the flush                    for ever
"""

from scenarios.race import BASE, PAGE, SLOT, Race


def programs(seed):
    """Both CPUs fault and release a slot of their own: each release needs a flush on the other CPU."""
    from workers.program import compute, dontneed, jump, mmap, touch

    return [
        [
            mmap(BASE + cpu * SLOT, SLOT),
            touch(BASE + cpu * SLOT, PAGE),
            dontneed(BASE + cpu * SLOT, SLOT),
            compute(5 + seed % 7),
            jump(1),
        ]
        for cpu in range(2)
    ]


RACE = Race(
    detectors=("no-progress",),
    programs=programs,
    policy="refcount-lock",
    patience=1.0,
    steer=(("coordinator.idle", "flush.requested"),),
    source="futex(2): the value must be read before the condition is looked at; swait in the RCU kthreads",
)
