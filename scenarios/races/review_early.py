"""A review comes an epoch early: a CPU holds back the reference of an entry, and its table is freed under it.

CPU 0, MADV_DONTNEED            CPU 1, page fault               the coordinator
====================            =================               ===============
                                sees epoch 1, adds up
T: -1, for its last entry
                                comes to T, which is not
                                  dying; T: +1, for its entry
sees epoch 1, adds up
  count of T: 0, dying
                                                                all have seen 1: epoch 2
                                                                T is still at 0, and dying
                                                                takes T out: there is an entry in it
                                would add up in epoch 2
"""

from emulator.uapi import MADV_POPULATE_WRITE
from scenarios.zoo.bodies import ONE_ENTRY, at_once, rest_then_fault, zap
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import advise, compute, dontneed, jump, mmap, touch

NEXT = BASE + PAGE


def programs(seed: int) -> Programs:
    """CPU 0 fills and empties a table, CPU 1 fills the rest of it and more in one call: it adds up behind that."""
    return [
        [mmap(BASE, 3 * SLOT), touch(BASE, PAGE), compute(200), dontneed(BASE, PAGE), compute(200), jump(1)],
        [advise(MADV_POPULATE_WRITE, NEXT, 2 * SLOT), dontneed(NEXT, 2 * SLOT), compute(100), jump(0)],
    ]


RACE = Race(
    detectors=("freed-table-not-empty", "table-use-after-free", "pmd-changed-under-pin"),
    programs=programs,
    scene=at_once(ONE_ENTRY, zap, rest_then_fault, coordinator=True),
    policy="refcache",
    tick_us=50,
    why="its epochs",
    schedule=(
        "0@see_zero/ptnote.policy_word.2=c,0@see_zero/ptnote.policy_word.2=1,"
        "1@settle/ptdesc.pte_refcount.1=0,1@settle/ptdesc.pte_refcount.1=c"
    ),
)
