"""Two counters: nothing goes until somebody asks; then empty tables go, and those of nothing but zero pages."""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.uapi import MADV_COLLAPSE
from workers.instruments import Instruments
from workers.programs.program import (
    FREE_PTES,
    STOP,
    advise,
    dontneed,
    jump,
    migrate,
    mlock,
    mmap,
    mprotect,
    mremap_fixed,
    read,
    store,
    touch,
    uffd_register,
    uffd_zeropage,
)

PAGE = 4096
POLICIES = ["two-counter", "two-counter-safe"]
EMPTY = [mmap(BASE, SLOT), touch(BASE, SLOT), *(dontneed(BASE + at, SLOT // 8) for at in range(0, SLOT, SLOT // 8))]
ZEROS = [mmap(BASE, SLOT), read(BASE, SLOT)]


def freed(program, policy):
    """Tables that are gone when a program of one CPU has ended."""
    return alone([*program, STOP], policy)[2]


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_table_goes_when_somebody_asks_and_not_before(policy):
    assert freed(EMPTY, policy) == 0
    assert freed([*EMPTY, FREE_PTES], policy) == 1
    assert freed([*EMPTY, FREE_PTES], "none") == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_table_of_zero_pages_goes_if_it_has_all_512_and_a_load_brings_them_back(policy):
    assert freed([*ZEROS, FREE_PTES], policy) == 1
    assert freed([mmap(BASE, SLOT), read(BASE, SLOT - PAGE), FREE_PTES], policy) == 0
    assert freed([*ZEROS, store(BASE, 7), FREE_PTES], policy) == 0
    assert alone([*ZEROS, FREE_PTES, read(BASE, SLOT), STOP], policy)[3] == 12


@pytest.mark.parametrize(
    "change",
    [
        [mprotect(BASE, SLOT, "none")],
        [mremap_fixed(BASE, SLOT // 2, BASE + 4 * SLOT)],
        [store(BASE, 7), advise(MADV_COLLAPSE, BASE, SLOT), dontneed(BASE, PAGE)],
        [store(BASE, 7), migrate(BASE)],
    ],
    ids=["no access", "moved", "collapsed and split", "migrated"],
)
def test_the_counts_follow_what_becomes_of_zero_pages(change):
    assert alone([*ZEROS, *change, STOP], "two-counter-safe")[1] == 0  # and the audit counts


def test_zero_pages_that_userfaultfd_gave_or_that_are_locked_stay():
    given = [mmap(BASE, SLOT), uffd_register(BASE, SLOT), uffd_zeropage(BASE, SLOT), FREE_PTES]
    locked = [mmap(BASE, SLOT, False), read(BASE, SLOT), mlock(BASE, SLOT), FREE_PTES]
    assert [freed(program, "two-counter-safe") for program in (given, locked)] == [0, 0]
    assert freed(given, "two-counter") == 1  # the hole: userfaultfd is asked for the same page again (H42)
    for program in (given, locked):
        twin = Instruments(online=True, knobs=("zeros-under-uffd",))
        with at_rest([[*program, STOP]], geometry_for([[*program, STOP]]), "two-counter-safe", twin) as views:
            assert int(views["cpu"]["tables_freed"].sum()) == 1


def test_asking_beside_faults_unmaps_and_migration_of_other_cpus_breaks_nothing():
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, 8 * PAGE), dontneed(BASE, SLOT), FREE_PTES, jump(0, 60), STOP],
        [read(BASE + SLOT, SLOT), FREE_PTES, touch(BASE + SLOT, PAGE), dontneed(BASE + SLOT, SLOT), jump(0, 60), STOP],
        [touch(BASE, PAGE), migrate(BASE), jump(0, 60), STOP],
    ]
    with at_rest(programs, geometry_for(programs), "two-counter-safe", Instruments(online=True, perturb=7)) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
