"""D7: fault-around preallocates a table only if the pmd is none, and installs what it has if the pmd is none later.

CPU 0, read fault                      CPU 1
=================                      =====
the pmd is none: pins nothing
                                       installs a table
do_fault_around: the pmd is not
  none, allocates nothing
                                       zaps it: the table goes, the pmd is none
filemap_map_pmd: the pmd is none,
  installs its table: there is none
"""

from scenarios.races.put_without_get import SCENE, programs
from scenarios.zoo.race import Race

RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=SCENE,
    steer=(
        ("fault.pmd-none", "pte_try_get.pinned", 100),
        ("map_pages.unpinned", "free_pte_table.unhooked", 100),
        ("pte_put.dropped", "map_pages.unpinned", 50),
    ),
    schedule="0@pte_prealloc/entry.1=1,1@tlb_gather_mmu/mm.tlb_flush_pending.1=0,0@filemap_map_pmd/entry.1=1",
)
