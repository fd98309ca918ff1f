"""D2: fault-around sets n entries under ptl, unlocks, and only then counts them: pte_get_many(n).

CPU 0, fault-around                    CPU 1, MADV_DONTNEED
===================                    ====================
pins: count 1
sets 2 entries, drops ptl
                                       pins: count 2
                                       clears 2 entries, pte_put_many(2): count 0
                                       frees the table under two visitors
pte_get_many(2): of what?              pte_put(): of what?
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race, Scene
from workers.program import STOP, barrier, dontneed, jump, map_pages, mmap, touch


def programs(seed: int) -> Programs:
    """CPU 0 faults pages around, CPU 1 releases them, at once, for ever."""
    around = [mmap(BASE, SLOT), barrier(), map_pages(BASE, 2 + seed % 3), barrier(), jump(1)]
    release = [mmap(BASE, SLOT), barrier(), dontneed(BASE, SLOT), barrier(), dontneed(BASE, SLOT), jump(1)]
    return [around, release]


RACE = Race(
    detectors=("pmd-changed-under-pin", "count-underflow", "count-from-zero", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), STOP),
        programs=((map_pages(BASE, 2), STOP), (dontneed(BASE, 2 * PAGE), STOP)),
    ),
    steer=(("map_pages.counted", "pte_put.dropped"), ("pte_try_get.pinned", "map_pages.counted", 50)),
    source="v1 to v3 of the series: filemap_map_pages",
)
