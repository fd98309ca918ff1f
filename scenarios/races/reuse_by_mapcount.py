"""A write fault asks how many PTEs map the page, not how many use it: a child has it still, by a swap entry.

CPU 0, write fault in mm A              CPU 1, reclaim                    mm B, a child
==========================              ==============                    =============
                                        the PTE of mm B becomes a swap
                                        entry: one mapping less, one
                                        more user of the slot
maps: 1. Nobody else has it:
stores to the page, COW not broken
                                                                          loads: the page is in the
                                                                          swap cache, with the store
"""

from scenarios.race import BASE, SLOT, Programs, Race, Scene
from workers.program import STOP, barrier, fork, jump, load, mmap, store, swapout


def programs(seed: int) -> Programs:
    """CPU 0 stores to a page that a child has, too; CPU 1 runs the child, and reclaims."""
    child = (swapout(8), barrier(), barrier(), load(BASE))
    return [
        [mmap(BASE, SLOT), store(BASE, 7 + seed), barrier(), barrier(), store(BASE, 8 + seed), barrier(), jump(1)],
        [barrier(), fork(len(child)), *child, jump(0)],
    ]


RACE = Race(
    detectors=("foreign-contents",),
    programs=programs,
    scene=Scene(
        setup=(mmap(BASE, SLOT), store(BASE, 7), STOP),
        programs=((swapout(1), store(BASE, 8), STOP), (fork(1), load(BASE), STOP)),
        swap_pages=4,
    ),
    source="H25's class: c444eb564fb1, CVE-2020-29368; 09854ba94c6a",
)
