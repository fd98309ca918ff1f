"""Where visitors and entries are counted apart, the last one out takes an empty table along, and its process keeps it.

Covers: emulator/pages/table_cache
"""

import pytest
from emptying import LAST, PAGE, THREE_CPUS
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.checks import Frozen
from workers.instruments import Instruments
from workers.programs.program import (
    EXIT,
    MARK,
    STOP,
    dontneed,
    mincore,
    mmap,
    touch,
)

EMPTIED = [mmap(BASE, 3 * SLOT), touch(BASE + SLOT, PAGE), touch(BASE, PAGE), dontneed(BASE, PAGE)]


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
    with at_rest(THREE_CPUS, geometry_for(THREE_CPUS), "htable", Instruments(online=True, perturb=7)) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
