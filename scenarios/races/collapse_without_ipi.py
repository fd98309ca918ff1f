"""Collapse does not wait for CPUs with interrupts off: the table it keeps under the huge page is freed with that.

CPU 0, fast GUP, interrupts off        CPU 1, collapse
===============================        ===============
reads the pmd: table T
                                       clears the pmd, flushes
                                       (the flush needs no interrupt)
                                       deposits T under the huge page
                                       MADV_DONTNEED: zaps it, frees T
                                       takes T for something else
reads an entry of T: whose is it?
"""

from emulator.uapi import MADV_COLLAPSE
from scenarios.zoo.bodies import BLOCK, at_once, collapse_then_zap, use
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import advise, dontneed, gup, jump, mmap, touch

COLLAPSE = advise(MADV_COLLAPSE, BASE, SLOT)


def programs(seed: int) -> Programs:
    """CPU 0 is the device, CPU 1 collapses a page and releases the huge page."""
    return [
        [gup(BASE, PAGE, 7 + seed), jump(0)],
        [mmap(BASE, SLOT), touch(BASE, PAGE), COLLAPSE, dontneed(BASE, SLOT), jump(1)],
    ]


RACE = Race(
    detectors=("table-use-after-free",),
    programs=programs,
    scene=at_once(BLOCK, use, collapse_then_zap, frames=1024),
    settings={"broadcast_flush": 1},
    steer=(("gup.read-pmd", "table.freed", 200),),
    why="a flush by IPI waits for CPUs with interrupts off: it would be the IPI that is left out",
)
