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

from typing import Any

from emulator.atomic import smp_store_release
from emulator.fault.memory import handle_mm_fault
from emulator.program.mmu import load as load_word
from emulator.rmap_walks.anon_reclaim import shrink_anon
from scenarios.zoo.bodies import at_once
from scenarios.zoo.race import BASE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, fork, jump, load, mmap, store, swapout


def programs(seed: int) -> Programs:
    """CPU 0 stores to a page that a child has, too; CPU 1 runs the child, and reclaims."""
    child = (swapout(8), barrier(), barrier(), load(BASE))
    return [
        [mmap(BASE, SLOT), store(BASE, 7 + seed), barrier(), barrier(), store(BASE, 8 + seed), barrier(), jump(1)],
        [barrier(), fork(len(child)), *child, jump(0)],
    ]


def write(m: Any, cpu: int) -> None:
    """A write fault in the parent, on a CPU that has nothing of it cached."""
    smp_store_release(m.cpu.mm, cpu, -1)
    handle_mm_fault(m, cpu, 0, BASE, 1)


def reclaim_then_load(m: Any, cpu: int) -> None:
    """Reclaim of the page, then the child loads from it."""
    smp_store_release(m.cpu.mm, cpu, 1)
    shrink_anon(m, cpu, 1)
    load_word(m, cpu, 1, BASE)


RACE = Race(
    detectors=("foreign-contents",),
    programs=programs,
    scene=at_once((mmap(BASE, SLOT), store(BASE, 7), fork(0, hold=True), STOP), write, reclaim_then_load, swap_pages=4),
)
