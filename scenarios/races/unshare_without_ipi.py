"""An mm that gives a shared PMD table up does not wait for CPUs with interrupts off: the other mm maps its own memory
there.

CPU 0, fast GUP in mm A        CPU 1, munmap in mm A          CPU 2, mm B
=======================        =====================          ===========
reads the pud: table T,
which mm B has as well
                               clears the pud: T is B's alone
                               flushes
                               (the flush needs no interrupt)
                                                              unmaps 2 MiB of the file
                                                              maps other memory there, stores to it
reads the pmd in T,
pins a page of mm B
"""

from typing import Any

from emulator.fault.memory import handle_mm_fault
from emulator.pages.page_alloc import put_page
from emulator.syscalls.mmap import do_mmap, do_munmap
from emulator.uapi import VM_READ, VM_WRITE
from emulator.walks.gup_fast import get_user_page_fast_only
from scenarios.zoo.bodies import at_once
from scenarios.zoo.race import PAGE, SLOT, Programs, Race
from workers.programs.program import STOP, barrier, compute, fork, gup, jump, mmap, mmap_hugetlb, munmap, touch

GIB = 1 << 30
AT = 7 * GIB
HERE = AT + SLOT  # no page of the file is mapped there


def programs(seed: int) -> Programs:
    """CPU 0 is the device, CPU 1 maps the file and unmaps it, CPU 2 runs a child that shares the table."""
    parent = (mmap_hugetlb(AT, GIB), touch(AT, PAGE), barrier(), barrier(), compute(50), munmap(AT, GIB), barrier())
    child = (touch(AT, PAGE), barrier(), munmap(HERE, SLOT), mmap(HERE, SLOT), touch(HERE, PAGE))
    return [
        [barrier(), barrier(), gup(HERE, PAGE, 7 + seed), barrier(), jump(0)],
        [*parent, jump(0)],
        [barrier(), fork(len(child)), *child, barrier(), jump(0)],
    ]


def pin(m: Any, cpu: int) -> None:
    """Fast GUP in the parent."""
    frame = get_user_page_fast_only(m, cpu, 0, HERE, 1)
    if frame != 0:
        put_page(m, cpu, frame)


def give_up_then_reuse(m: Any, cpu: int) -> None:
    """munmap of the parent, then the child maps other memory under the table that is its own now."""
    do_munmap(m, cpu, 0, AT, GIB)
    do_munmap(m, cpu, 1, HERE, SLOT)
    do_mmap(m, cpu, 1, HERE, SLOT, VM_READ | VM_WRITE, 0, 0)
    handle_mm_fault(m, cpu, 1, HERE, 1)


RACE = Race(
    detectors=("foreign-pin",),
    programs=programs,
    scene=at_once(
        (mmap_hugetlb(AT, GIB), touch(AT, PAGE), fork(1, hold=True), touch(AT, PAGE), STOP),
        pin,
        give_up_then_reuse,
        frames=1024,
    ),
    settings={"broadcast_flush": 1},
    steer=(("munmap.detached", "hugetlb.unshared", 5000, 2), ("gup.read-pud", "set_pte.done", 5000)),
    why="a table is given up and flushed under i_mmap_lock: a flush by IPI would be the one that is left out",
)
