"""Where a table's count is a word on each CPU, MADV_DONTNEED waits to know it, and a visitor that meets zero frees."""

import pytest
from emptying import PIECES
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.pgtable_types import TABLE_INSTALLED
from emulator.policy.percpu_ref import ATOMIC, PERCPU
from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    dontneed,
    free,
    jump,
    mincore,
    mmap,
    mmap_file,
    munmap,
    read,
    swapout,
    touch,
    truncate,
)

PAGE = 4096
HALF = [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT // 2)]
RECLAIMED = [mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE), free(BASE + PAGE, PAGE), swapout(8)]


def freed(program):
    """Tables that are gone behind a program of one CPU."""
    return alone([*program, STOP], "percpu-ref", files=1, file_pages=64)[2]


def test_a_call_in_pieces_frees_the_table_with_the_last_piece():
    assert freed([mmap(BASE, SLOT), touch(BASE, SLOT), *PIECES]) == 1


def test_truncate_tries_to_free_as_well():
    assert freed([mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), truncate(0, 0)]) == 1


def test_a_table_with_an_entry_stays():
    assert freed([mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE)]) == 0


@pytest.mark.parametrize("emptied", [HALF, RECLAIMED], ids=["munmap", "reclaim"])
def test_to_reach_zero_frees_nothing(emptied):
    assert freed(emptied) == 0


def test_whoever_comes_to_a_count_of_zero_in_one_word_frees_the_table():
    assert freed([*RECLAIMED, mincore(BASE, SLOT)]) == 1
    assert freed([*HALF, mincore(BASE + SLOT // 2, PAGE)]) == 0  # on each CPU: no visitor can know


@pytest.mark.parametrize(("switch_back", "modes"), [(0, [ATOMIC]), (1, [PERCPU])])
def test_a_table_that_was_tried_keeps_one_word_unless_it_is_switched_back(switch_back, modes):
    program = [mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE), STOP]
    instruments = Instruments(online=True, settings={"switch_back": switch_back})
    with at_rest([program], geometry_for([program]), "percpu-ref", instruments) as views:
        tables = (views["ptdesc"]["state"] == TABLE_INSTALLED) & (views["ptdesc"]["level"] == 1)
        assert views["ptnote"]["policy_word"][tables].tolist() == modes


@pytest.mark.parametrize("switch_back", [0, 1])
def test_counts_of_three_cpus_are_exact_when_they_have_stopped(switch_back):
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, SLOT // 8), *PIECES[:4], munmap(BASE, SLOT), jump(0, 20), STOP],
        [touch(BASE + SLOT - PAGE, 2 * PAGE), dontneed(BASE + SLOT - PAGE, 2 * PAGE), jump(0, 20), STOP],
        [mincore(BASE, 2 * SLOT), read(BASE, PAGE), jump(0, 20), STOP],
    ]
    instruments = Instruments(online=True, perturb=7, settings={"switch_back": switch_back})
    with at_rest(programs, geometry_for(programs), "percpu-ref", instruments) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
