"""A zap takes along what it has emptied, PMD tables too, and nothing that holds an entry."""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from workers.instruments import Instruments
from workers.programs.program import MARK, STOP, dontneed, jump, mmap, munmap, touch

PAGE, GIB = 4096, 1 << 30
PIECES = [dontneed(BASE + at, SLOT // 4) for at in range(0, SLOT, SLOT // 4)]
BEHIND = BASE + SLOT  # the next GiB


def vmpte(program, policy="scan-eager"):
    """VmPTE in kB when a program of one CPU has returned to user mode."""
    return alone([*program, MARK, STOP], policy)[3]


TOUCHED = [mmap(BASE, 2 * SLOT), touch(BASE, SLOT)]


def test_a_slot_that_is_emptied_at_once_or_in_pieces_leaves_no_table_at_any_level():
    assert vmpte(TOUCHED) == 12
    assert vmpte([*TOUCHED, dontneed(BASE, SLOT)]) == 0
    assert vmpte([*TOUCHED, *PIECES]) == 0
    assert vmpte([*TOUCHED, *PIECES], "pt-reclaim-any") == 8


def test_a_survivor_keeps_the_tables_above_it():
    assert vmpte([*TOUCHED, dontneed(BASE, SLOT - PAGE)]) == 12
    assert vmpte([*TOUCHED, touch(BEHIND, PAGE), dontneed(BASE, SLOT)]) == 12


def test_an_empty_table_of_a_gib_goes_while_the_next_one_stays():
    far = BEHIND + GIB
    program = [*TOUCHED, mmap(far, SLOT), touch(far, PAGE), dontneed(BASE, SLOT)]
    assert vmpte(program) == 12


@pytest.mark.parametrize("policy", ["scan-eager", "pmap-mutex"])
@pytest.mark.parametrize("vma_locks", [0, 1])
def test_upper_tables_come_and_go_under_faults_of_other_cpus(policy, vma_locks):
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, 2 * SLOT), munmap(BASE, SLOT), jump(0, 50), STOP],
        [touch(BEHIND, PAGE), dontneed(BEHIND, SLOT), jump(0, 50), STOP],
    ]
    instruments = Instruments(online=True, perturb=7, settings={"vma_locks": vma_locks})
    with at_rest(programs, geometry_for(programs), policy, instruments) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
