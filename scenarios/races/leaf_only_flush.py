"""The flush of a freed table forgets the translations and leaves the paging-structure cache.

CPU 0                                  CPU 1
=====                                  =====
                                       has the table in its paging-structure cache
MADV_DONTNEED clears, unhooks
flushes, freed_tables = 0              forgets the page, keeps the table
grace period, free
                                       walks the freed table
"""

from scenarios.race import Race
from scenarios.races.advanced_address import programs

RACE = Race(
    detectors=("psc-hit-freed-table",),
    programs=programs,
    tick_us=50,
    source="patch 7: tlb->freed_tables; flush_tlb_range says freed_tables=false (016c4d92cd16, D8)",
)
