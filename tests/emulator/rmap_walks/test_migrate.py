"""Pages that move to another frame: who maps them notices nothing, and who waits for one may drop nothing too early.

Covers: emulator/rmap_walks/page_vma_mapped
"""

import pytest
from support import BASE, FAMILIES, SLOT, race
from swapping import OTHER, PAGE, SOME, run

from emulator.syscalls import madvise
from workers.programs.program import (
    REAP,
    STOP,
    advise,
    barrier,
    dontneed,
    fork,
    gup,
    jump,
    load,
    migrate,
    mmap,
    mmap_file,
    mprotect,
    mremap_fixed,
    munmap,
    punch_hole,
    read,
    store,
    swapout,
    touch,
    writeback,
)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_page_that_moved_has_its_word_and_can_be_stored_to(policy):
    left = run([*SOME, migrate(BASE), load(BASE), store(BASE, 8), migrate(BASE), load(BASE)], policy)

    assert (left.moved, left.loaded, left.anon, left.freed, left.errors) == (2, 8, 8, 0, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_page_moves_wherever_the_family_maps_it(policy):
    child = [fork(2, hold=True), mremap_fixed(BASE, SLOT, OTHER), migrate(OTHER + PAGE), migrate(BASE)]
    left = run([*SOME, *child, load(BASE + PAGE), store(BASE + PAGE, 9), REAP, load(BASE)], policy)

    assert (left.moved, left.loaded, left.errors) == (2, 7, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_page_of_a_file_moves_and_stays_what_the_page_cache_has(policy):
    mapped = [mmap_file(BASE, 4 * PAGE, 0, shared=True), store(BASE, 7), mmap_file(OTHER, 4 * PAGE, 0), load(OTHER)]
    left = run([*mapped, migrate(OTHER), store(BASE, 8), load(OTHER), writeback(0), dontneed(BASE, SLOT)], policy)

    assert (left.moved, left.loaded, left.cached) == (1, 8, 1)


def test_a_page_without_access_moves_and_has_none_afterwards():
    left = run([*SOME, mprotect(BASE, SLOT, "none"), migrate(BASE), load(BASE), mprotect(BASE, SLOT, "r"), load(BASE)])

    assert (left.moved, left.loaded, left.errors) == (1, 7, 1)


def test_so_many_pages_of_anybody_move_and_none_of_the_zero_page():
    assert run([*SOME, migrate(pages=5)]).moved == 5
    left = run([mmap(BASE, SLOT), read(BASE, SLOT), migrate(BASE), migrate(pages=5)])
    assert (left.moved, left.errors) == (0, 1)


def test_without_a_frame_to_move_to_a_page_stays():
    left = run([*SOME, mmap(OTHER, SLOT), touch(OTHER, 16 * PAGE), migrate(BASE), load(BASE)], frames=14, swap_pages=0)

    assert (left.moved, left.loaded) == (0, 7)


RACERS = {
    "migrate": [migrate(pages=8)],
    "gup": [gup(BASE, 8 * PAGE, 5)],
    "populate": [advise(madvise.MADV_POPULATE_READ, BASE, 8 * PAGE)],
    "release": [dontneed(BASE, SLOT)],
    "unmap": [munmap(BASE, 8 * PAGE), mmap(BASE, 8 * PAGE)],
    "fork": [fork(2), migrate(pages=8), touch(BASE, 8 * PAGE, value=9)],
    "hold": [fork(hold=True), touch(BASE, 8 * PAGE, value=9), REAP],
    "move": [mremap_fixed(BASE, SLOT, OTHER), mremap_fixed(OTHER, SLOT, BASE)],
    "pieces": [mremap_fixed(BASE, 8 * PAGE, OTHER + PAGE), mremap_fixed(OTHER + PAGE, 8 * PAGE, BASE)],
    "mprotect": [mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw")],
    "swap": [swapout(8), read(BASE, 8 * PAGE)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", RACERS)
def test_migration_another_walker_and_a_cpu_that_stores_raise_no_alarm(other, policy):
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE), touch(OTHER, 8 * PAGE, value=4)]
    loops = [
        [mmap(BASE, SLOT), barrier(), *body, jump(2, 150), STOP] for body in ([migrate(pages=8)], RACERS[other], stores)
    ]

    assert race(loops, policy, online=True, swap_pages=12) == ({}, None)


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize(
    "other", [[writeback(0)], [punch_hole(0, 0, 4)], [fork(1), touch(OTHER, 4 * PAGE)], [munmap(OTHER, PAGE)]]
)
def test_pages_of_files_move_while_they_are_written_back_punched_and_shared(other, policy):
    maps = [mmap_file(BASE, 8 * PAGE, 0, shared=True), mmap_file(OTHER, 8 * PAGE, 0)]
    stores = [
        touch(BASE, 8 * PAGE, value=3),
        read(OTHER, 8 * PAGE),
        touch(OTHER, 2 * PAGE, value=4),
        dontneed(OTHER, PAGE),
    ]
    loops = [[*maps, barrier(), *body, jump(3, 150), STOP] for body in ([migrate(pages=8)], other, stores)]

    assert race(loops, policy, online=True) == ({}, None)
