"""Slow GUP meets a migration entry, puts the table, and then looks into it for the page to wait for, as v1 does.

CPU 0, follow_page_pte                 CPU 1
======================                 =====
                                       migration: the PTE is a migration entry
pins the table, sees the entry
pte_put(): the entry keeps the table
                                       the page has moved, the PTE is present again
                                       MADV_DONTNEED: the last entry goes, and the table
migration_entry_wait(mm, pmd, addr):
  reads the pmd: none, or another's
  takes the ptl of that
"""

from emulator.uapi import MADV_POPULATE_READ
from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import STOP, advise, dontneed, jump, migrate, mmap, touch
from workers.programs.scene import Scene

POPULATE = advise(MADV_POPULATE_READ, BASE, PAGE)


def programs(seed: int) -> Programs:
    """CPU 0 populates a page that CPU 1 migrates and releases."""
    return [
        [mmap(BASE, PAGE), POPULATE, jump(1)],
        [touch(BASE, PAGE), migrate(BASE), dontneed(BASE, PAGE), jump(0)],
    ]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), touch(BASE, PAGE), STOP),
        programs=((POPULATE, STOP), (migrate(BASE), dontneed(BASE, PAGE), STOP)),
    ),
    steer=(("migrate.unmapped", "gup.unpinned", 100), ("gup.unpinned", "free_pte_table.unhooked", 100)),
)
