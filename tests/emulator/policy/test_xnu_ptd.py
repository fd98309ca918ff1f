"""Two counts of a table, entries and visitors; a zap takes what has neither, and waits for rmap walks.

Covers: emulator/locking/rwlock
"""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    dontneed,
    free,
    jump,
    load,
    migrate,
    mincore,
    mmap,
    munmap,
    read,
    store,
    swapout,
    touch,
)

PAGE = 4096
TOUCHED = [mmap(BASE, SLOT), touch(BASE, SLOT)]
PIECES = [*TOUCHED, *(dontneed(BASE + at, SLOT // 8) for at in range(0, SLOT, SLOT // 8))]


def freed(program):
    """Tables that are gone when a program of one CPU has ended."""
    return alone([*program, STOP], "xnu-ptd")[2]


@pytest.mark.parametrize("zaps", [dontneed(BASE, SLOT), munmap(BASE, SLOT // 2), dontneed(BASE + SLOT // 2, PAGE)])
def test_a_zap_takes_a_table_that_it_leaves_empty_and_no_other(zaps):
    assert freed([mmap(BASE, SLOT), touch(BASE, PAGE), zaps]) == (zaps.addr == BASE)


def test_pieces_that_empty_a_table_together_free_it_and_what_comes_then_is_new():
    assert freed(PIECES) == 1
    assert alone([mmap(BASE, SLOT), store(BASE, 7), dontneed(BASE, SLOT), load(BASE), STOP], "xnu-ptd")[0] == 0


def test_what_reclaim_has_emptied_waits_for_the_next_zap_that_touches_it():
    program = [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), swapout(8)]
    assert freed(program) == 0
    assert freed([*program, dontneed(BASE + PAGE, PAGE)]) == 1


@pytest.mark.parametrize("settings", [{}, {"zap_batch": 3}, {"flush_ceiling": 1}])
def test_faults_looks_and_page_outs_of_other_cpus_find_no_dead_table(settings):
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, 32 * PAGE), dontneed(BASE, SLOT), jump(1, 60), STOP],
        [touch(BASE + PAGE, 2 * PAGE), dontneed(BASE + PAGE, PAGE), mincore(BASE, SLOT), jump(0, 60), STOP],
        [touch(BASE, PAGE), migrate(BASE), read(BASE + PAGE, PAGE), swapout(4), jump(0, 60), STOP],
    ]
    instruments = Instruments(online=True, perturb=7, settings=settings)
    with at_rest(programs, geometry_for(programs), "xnu-ptd", instruments) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
        assert int(views["cpu_word"]["word"].max()) > 0  # rmap walks began, and ended
