"""The scan that a process makes now and then finds every empty table of its own, whatever emptied it."""

import pytest
from support import BASE, ONLINE, SLOT, at_rest, geometry_for

from workers.instruments import Instruments
from workers.programs.program import (
    MARK,
    STOP,
    compute,
    dontneed,
    jump,
    mmap,
    mmap_file,
    munmap,
    punch_hole,
    read,
    touch,
)

PAGE = 4096
WAIT = (compute(60_000), MARK, compute(60_000), MARK)  # more than one period, with returns to user mode


def freed(program, policy="async-scan", instruments=ONLINE):
    """Tables that are gone when a program of one CPU has ended."""
    programs = [[MARK, *program, *WAIT, STOP]]
    with at_rest(programs, geometry_for(programs), policy, instruments) as views:
        return int(views["cpu"]["tables_freed"].sum())


PIECES = [mmap(BASE, SLOT), touch(BASE, SLOT), *(dontneed(BASE + at, SLOT // 4) for at in range(0, SLOT, SLOT // 4))]
HOLE = [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), punch_hole(0, 0, 16)]


@pytest.mark.parametrize("program", [PIECES, HOLE], ids=["in pieces", "by a hole in a file"])
def test_a_table_that_was_emptied_goes_within_a_period(program):
    assert freed(program) == 1
    assert freed(program, "none-rcu") == 0


def test_a_page_that_stays_keeps_its_table_and_a_slot_of_two_vmas_is_left_alone():
    assert freed([mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE)]) == 0
    assert freed([mmap(BASE, SLOT // 2), mmap(BASE + SLOT // 2, PAGE), touch(BASE, PAGE), dontneed(BASE, PAGE)]) == 0


def test_a_process_that_never_returns_to_user_mode_is_never_scanned():
    programs = [[*PIECES, STOP]]
    with at_rest(programs, geometry_for(programs), "async-scan") as views:
        assert int(views["cpu"]["tables_freed"].sum()) == 0


def test_scans_beside_faults_and_unmaps_of_other_cpus_break_nothing():
    walk = [mmap(BASE, 2 * SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT // 2), dontneed(BASE + SLOT // 2, SLOT // 2)]
    programs = [
        [*walk, munmap(BASE, SLOT), jump(0, 60), STOP],
        [touch(BASE + SLOT, PAGE), compute(50), jump(0, 60), STOP],
    ]
    with at_rest(programs, geometry_for(programs), "async-scan", Instruments(online=True, perturb=7)) as views:
        assert int(views["cpu"]["faults"].sum()) > 0
