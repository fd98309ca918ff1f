"""H2: a fault preallocates a table, must wait for its page, and begins again without giving the table back.

CPU 0                                  CPU 1
=====                                  =====
                                       locks the page
read fault, pmd none: takes table A
the page is locked: VM_FAULT_RETRY
                                       unlocks the page
second round: takes table B, and A is nobody's
"""

from scenarios.zoo.race import BASE, PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, dontneed, jump, mmap_file, read, touch, writeback
from workers.programs.scene import Scene

OTHER = BASE + 2 * SLOT


def programs(seed: int) -> Programs:
    """CPU 0 reads a page where there is no table, CPU 1 stores to it at another address and writes it back."""
    reader = [mmap_file(BASE, PAGE, 0), barrier(), read(BASE, PAGE), dontneed(BASE, PAGE), jump(2)]
    locker = [mmap_file(OTHER, PAGE, 0, shared=True), barrier(), touch(OTHER, PAGE), writeback(0), jump(2)]
    return [reader, locker]


RACE = Race(
    detectors=("table-leaked",),
    programs=programs,
    scene=Scene(
        setup=(mmap_file(BASE, PAGE, 0), mmap_file(OTHER, PAGE, 0, shared=True), touch(OTHER, PAGE), STOP),
        programs=((read(BASE, PAGE), STOP), (writeback(0), STOP)),
    ),
    steer=(("page.locked", "fault.retrying", 50),),
)
