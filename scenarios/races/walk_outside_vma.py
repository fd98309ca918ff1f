"""A walker under mmap_lock for reading looks at an address without asking whether a VMA is there still.

CPU 0, migrate: look up the page       CPU 1, munmap
================================       =============
                                       takes the VMA away, mmap_lock for writing
                                       downgrades to reading
mmap_lock for reading
pins the table: count + 1
                                       zap: its put is not the last
                                       free_pgtables: nobody else may be here, but the
                                         table is
"""

from scenarios.race import BASE, PAGE, Programs, Race, Scene
from workers.program import STOP, jump, migrate, mmap, munmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 migrates a page that CPU 1 maps and unmaps."""
    return [[migrate(BASE), jump(0)], [mmap(BASE, PAGE), touch(BASE, PAGE), munmap(BASE, PAGE), jump(0)]]


RACE = Race(
    detectors=("table-left-at-teardown", "table-use-after-free", "pmd-changed-under-pin"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), touch(BASE, PAGE), STOP),
        programs=((migrate(BASE), STOP), (munmap(BASE, PAGE), STOP)),
    ),
    steer=(("pte_try_get.pinned", "munmap.zapped", 100, 0),),
    source="H11; a8b92b8c1eac, dd2283f2605e",
)
