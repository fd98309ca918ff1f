"""fork copies tables: what a child and its parent see of each other, and what is left of a child."""

import pytest
from support import BASE, FAMILIES, SLOT, alone

from emulator.mm_types import PAGE_SIZE
from workers.programs.program import (
    EXIT,
    REAP,
    STOP,
    fork,
    jump,
    load,
    mmap,
    mremap_fixed,
    read,
    store,
    touch,
)

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


@pytest.mark.parametrize("policy", FAMILIES)
def test_what_a_child_stores_its_parent_does_not_see_and_the_other_way_round(policy):
    before = [mmap(BASE, SLOT), touch(BASE, SLOT, value=7)]
    child_stores = [fork(1), touch(BASE, SLOT, value=8), load(BASE)]
    child_reads = [fork(1, hold=True), load(BASE), touch(BASE, SLOT, value=9), REAP, load(BASE)]

    assert alone([*before, *child_stores, STOP], policy)[:2] == (7, 0)
    assert alone([*before, *child_reads, STOP], policy)[:2] == (9, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_child_that_moves_and_a_parent_that_moves_keep_their_shared_frames(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT, value=7), fork(2, hold=True), mremap_fixed(BASE, SLOT, OTHER)]
    program += [read(OTHER, SLOT), mremap_fixed(BASE, 4 * PAGE, OTHER), load(OTHER), store(OTHER, 8), REAP, STOP]

    assert alone(program, policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_every_child_leaves_nothing_behind(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), fork(1), touch(BASE, SLOT, value=2), jump(2, 20), EXIT]

    _, errors, _, vmpte = alone(program, policy)

    assert (errors, vmpte) == (0, 0)


def test_a_fork_without_a_free_mm_or_memory_is_an_error_and_no_more():
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), fork(hold=True), STOP]

    assert alone(program, mms=1)[1] == 1
    assert alone(program, tables=6)[1] == 1
