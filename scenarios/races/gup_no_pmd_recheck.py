"""Fast GUP looks at the entry again after it has counted the frame, not at the pmd: collapse has copied the page.

CPU 0, fast GUP, interrupts off        CPU 1, collapse
===============================        ===============
reads the pmd: table T
reads the entry: frame F
                                       clears the pmd, flushes
                                       (the flush needs no interrupt)
                                       is F pinned? no
counts F
the entry in T: unchanged
                                       copies F into the huge page
the device stores to F, which nobody
  maps any more
"""

from emulator.uapi import MADV_COLLAPSE
from scenarios.zoo.bodies import BLOCK, at_once, collapse, use
from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import advise, barrier, dontneed, gup, jump, mmap, touch

COLLAPSE = advise(MADV_COLLAPSE, BASE, SLOT)


def programs(seed: int) -> Programs:
    """CPU 0 is the device, CPU 1 collapses one page into a huge page."""
    return [
        [barrier(), *[gup(BASE, PAGE, 7 + seed)] * 8, barrier(), jump(0)],
        [mmap(BASE, SLOT), touch(BASE, PAGE), barrier(), COLLAPSE, barrier(), dontneed(BASE, SLOT), jump(1)],
    ]


RACE = Race(
    detectors=("pin-not-mapped",),
    programs=programs,
    scene=at_once(BLOCK, use, collapse, frames=1024),
    settings={"broadcast_flush": 2},
    steer=(("gup.read-pte", "collapse.isolated", 300), ("collapse.isolated", "gup.pinned", 100)),
    why="a flush by IPI waits for fast GUP: then collapse sees the pin",
)
