"""Reclaim of anonymous pages: what goes to swap, what is forgotten, what stays, and which tables go with it."""

import pytest
from support import BASE, FAMILIES, SLOT, race
from swapping import OTHER, PAGE, PAGEOUT, PAGES, SOME, run

from emulator.policy.policies import POLICIES
from emulator.syscalls import madvise
from workers.programs.program import (
    REAP,
    STOP,
    SWAPOFF,
    advise,
    barrier,
    dontneed,
    fork,
    free,
    gup,
    jump,
    load,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap_fixed,
    munlock,
    read,
    store,
    swapout,
    touch,
)

COUNTED = [policy for policy in POLICIES if POLICIES[policy].counted]


def test_without_swap_pages_stay_and_a_full_swap_takes_no_more():
    assert run([*SOME, PAGEOUT, swapout(100)], swap_pages=0).anon == PAGES
    assert run([*SOME, PAGEOUT, swapout(100)], swap_pages=3).swap == 3


def test_pages_that_madv_free_has_released_are_forgotten_unless_they_were_stored_to():
    freed = [*SOME, free(BASE, SLOT), store(BASE, 9), swapout(100)]

    left = run([*freed, load(BASE)])
    assert (left.loaded, left.swap, left.anon) == (9, 0, 1)
    assert run([*freed, load(BASE + PAGE)]).loaded == 0


@pytest.mark.parametrize("policy", COUNTED)
def test_the_last_page_that_reclaim_forgets_frees_its_table(policy):
    assert run([*SOME, free(BASE, SLOT), swapout(PAGES - 1)], policy, swap_pages=0).freed == 0
    left = run([*SOME, free(BASE, SLOT), swapout(PAGES)], policy, swap_pages=0)
    assert (left.freed, left.anon) == (1, 0)


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("odd", [PAGE, 5 * PAGE, SLOT - PAGE], ids=lambda odd: f"{odd // PAGE} pages off")
def test_what_is_left_of_a_huge_page_is_forgotten_in_runs_and_each_table_put_for_its_own(policy, odd):
    huge = [mmap(BASE, SLOT), advise(madvise.MADV_HUGEPAGE, BASE, SLOT), touch(BASE, SLOT), mmap(OTHER, 2 * SLOT)]
    program = [*huge, mremap_fixed(BASE, SLOT, OTHER + odd), free(OTHER, 2 * SLOT), swapout(1)]

    some, all_ = run(program, policy, swap_pages=0), run([*program[:-1], swapout(512)], policy, swap_pages=0)

    assert some.anon == 512 - 32
    assert all_.anon == 0


def test_locked_pages_stay_and_private_copies_of_a_file_go():
    locked = [mlock(BASE, 2 * PAGE), swapout(100)]
    private = [mmap_file(BASE, 4 * PAGE, 0), touch(BASE, 4 * PAGE, value=7), PAGEOUT, load(BASE + PAGE)]

    assert (run([*SOME, *locked]).anon, run([*SOME, *locked, munlock(BASE, SLOT), swapout(100)]).anon) == (2, 0)
    left = run(private)
    assert (left.loaded, left.anon, left.swap, left.file) == (7, 1, 3, 0)


RACERS = {
    "pageout": [PAGEOUT],
    "swapout": [swapout(8)],
    "swapoff": [SWAPOFF, swapout(8)],
    "willneed": [PAGEOUT, advise(madvise.MADV_WILLNEED, BASE, SLOT)],
    "free": [free(BASE, SLOT), swapout(8)],
    "release": [dontneed(BASE, SLOT)],
    "fork": [fork(2), swapout(8), touch(BASE, 8 * PAGE, value=9)],
    "hold": [fork(hold=True), touch(BASE, 8 * PAGE, value=9), PAGEOUT, REAP],
    "move": [mremap_fixed(BASE, SLOT, OTHER), mremap_fixed(OTHER, SLOT, BASE)],
    "pieces": [mremap_fixed(BASE, 8 * PAGE, OTHER + PAGE), mremap_fixed(OTHER + PAGE, 8 * PAGE, BASE)],
    "mprotect": [mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw")],
    "device": [gup(BASE, 8 * PAGE, 5)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", RACERS)
@pytest.mark.parametrize("one", ["pageout", "free"])
def test_reclaim_another_walker_and_a_cpu_that_stores_raise_no_alarm(one, other, policy):
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE), touch(OTHER, 8 * PAGE, value=4)]
    loops = [[mmap(BASE, SLOT), barrier(), *body, jump(2, 150), STOP] for body in (RACERS[one], RACERS[other], stores)]

    assert race(loops, policy, online=True, swap_pages=12) == ({}, None)
