"""Where visitors and entries are counted apart, the last one out takes an empty table along, and its process keeps it.

Covers: emulator/pages/table_cache
"""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.checks import Frozen
from workers.instruments import Instruments
from workers.programs.program import (
    EXIT,
    MARK,
    STOP,
    dontneed,
    free,
    jump,
    mincore,
    mmap,
    mmap_file,
    mremap_fixed,
    munmap,
    punch_hole,
    read,
    swapout,
    touch,
)

PAGE = 4096
PIECES = [dontneed(BASE + at, SLOT // 32) for at in range(0, SLOT, SLOT // 32)]
EMPTIED = [mmap(BASE, 3 * SLOT), touch(BASE + SLOT, PAGE), touch(BASE, PAGE), dontneed(BASE, PAGE)]
LAST = {
    "in pieces": [mmap(BASE, SLOT), touch(BASE, SLOT), *PIECES],
    "by munmap beside a neighbour": [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT // 2)],
    "by reclaim": [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), swapout(8)],
    "by mremap": [mmap(BASE, SLOT), touch(BASE, PAGE), mremap_fixed(BASE, PAGE, BASE + 4 * SLOT)],
    "by a hole in a file": [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), punch_hole(0, 0, 16)],
}


def kept_after(program, **sizes):
    """Tables that the first mm keeps, PTE tables that were there before, and VmPTE in kB, behind a program."""
    geometry = geometry_for([program])
    with at_rest([program], geometry, "htable", **sizes) as views:
        kept = Frozen(views, geometry).kept()
        return len(kept), int(views["cpu"]["tables_reused"][0]), int(views["mm"]["pgtables_bytes"][0]) // 1024


@pytest.mark.parametrize("program", LAST.values(), ids=LAST)
def test_the_last_one_out_takes_an_empty_table_along_whatever_emptied_it(program):
    assert alone([*program, MARK, STOP], "htable", files=1, file_pages=64)[2] == 1


def test_a_table_with_an_entry_stays():
    assert alone([*EMPTIED[:3], mincore(BASE, SLOT), STOP], "htable")[2:] == (0, 20)


def test_a_process_keeps_what_went_and_takes_it_for_another_address():
    assert kept_after([*EMPTIED, STOP]) == (1, 0, 12)
    assert kept_after([*EMPTIED, touch(BASE + 2 * SLOT, PAGE), STOP]) == (0, 1, 16)


def test_an_mm_that_exits_keeps_nothing():
    assert kept_after([*EMPTIED, EXIT])[0] == 0


def test_comers_and_leavers_of_three_cpus_leave_exact_counts():
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, SLOT // 8), *PIECES[:4], munmap(BASE, SLOT), jump(0, 40), STOP],
        [touch(BASE + SLOT - PAGE, 2 * PAGE), dontneed(BASE + SLOT - PAGE, 2 * PAGE), jump(0, 40), STOP],
        [mincore(BASE, 2 * SLOT), read(BASE, PAGE), jump(0, 40), STOP],
    ]
    with at_rest(programs, geometry_for(programs), "htable", Instruments(online=True, perturb=7)) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
