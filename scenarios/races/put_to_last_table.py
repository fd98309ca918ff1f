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

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, Insn, free, jump, mmap, swapout, touch
from workers.programs.scene import Scene

AT = BASE + SLOT - PAGE  # the last page of one table, then the next table's first


def released(start: int, pages: int) -> list[Insn]:
    """Fill pages from above, for so frames are handed out: they lie side by side. Then say that nobody needs them."""
    filled = [touch(start + page * PAGE, PAGE) for page in reversed(range(pages))]
    return [*filled, free(start, pages * PAGE)]


def programs(seed: int) -> Programs:
    """CPU 0 fills, releases and reclaims pages of two tables; CPU 1 stores in the second."""
    start, other = AT - 3 * PAGE, AT + 8 * PAGE
    return [
        [mmap(BASE, 2 * SLOT), *released(start, 8), swapout(2), jump(1)],
        [mmap(BASE, 2 * SLOT), touch(other, PAGE), free(other, PAGE), jump(1)],
    ]


RACE = Race(
    detectors=("count-underflow", "freed-table-not-empty", "pmd-changed-under-pin"),
    programs=programs,
    scene=Scene(setup=(mmap(AT, 2 * PAGE), *released(AT, 2), STOP), programs=((swapout(2), STOP),)),
)
