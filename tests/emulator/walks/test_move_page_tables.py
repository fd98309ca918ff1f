"""Tables that mremap moves or empties: what is left of them, and that no detector takes it for wrong."""

import pytest
from support import BASE, FAMILIES, SLOT, alone, race

from emulator.mm_types import PAGE_SIZE
from emulator.policy.policies import POLICIES
from emulator.syscalls import madvise
from workers.programs.program import (
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
    mprotect,
    mremap_fixed,
    munlock,
    read,
    store,
    touch,
)

CLEAN = ({}, None)
COUNTED = [policy for policy in POLICIES if POLICIES[policy].counted]
PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize(
    ("length", "to"),
    [(PAGE, BASE + PAGE), (PAGE, OTHER), (SLOT, OTHER), (SLOT, OTHER + PAGE), (1 << 30, 2 << 40)],
    ids=["in the table", "to another", "whole table", "over a border", "whole GiB"],
)
def test_a_word_is_where_mremap_has_moved_it(policy, length, to):
    start = BASE if length < 1 << 30 else 1 << 40
    program = [mmap(start, length), store(start + 8, 7), mremap_fixed(start, length, to), load(to + 8), STOP]

    assert alone(program, policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", COUNTED)
def test_the_last_entry_that_moves_away_takes_its_table_along(policy):
    program = [mmap(BASE, 2 * PAGE), touch(BASE, 2 * PAGE)]
    first, both = mremap_fixed(BASE, PAGE, OTHER), mremap_fixed(BASE + PAGE, PAGE, OTHER + PAGE)

    assert alone([*program, first, STOP], policy)[2] == 0
    assert alone([*program, first, both, STOP], policy)[2] == 1


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_table_that_moves_as_a_whole_is_neither_allocated_nor_freed(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), mremap_fixed(BASE, SLOT, BASE - SLOT), STOP]

    _, errors, freed, vmpte = alone(program, policy)

    assert (errors, freed, vmpte) == (0, 0, 12)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_move_that_runs_out_of_memory_puts_everything_back(policy):
    program = [mmap(BASE, 2 * SLOT), touch(BASE, 2 * SLOT, value=7), mremap_fixed(BASE, 2 * SLOT, OTHER + PAGE)]
    program += [read(BASE, 2 * SLOT), load(BASE + SLOT), STOP]

    assert alone(program, policy, tables=10)[:2] == (7, 1)


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
