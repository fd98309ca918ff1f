"""The walkers of PTE tables beside fault and zap: what they leave, and that no detector takes it for wrong."""

import pytest
from support import BASE, SLOT, at_rest, race

from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.policy.policies import POLICIES
from emulator.syscalls import madvise
from workers.programs.program import (
    DEVICE_REMOVE,
    EXIT,
    REAP,
    STOP,
    advise,
    barrier,
    dontneed,
    fork,
    jump,
    load,
    mlock,
    mmap,
    mmap_device,
    mmap_file,
    mprotect,
    mremap_fixed,
    munlock,
    read,
    retract,
    store,
    touch,
)

CLEAN = ({}, None)
COUNTED = [policy for policy in POLICIES if POLICIES[policy].pte_counted]
PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


def run_one(program, policy="refcount", **sizes):
    """One CPU to its end, under the detectors: what it loaded last, its errors, tables freed, VmPTE of mm 0 in kB."""
    geometry = Geometry(**{"mms": 3, "insns": len(program), "frames": 8192, "tables": 256, **sizes})
    with at_rest([program], geometry, policy) as views:
        cpu = views["cpu"][0]
        vmpte = int(views["mm"]["pgtables_bytes"][0]) // 1024
        return int(cpu["loaded"]), int(cpu["errors"]), int(cpu["tables_freed"]), vmpte


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("length", "to"),
    [(PAGE, BASE + PAGE), (PAGE, OTHER), (SLOT, OTHER), (SLOT, OTHER + PAGE), (1 << 30, 2 << 40)],
    ids=["in the table", "to another", "whole table", "over a border", "whole GiB"],
)
def test_a_word_is_where_mremap_has_moved_it(policy, length, to):
    start = BASE if length < 1 << 30 else 1 << 40
    program = [mmap(start, length), store(start + 8, 7), mremap_fixed(start, length, to), load(to + 8), STOP]

    assert run_one(program, policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", COUNTED)
def test_the_last_entry_that_moves_away_takes_its_table_along(policy):
    program = [mmap(BASE, 2 * PAGE), touch(BASE, 2 * PAGE)]
    first, both = mremap_fixed(BASE, PAGE, OTHER), mremap_fixed(BASE + PAGE, PAGE, OTHER + PAGE)

    assert run_one([*program, first, STOP], policy)[2] == 0
    assert run_one([*program, first, both, STOP], policy)[2] == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_table_that_moves_as_a_whole_is_neither_allocated_nor_freed(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), mremap_fixed(BASE, SLOT, BASE - SLOT), STOP]

    _, errors, freed, vmpte = run_one(program, policy)

    assert (errors, freed, vmpte) == (0, 0, 12)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_child_stores_its_parent_does_not_see_and_the_other_way_round(policy):
    before = [mmap(BASE, SLOT), touch(BASE, SLOT, value=7)]
    child_stores = [fork(1), touch(BASE, SLOT, value=8), load(BASE)]
    child_reads = [fork(1, hold=True), load(BASE), touch(BASE, SLOT, value=9), REAP, load(BASE)]

    assert run_one([*before, *child_stores, STOP], policy)[:2] == (7, 0)
    assert run_one([*before, *child_reads, STOP], policy)[:2] == (9, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_child_that_moves_and_a_parent_that_moves_keep_their_shared_frames(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT, value=7), fork(2, hold=True), mremap_fixed(BASE, SLOT, OTHER)]
    program += [read(OTHER, SLOT), mremap_fixed(BASE, 4 * PAGE, OTHER), load(OTHER), store(OTHER, 8), REAP, STOP]

    assert run_one(program, policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_child_leaves_nothing_behind(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), fork(1), touch(BASE, SLOT, value=2), jump(2, 20), EXIT]

    _, errors, _, vmpte = run_one(program, policy)

    assert (errors, vmpte) == (0, 0)


def test_a_fork_without_a_free_mm_or_memory_is_an_error_and_no_more():
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), fork(hold=True), STOP]

    assert run_one(program, mms=1)[1] == 1
    assert run_one(program, tables=6)[1] == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_move_that_runs_out_of_memory_puts_everything_back(policy):
    program = [mmap(BASE, 2 * SLOT), touch(BASE, 2 * SLOT, value=7), mremap_fixed(BASE, 2 * SLOT, OTHER + PAGE)]
    program += [read(BASE, 2 * SLOT), load(BASE + SLOT), STOP]

    assert run_one(program, policy, tables=10)[:2] == (7, 1)


@pytest.mark.parametrize("policy", COUNTED)
def test_a_guard_keeps_its_table_and_its_removal_frees_it(policy):
    guard = [mmap(BASE, SLOT), advise(madvise.MADV_GUARD_INSTALL, BASE, PAGE), dontneed(BASE, SLOT)]
    remove = advise(madvise.MADV_GUARD_REMOVE, BASE, SLOT)

    assert run_one([*guard, STOP], policy)[2] == 0
    assert run_one([*guard, remove, STOP], policy)[2] == 1


RACERS = {
    "mprotect": [mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw")],
    "none": [mprotect(BASE, SLOT, "none"), mprotect(BASE, SLOT, "rw")],
    "move": [mremap_fixed(BASE, SLOT, OTHER), mremap_fixed(OTHER, SLOT, BASE)],
    "pieces": [mremap_fixed(BASE, 8 * PAGE, OTHER + PAGE), mremap_fixed(OTHER + PAGE, 8 * PAGE, BASE)],
    "fork": [fork(1), touch(BASE, 8 * PAGE, value=9)],
    "hold": [fork(hold=True), touch(BASE, 8 * PAGE, value=9), REAP],
    "guard": [
        advise(madvise.MADV_GUARD_INSTALL, BASE, 4 * PAGE),
        advise(madvise.MADV_GUARD_REMOVE, BASE, 4 * PAGE),
    ],
    "lock": [mlock(BASE, 8 * PAGE), munlock(BASE, 8 * PAGE)],
    "release": [dontneed(BASE, SLOT)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", RACERS)
@pytest.mark.parametrize("one", ["move", "pieces", "fork", "mprotect"])
def test_two_walkers_and_a_cpu_that_stores_raise_no_alarm(one, other, policy):
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE), touch(OTHER, 8 * PAGE, value=4)]
    programs = [[*RACERS[one]], [*RACERS[other]], stores]
    loops = [[mmap(BASE, SLOT), barrier(), *body, jump(2, 200), STOP] for body in programs]

    assert race(loops, policy, online=True) == CLEAN


def test_the_driver_finds_its_frame_wherever_mremap_has_it():
    to = BASE + PAGE
    moves = [mmap_device(BASE), mremap_fixed(BASE, PAGE, to), mremap_fixed(to, PAGE, BASE)]
    loops = [[*moves, jump(0, 300), STOP], [DEVICE_REMOVE, jump(0, 300), STOP], [touch(BASE, SLOT), jump(0, 300), STOP]]

    assert race(loops, "refcount", online=True) == CLEAN


def test_the_driver_comes_while_the_mm_that_maps_its_frame_ends():
    maps = [[mmap_device(BASE), touch(BASE, PAGE), EXIT]] * 2
    drivers = [[DEVICE_REMOVE, jump(0, 2000), STOP]] * 2

    assert race([*maps, *drivers], "none", mm_of_cpu=(0, 1, 2, 2), online=True) == CLEAN


def test_retract_leaves_the_tables_of_a_child_alone_that_fork_is_filling():
    forks = [mmap_file(BASE, SLOT, 0), touch(BASE, PAGE), barrier(), fork(), jump(3, 300), STOP]

    assert race([forks, [barrier(), retract(0), jump(1, 3000), STOP]], "refcount", online=True) == CLEAN
