"""Anonymous memory in swap: what goes, what comes back, what the entries count, and who may be in the way."""

import pytest
from support import BASE, FAMILIES, SLOT
from swapping import OTHER, PAGE, PAGEOUT, PAGES, SOME, run

from emulator.policy.policies import POLICIES
from emulator.uapi import ENOMEM
from workers.programs.program import (
    REAP,
    dontneed,
    fork,
    free,
    load,
    mmap,
    mprotect,
    mremap_fixed,
    munmap,
    store,
    swapout,
    touch,
)

COUNTED = [policy for policy in POLICIES if POLICIES[policy].counted]


@pytest.mark.parametrize("policy", FAMILIES)
def test_pages_that_go_to_swap_keep_their_entries_and_come_back_with_their_words(policy):
    away, back = run([*SOME, PAGEOUT], policy), run([*SOME, PAGEOUT, load(BASE + 3 * PAGE)], policy)

    assert (away.anon, away.swap, away.slots, away.cached, away.freed) == (0, PAGES, PAGES, 0, 0)
    assert (back.anon, back.swap, back.slots, back.loaded) == (1, PAGES - 1, PAGES - 1, 7)


@pytest.mark.parametrize("policy", COUNTED)
@pytest.mark.parametrize(
    "clear",
    [dontneed(BASE, SLOT), free(BASE, SLOT), munmap(BASE, SLOT), mmap(BASE, SLOT), mremap_fixed(OTHER, SLOT, BASE)],
    ids=["MADV_DONTNEED", "MADV_FREE", "munmap", "mmap over it", "mremap over it"],
)
def test_the_last_swap_entry_that_is_cleared_frees_its_table_and_its_slot(policy, clear):
    left = run([mmap(OTHER, SLOT), *SOME, PAGEOUT, clear], policy)

    assert (left.swap, left.slots, left.cached, left.freed) == (0, 0, 0, 1)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_child_shares_what_is_in_swap_and_both_have_their_own_once_they_store(policy):
    child = [fork(2, hold=True), store(BASE, 8), load(BASE + PAGE), load(BASE), store(BASE, 9), REAP, load(BASE)]
    kept = [fork(1, hold=True), load(BASE + PAGE), dontneed(BASE, SLOT), REAP]

    assert run([*SOME, PAGEOUT, *child], policy).loaded == 9
    left = run([*SOME, PAGEOUT, *kept], policy)
    assert (left.swap, left.slots, left.loaded, left.cached) == (0, 0, 7, 0)


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("to", [BASE + SLOT, OTHER, OTHER + PAGE], ids=["table", "another GiB", "entry by entry"])
def test_swap_entries_move_with_mremap(policy, to):
    left = run([*SOME, PAGEOUT, mremap_fixed(BASE, SLOT, to), load(to + PAGE)], policy)

    assert (left.loaded, left.anon, left.swap, left.errors) == (7, 1, PAGES - 1, 0)


def test_a_page_that_comes_back_has_the_permissions_of_its_vma():
    closed = [mprotect(BASE, SLOT, "none"), PAGEOUT, load(BASE), mprotect(BASE, SLOT, "r"), load(BASE), store(BASE, 8)]
    opened = [mprotect(BASE, SLOT, "rw"), store(BASE, 8), load(BASE)]

    left = run([*SOME, *closed, *opened])

    assert [error != 0 for error in left.error[2:]] == [False, False, True, False, False, True] + [False] * 4
    assert left.loaded == 8


def test_a_store_to_a_shared_page_in_swap_needs_two_frames_and_with_one_it_ends_out_of_memory():
    def stored(others):
        program = [mmap(BASE, SLOT), mmap(OTHER, SLOT), touch(BASE, PAGES * PAGE, value=7), fork(hold=True)]
        program += [swapout(100), touch(OTHER, others * PAGE), store(BASE, 8), REAP, load(BASE)]
        return run(program, frames=16, swap_pages=PAGES)

    enough, short = stored(13), stored(14)

    assert (enough.error[6], enough.loaded) == (0, 8)
    assert (short.error[6], short.loaded) == (-ENOMEM, 7)  # what reclaim wins is the page that is to be copied
