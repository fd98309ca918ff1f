"""One PTE gets another page: KSM merges equal pages, a uprobe replaces one; nobody reads another word afterwards."""

import pytest
from support import BASE, FAMILIES, SLOT, race
from swapping import OTHER, PAGE, PAGES, SOME, run

from emulator.policy.policies import POLICIES
from workers.programs.program import (
    STOP,
    barrier,
    dontneed,
    fork,
    gup,
    jump,
    ksm,
    load,
    migrate,
    mmap,
    mmap_file,
    read,
    store,
    swapout,
    touch,
    uprobe,
)

TWIN = BASE + 5 * PAGE


@pytest.mark.parametrize("policy", FAMILIES)
def test_pages_with_the_same_words_are_one_frame_until_somebody_stores(policy):
    merged = [*SOME, ksm(BASE, TWIN), load(BASE)]

    left = run(merged, policy, frames=PAGES + 2)  # the ninth frame is the one that was given back
    assert (left.loaded, left.anon, left.errors) == (7, PAGES, 0)
    assert run([*merged, mmap(OTHER, SLOT), touch(OTHER, 2 * PAGE)], policy, frames=PAGES + 3, swap_pages=0).errors == 0
    assert run([*merged, store(BASE, 8), load(TWIN)], policy).loaded == 7
    assert run([*merged, dontneed(BASE, PAGE), store(TWIN, 9), load(TWIN)], policy).loaded == 9


def test_pages_that_differ_are_shared_or_are_one_already_stay_as_they_are():
    assert run([*SOME, store(TWIN, 8), ksm(BASE, TWIN), store(BASE, 9), load(TWIN)]).loaded == 8
    assert run([*SOME, fork(1), ksm(BASE, TWIN), ksm(BASE, BASE), load(BASE)]).loaded == 7
    assert run([*SOME, ksm(BASE, OTHER)]).errors == 1


def test_a_merged_page_is_neither_reclaimed_nor_migrated():
    left = run([*SOME, ksm(BASE, TWIN), swapout(100), migrate(BASE), migrate(TWIN), load(TWIN)])

    assert (left.loaded, left.moved, left.swap) == (7, 0, PAGES - 2)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_uprobe_puts_a_copy_in_place_of_a_page(policy):
    left = run([*SOME, uprobe(BASE), load(BASE), store(BASE, 8), load(BASE)], policy)

    assert (left.loaded, left.anon, left.freed, left.errors) == (8, PAGES, 0, 0)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if POLICIES[policy].counted])
def test_a_uprobe_takes_a_page_away_that_holds_what_the_original_does_and_perhaps_the_table(policy):
    zeroes = [mmap(BASE, SLOT), touch(BASE, PAGE, value=0), uprobe(BASE)]
    private = [mmap_file(BASE, PAGE, 0), touch(BASE, PAGE, value=7), touch(BASE, PAGE, value=0), uprobe(BASE)]

    assert (run(zeroes, policy).freed, run(zeroes, policy).anon) == (1, 0)
    left = run(private, policy)
    assert (left.freed, left.anon, left.file) == (1, 0, 0)


RACERS = {
    "release": [dontneed(BASE, SLOT)],
    "fork": [fork(1), touch(BASE, 8 * PAGE, value=9)],
    "device": [gup(BASE, 8 * PAGE, 5)],
    "migrate": [migrate(pages=8)],
    "swap": [swapout(8), read(BASE, 8 * PAGE)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", RACERS)
def test_replacing_another_walker_and_a_cpu_that_stores_raise_no_alarm(other, policy):
    replaces = [ksm(BASE, BASE + PAGE), ksm(BASE + 2 * PAGE, BASE + 3 * PAGE), uprobe(BASE + 4 * PAGE)]
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE)]
    loops = [[mmap(BASE, SLOT), barrier(), *body, jump(2, 200), STOP] for body in (replaces, RACERS[other], stores)]

    assert race(loops, policy, online=True, swap_pages=12) == ({}, None)
