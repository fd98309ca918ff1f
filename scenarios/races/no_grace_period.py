"""A table is freed right after the flush: a lockless reader still has its number.

CPU 0, fault                           CPU 1, MADV_DONTNEED
============                           ====================
rcu_read_lock(), reads the pmd
                                       last put: count 0, clears the pmd
takes the IPI and acknowledges         flushes
                                       frees the table at once
inc-not-zero on memory that is free
"""

from scenarios.races.unhook_unlocked import programs
from scenarios.zoo.bodies import ONE_ENTRY, at_once, walk, zap
from scenarios.zoo.race import Race

RACE = Race(
    detectors=("count-saturated", "freed-under-rcu-reader", "table-use-after-free"),
    programs=programs,
    scene=at_once(ONE_ENTRY, walk, zap, coordinator=True),
    steer=(("pte_try_get.read-pmd", "table.freed"),),
)
