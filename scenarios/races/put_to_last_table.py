"""D9: an rmap walk over the pages of what was a huge page puts for all of them in the table where it ends.

CPU 0, reclaim of two pages, in two tables     CPU 1
==========================================     =====
pins the first table, clears its entry
pins the second, clears its entry
puts three times: the second's pin, and for
  two entries, of which it had one
                                               faults in the second table: its entries are more than its count says;
the first table is never freed                   it goes with an entry in it, or the count falls below zero
"""

from scenarios.race import BASE, PAGE, SLOT, Programs, Race, Scene
from workers.program import STOP, free, jump, mmap, swapout, touch

AT = BASE + SLOT - PAGE  # the last page of one table, then the next table's first
RUN = (touch(AT + PAGE, PAGE), touch(AT, PAGE), free(AT, 2 * PAGE))  # frames are handed out from above: side by side


def programs(seed: int) -> Programs:
    """CPU 0 fills, releases and reclaims two pages, one in each of two tables; CPU 1 stores in the second."""
    return [
        [mmap(AT, 2 * SLOT), *RUN, swapout(2), jump(1)],
        [mmap(AT, 2 * SLOT), touch(AT + 2 * PAGE, PAGE), free(AT + 2 * PAGE, PAGE), jump(1)],
    ]


RACE = Race(
    detectors=("count-underflow", "freed-table-not-empty", "pmd-changed-under-pin"),
    programs=programs,
    scene=Scene(setup=(mmap(AT, 2 * PAGE), *RUN, STOP), programs=((swapout(2), STOP),)),
    source="v1 of the series: try_to_unmap_one, mm/rmap.c",
)
