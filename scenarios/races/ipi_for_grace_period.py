"""An IPI to every CPU is taken as proof that no reader is left: a reader with interrupts enabled answers it.

CPU 0, fault                           CPU 1, MADV_DONTNEED
============                           ====================
rcu_read_lock(), reads the pmd
                                       clears the pmd, flushes
takes the IPI, acknowledges            tlb_remove_table_sync_one: IPI
                                       frees the table
inc-not-zero on memory that is free
"""

from scenarios.races.unhook_unlocked import programs
from scenarios.zoo.bodies import ONE_ENTRY
from scenarios.zoo.race import BASE, PAGE, Race
from workers.programs.program import STOP, dontneed, mincore
from workers.programs.scene import Scene

RACE = Race(
    detectors=("count-saturated", "freed-under-rcu-reader", "table-use-after-free"),
    programs=programs,
    scene=Scene(ONE_ENTRY, ((mincore(BASE, PAGE), STOP), (dontneed(BASE, PAGE), STOP))),
    steer=(("pte_try_get.read-pmd", "table.freed"),),
)
