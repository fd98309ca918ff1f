"""A table that a call covers is unhooked first and emptied later; eagerly, any table goes with its last entry."""

import pytest
from support import BASE, SLOT, alone, at_rest, geometry_for

from emulator.uapi import MADV_GUARD_INSTALL
from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    advise,
    dontneed,
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
    store,
    swapout,
    touch,
)

PAGE = 4096
TOUCHED = [mmap(BASE, SLOT), touch(BASE, SLOT)]
PIECES = [*TOUCHED, *(dontneed(BASE + at, SLOT // 8) for at in range(0, SLOT, SLOT // 8))]
REST = {
    "in pieces": PIECES,
    "by reclaim": [mmap(BASE, SLOT), touch(BASE, PAGE), free(BASE, PAGE), swapout(8)],
    "by mremap": [mmap(BASE, SLOT), touch(BASE, PAGE), mremap_fixed(BASE, PAGE, BASE + 4 * SLOT)],
    "by munmap beside a neighbour": [mmap(BASE, SLOT), touch(BASE, PAGE), munmap(BASE, SLOT // 2)],
}


def freed(program, policy):
    """Tables that are gone when a program of one CPU has ended."""
    return alone([*program, STOP], policy)[2]


@pytest.mark.parametrize("policy", ["corten", "corten-eager"])
def test_a_call_that_covers_a_table_frees_it_and_what_comes_then_is_new(policy):
    assert freed([*TOUCHED, dontneed(BASE, SLOT)], policy) == 1
    assert alone([mmap(BASE, SLOT), store(BASE, 7), dontneed(BASE, SLOT), load(BASE), STOP], policy)[0] == 0


@pytest.mark.parametrize("program", REST.values(), ids=REST)
def test_a_table_that_only_became_empty_stays_unless_it_goes_eagerly(program):
    assert freed(program, "corten") == 0
    assert freed(program, "corten-eager") == 1


@pytest.mark.parametrize("policy", ["corten", "corten-eager"])
def test_guards_outlive_the_call_that_covers_their_table(policy):
    guarded = [mmap(BASE, SLOT), advise(MADV_GUARD_INSTALL, BASE, PAGE), touch(BASE + PAGE, PAGE), dontneed(BASE, SLOT)]
    assert freed(guarded, policy) == 0
    assert alone([*guarded, touch(BASE, PAGE), STOP], policy)[1] == 1  # SIGSEGV


@pytest.mark.parametrize("policy", ["corten", "corten-eager"])
def test_a_file_goes_entry_by_entry(policy):
    mapped = [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE), dontneed(BASE, SLOT)]
    assert alone([*mapped, STOP], policy, files=1, file_pages=64)[2] == (policy == "corten-eager")


@pytest.mark.parametrize("policy", ["corten", "corten-eager"])
@pytest.mark.parametrize("zap_batch", [0, 3])
def test_faults_looks_and_migration_of_other_cpus_find_no_dead_table(policy, zap_batch):
    programs = [
        [mmap(BASE, 2 * SLOT), touch(BASE, 32 * PAGE), dontneed(BASE, SLOT), jump(1, 60), STOP],
        [touch(BASE + PAGE, 2 * PAGE), dontneed(BASE + PAGE, PAGE), mincore(BASE, SLOT), jump(0, 60), STOP],
        [touch(BASE, PAGE), migrate(BASE), jump(0, 60), STOP],
    ]
    instruments = Instruments(online=True, perturb=7, settings={"zap_batch": zap_batch})
    with at_rest(programs, geometry_for(programs), policy, instruments) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0
