"""Reclaim takes an entry that becomes a swap entry out of its table's count, as if it had become none.

CPU 0, reclaim                         CPU 1
==============                         =====
pins the table: entries + 1
the PTE becomes a swap entry
puts twice: its pin, and the entry
                                       a fault pins the table, if it is there still: maps
                                         the page again; its put is the last, or was
the table goes with an entry in it
"""

from emulator.uapi import MADV_PAGEOUT
from scenarios.zoo.race import BASE, PAGE, Programs, Race
from workers.programs.program import STOP, advise, jump, mmap, read, swapout, touch
from workers.programs.scene import Scene


def programs(seed: int) -> Programs:
    """CPU 0 swaps pages out, CPU 1 stores to them."""
    return [[mmap(BASE, 2 * PAGE), swapout(2), jump(1)], [touch(BASE, 2 * PAGE), read(BASE, 2 * PAGE), jump(0)]]


RACE = Race(
    detectors=("freed-table-not-empty", "count-underflow", "pmd-changed-under-pin"),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, PAGE), touch(BASE, PAGE), STOP),
        programs=((advise(MADV_PAGEOUT, BASE, PAGE), STOP), (read(BASE, PAGE), STOP)),
        swap_pages=1,
    ),
)
