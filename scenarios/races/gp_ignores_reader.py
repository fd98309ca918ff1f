"""A grace period ends although one reader is still in its section.

CPU 0, MADV_DONTNEED                   CPU 1, fault                        coordinator
====================                   ============                        ===========
                                       rcu_read_lock(), reads the pmd
clears the pmd
flush, call_rcu
                                                                           waits for CPU 0, not for CPU 1
                                                                           frees the table
                                       inc-not-zero on memory that is free
"""

from scenarios.races.unhook_unlocked import programs
from scenarios.zoo.bodies import ONE_ENTRY, at_once, walk, zap
from scenarios.zoo.race import Race

RACE = Race(
    detectors=("count-saturated", "freed-under-rcu-reader", "table-use-after-free"),
    programs=programs,
    scene=at_once(ONE_ENTRY, zap, walk, coordinator=True),
    tick_us=50,
    steer=(("pte_try_get.read-pmd", "table.freed", 500),),
)
