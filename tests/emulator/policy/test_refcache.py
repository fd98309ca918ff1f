"""Each CPU counts for itself; a table that stays at zero for an epoch goes, unless somebody comes to it.

Covers: emulator/program/coordinator
"""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.mm_types import Geometry
from emulator.policy.policies import WAYS
from emulator.uapi import MADV_COLLAPSE, MADV_HUGEPAGE
from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    advise,
    barrier,
    dontneed,
    fork,
    free,
    jump,
    load,
    migrate,
    mincore,
    mmap,
    mmap_file,
    mremap_fixed,
    munmap,
    read,
    retract,
    store,
    swapout,
    touch,
)

PAGE = 4096
HUGE = [mmap(BASE, SLOT), advise(MADV_HUGEPAGE, BASE, SLOT), touch(BASE, PAGE)]
TOUCHED = [mmap(BASE, SLOT), touch(BASE, SLOT)]
EMPTIES = {
    "a zap": [*TOUCHED, dontneed(BASE, SLOT)],
    "pieces": [*TOUCHED, *(dontneed(BASE + at, SLOT // 8) for at in range(0, SLOT, SLOT // 8))],
    "reclaim": [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), swapout(8)],
    "mremap": [mmap(BASE, SLOT), touch(BASE, PAGE), mremap_fixed(BASE, PAGE, BASE + 4 * SLOT)],
    "munmap beside a neighbour": [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT // 2)],
    "munmap": [*TOUCHED, munmap(BASE, SLOT)],
}


def freed(program, **sizes):
    """Tables that are gone when a program of one CPU has ended, by its hand or the coordinator's."""
    geometry = Geometry(**{"mms": 3, "insns": len(program) + 1, "frames": 8192, "tables": 256, **sizes})
    with at_rest([[*program, STOP]], geometry, "refcache") as views:
        return int(views["cpu"]["tables_freed"].sum())


@pytest.mark.parametrize("program", EMPTIES.values(), ids=EMPTIES)
def test_whatever_empties_a_table_it_goes_once(program):
    assert freed(program) == 1


def test_what_comes_behind_an_emptied_table_is_new():
    assert alone([mmap(BASE, SLOT), store(BASE, 7), dontneed(BASE, SLOT), load(BASE), STOP], "refcache")[0] == 0


def test_a_table_that_is_filled_again_stays():
    again = [*TOUCHED, *(insn for _ in range(20) for insn in (dontneed(BASE, SLOT), touch(BASE, PAGE)))]
    assert alone([*again, load(BASE), STOP], "refcache")[3] > 0


def test_more_tables_than_ways_are_counted():
    slots = 2 * WAYS + 3
    program = [mmap(BASE, slots * SLOT), touch(BASE, slots * SLOT, SLOT), dontneed(BASE, slots * SLOT)]
    assert freed(program, tables=1024) == slots


@pytest.mark.parametrize(
    "program",
    [
        [*TOUCHED, advise(MADV_COLLAPSE, BASE, SLOT), dontneed(BASE, SLOT)],
        [*TOUCHED, advise(MADV_COLLAPSE, BASE, SLOT), dontneed(BASE, PAGE), dontneed(BASE, SLOT)],
        [*HUGE, munmap(BASE, SLOT)],
        [*HUGE, dontneed(BASE, PAGE), munmap(BASE, SLOT)],
    ],
    ids=["collapsed", "collapsed and split", "huge", "huge and split"],
)
def test_a_table_under_a_huge_page_goes_with_it_or_when_it_is_empty(program):
    assert freed(program) == 1


def test_retract_and_the_review_take_a_table_once():
    mapped = [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), dontneed(BASE, SLOT), retract(0)]
    assert freed(mapped, files=1, file_pages=64) == 1


@pytest.mark.parametrize("settings", [{}, {"zap_batch": 3}, {"vma_locks": 1}])
def test_faults_looks_migration_and_children_find_no_dead_table(settings):
    programs = [
        [mmap(BASE, SLOT), touch(BASE, 32 * PAGE), dontneed(BASE, SLOT), jump(1, 60), barrier(), dontneed(BASE, SLOT)],
        [touch(BASE + PAGE, 2 * PAGE), dontneed(BASE + PAGE, PAGE), mincore(BASE, SLOT), jump(0, 60), barrier(), STOP],
        [touch(BASE, PAGE), migrate(BASE), fork(1), touch(BASE, PAGE), jump(0, 60), barrier(), STOP],
    ]
    instruments = Instruments(online=True, perturb=7, settings=settings)
    with at_rest(programs, geometry_for(programs), "refcache", instruments, tick_us=50) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
