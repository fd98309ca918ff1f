"""The flush of a freed table forgets the translations and leaves the paging-structure cache.

CPU 0                                  CPU 1
=====                                  =====
                                       has the table in its paging-structure cache
MADV_DONTNEED clears, unhooks
flushes, freed_tables = 0              forgets the page, keeps the table
grace period, free
                                       walks the freed table
"""

from scenarios.races.advanced_address import programs
from scenarios.zoo.race import BASE, PAGE, SLOT, Race
from workers.programs.program import MARK, STOP, dontneed, mmap, touch
from workers.programs.scene import Scene

RACE = Race(
    detectors=("psc-hit-freed-table",),
    programs=programs,
    scene=Scene(  # CPU 0 alone: it does not flush its own paging-structure cache either
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), STOP),
        programs=((dontneed(BASE, PAGE), MARK, MARK, touch(BASE + PAGE, PAGE), STOP),),
    ),
    tick_us=50,
)
