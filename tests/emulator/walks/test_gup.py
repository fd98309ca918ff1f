"""GUP: a device uses pages of user memory by pins, and the program finds what it did.

Covers: emulator/walks/gup_fast
"""

import pytest
from support import BASE, FAMILIES, SLOT, alone

from emulator.mm_types import PAGE_SIZE
from workers.programs.program import (
    REAP,
    STOP,
    dontneed,
    fork,
    free,
    gup,
    load,
    mmap,
    mmap_device,
    mmap_file,
    mprotect,
    read,
    store,
    swapout,
)

PAGE = PAGE_SIZE


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("before", [(), (store(BASE + 8, 3),), (read(BASE, PAGE),)], ids=["none", "own", "zero page"])
def test_a_word_that_a_device_has_stored_is_read_by_the_program(policy, before):
    program = [mmap(BASE, SLOT), *before, gup(BASE, 2 * PAGE, 7), load(BASE + PAGE), load(BASE), STOP]

    assert alone(program, policy)[:2] == (7, 0)


def test_a_device_reads_what_the_program_has_stored():
    assert alone([mmap(BASE, SLOT), store(BASE, 9), gup(BASE), STOP])[:2] == (9, 0)
    assert alone([mmap(BASE, SLOT), store(BASE, 9), dontneed(BASE, PAGE), gup(BASE), STOP])[:2] == (0, 0)


def test_what_a_device_has_stored_to_a_page_that_was_released_survives_reclaim():
    released = [mmap(BASE, SLOT), store(BASE, 3), free(BASE, PAGE)]

    assert alone([*released, swapout(64), load(BASE), STOP])[0] == 0
    assert alone([*released, gup(BASE, PAGE, 7), swapout(64), load(BASE), STOP])[0] == 7


@pytest.mark.parametrize(
    "mapping",
    [(), (mmap(BASE, PAGE), mprotect(BASE, PAGE, "r")), (mmap_device(BASE),), (mmap_file(BASE, PAGE, 0, shared=True),)],
    ids=["nothing", "read-only", "device", "file"],
)
def test_what_a_device_may_not_store_to_is_refused(mapping):
    assert alone([*mapping, gup(BASE, PAGE, 5), STOP], files=1)[1] == 1


def test_a_device_reads_a_page_of_a_file():
    assert alone([mmap_file(BASE, PAGE, 0, shared=True), store(BASE, 4), gup(BASE), STOP], files=1)[:2] == (4, 0)


def test_a_device_stores_to_the_copy_that_the_child_or_the_parent_gets():
    program = [mmap(BASE, PAGE), store(BASE, 1), fork(1, hold=True), gup(BASE, PAGE, 2), load(BASE), REAP, STOP]
    assert alone(program)[:2] == (1, 0)

    program = [mmap(BASE, PAGE), store(BASE, 1), fork(0, hold=True), gup(BASE, PAGE, 2), load(BASE), REAP, STOP]
    assert alone(program)[:2] == (2, 0)
