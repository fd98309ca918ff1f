"""pte_try_get looks at the count, then adds: zero is no longer absorbing.

CPU 0, fault                           CPU 1, MADV_DONTNEED
============                           ====================
pte_try_get: the count is 1
                                       last put: the count is 0
adds 1: a dying table is pinned
                                       clears the pmd, frees the table
sets an entry in it
"""

from scenarios.races.unhook_unlocked import programs
from scenarios.zoo.bodies import ONE_ENTRY, at_once, walk, zap
from scenarios.zoo.race import Race

RACE = Race(
    detectors=("count-from-zero", "count-saturated"),
    programs=programs,
    scene=at_once(ONE_ENTRY, walk, zap),
    steer=(("pte_try_get.checked", "free_pte_table.zero"),),
)
