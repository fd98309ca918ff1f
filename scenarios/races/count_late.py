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

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap_file, read
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 reads a page of a file, and others come with it; CPU 1 releases them, at once, for ever."""
    pages = 2 + seed % 3
    around = [
        mmap_file(BASE, pages * PAGE, 0),
        read(BASE, pages * PAGE),
        barrier(),
        read(BASE, PAGE),
        barrier(),
        jump(2),
    ]
    release = [barrier(), dontneed(BASE, SLOT), barrier(), dontneed(BASE, SLOT), jump(0)]
    return [around, release]


RACE = Race(
    detectors=("pmd-changed-under-pin", "count-underflow", "count-from-zero", "table-use-after-free"),
    programs=programs,
    scene=Scene(
        setup=(mmap_file(BASE, 2 * PAGE, 0), read(BASE, 2 * PAGE), dontneed(BASE, 2 * PAGE), STOP),
        programs=((read(BASE, PAGE), STOP), (dontneed(BASE, 2 * PAGE), STOP)),
    ),
    steer=(("map_pages.counted", "pte_put.dropped"), ("pte_try_get.pinned", "map_pages.counted", 50)),
)
