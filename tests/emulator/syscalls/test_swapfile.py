"""swapoff: everything comes back, as far as there is memory for it."""

import pytest
from support import BASE, FAMILIES, SLOT
from swapping import OTHER, PAGE, PAGEOUT, PAGES, SOME, run

from workers.programs.program import (
    SWAPOFF,
    fork,
    load,
    mmap,
    swapout,
    touch,
)


@pytest.mark.parametrize("policy", FAMILIES)
def test_swapoff_brings_everything_back_children_too(policy):
    program = [*SOME, fork(hold=True), touch(BASE, 2 * PAGE, value=8), swapout(100), SWAPOFF, load(BASE + PAGE)]
    left = run(program, policy)

    assert (left.anon, left.swap, left.slots, left.loaded, left.error[5]) == (PAGES, 0, 0, 8, 0)


def test_swapoff_ends_without_memory_and_leaves_what_it_could_not_bring():
    left = run([*SOME, PAGEOUT, mmap(OTHER, SLOT), touch(OTHER, 12 * PAGE), SWAPOFF], frames=16, swap_pages=8)

    assert left.error[5] != 0
    assert 0 < left.swap < PAGES
