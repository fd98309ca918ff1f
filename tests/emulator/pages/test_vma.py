"""VMAs as a list and a tree: whatever comes and goes, in whatever order, and the most that an mm may have."""

import random

import pytest
from support import BASE, PLAIN, at_rest

from emulator.checks import Frozen, vmas
from emulator.mm_types import MAX_MAP_COUNT, PAGE_SIZE, VMA_LEAF, Geometry
from emulator.uapi import ENOMEM
from workers.programs.program import STOP, fork, mmap, mprotect, mremap_fixed, munmap, touch

PAGE = PAGE_SIZE


def at(number):
    """The address of every other page."""
    return BASE + 2 * number * PAGE


def machine_for(program, vmas_of_an_mm, **sizes):
    """A machine of two mms."""
    return Geometry(**{"mms": 2, "insns": len(program), "vmas": vmas_of_an_mm, "frames": 8192, **sizes})


def orders(count):
    """Numbers upwards, downwards as Linux places maps, from the middle out, and at random."""
    middle = sorted(range(count), key=lambda number: abs(2 * number - count))
    return {
        "up": list(range(count)),
        "down": list(range(count))[::-1],
        "middle": middle,
        "random": random.Random(1).sample(range(count), count),
    }


def addresses(views, geometry):
    """Where the VMAs of mm 0 begin, in the order of its list."""
    return views["vma"]["start"][Frozen(views, geometry).vmas(0)].tolist()


@pytest.mark.parametrize("going", orders(1))
@pytest.mark.parametrize("coming", orders(1))
def test_vmas_that_come_and_go_in_any_order_leave_the_list_and_the_tree_of_those_that_stay(coming, going):
    count = 12 * VMA_LEAF
    goes = orders(count)[going][: count - 5 * VMA_LEAF // 2]
    program = [*(mmap(at(i), PAGE) for i in orders(count)[coming]), *(munmap(at(i), PAGE) for i in goes), STOP]
    geometry = machine_for(program, count + 8)

    with at_rest([program], geometry, "none", PLAIN) as views:
        assert addresses(views, geometry) == [at(i) for i in sorted(set(range(count)) - set(goes))]


def test_an_mm_that_fills_and_empties_for_long_has_leaves_enough():
    rng, there, program = random.Random(2), set(), []
    count = 10 * VMA_LEAF
    for step in range(12 * count):
        filling = step // (2 * count) % 2 == 0
        number = rng.choice((rng.randrange(count), min(there, default=0), max(there, default=0)))
        number = min(max(number + rng.choice((-1, 0, 1)), 0), count - 1)
        if number in there and (not filling or rng.random() < 0.3):
            program.append(munmap(at(number), PAGE))
            there.remove(number)
        elif filling:
            program.append(mmap(at(number), PAGE))
            there.add(number)
    geometry = machine_for([*program, STOP], count + 8)

    with at_rest([[*program, STOP]], geometry, "none", PLAIN) as views:
        assert addresses(views, geometry) == [at(number) for number in sorted(there)]


def test_a_child_has_the_vmas_of_its_parent_and_gives_all_back():
    count = 3 * VMA_LEAF
    child = [*(munmap(at(i), PAGE) for i in range(0, count, 3)), touch(at(1), PAGE)]
    program = [*(mmap(at(i), PAGE) for i in range(count)), touch(at(1), PAGE), fork(len(child)), *child] * 2
    geometry = machine_for([*program, STOP], count + 8)

    with at_rest([[*program, STOP]], geometry) as views:
        assert int(views["cpu"]["errors"][0]) == 0
        assert addresses(views, geometry) == [at(i) for i in range(count)]


@pytest.mark.parametrize("field", ["next", "prev", "start", "end"])
def test_the_check_notices_a_list_that_is_not_what_the_tree_is(field):
    count = 2 * VMA_LEAF
    program = [*(mmap(at(i), PAGE) for i in range(count)), STOP]
    geometry = machine_for(program, count + 8)

    with at_rest([program], geometry, "none", PLAIN) as views:
        rows = Frozen(views, geometry).vmas(0)
        views["vma"][field][rows[VMA_LEAF]] = {
            "next": rows[VMA_LEAF + 2],
            "prev": rows[VMA_LEAF - 2],
            "start": at(VMA_LEAF) - PAGE,
            "end": at(VMA_LEAF + 1) + PAGE,
        }[field]

        assert vmas(Frozen(views, geometry)) != 0


@pytest.mark.parametrize("field", ["start", "row"])
def test_the_check_notices_a_tree_that_is_not_what_the_list_is(field):
    count = 2 * VMA_LEAF + VMA_LEAF // 2
    program = [*(mmap(at(i), PAGE) for i in range(count)), STOP]
    geometry = machine_for(program, count + 8)

    with at_rest([program], geometry, "none", PLAIN) as views:
        places = views["place"]
        leaf = geometry.mms * geometry.vma_leaves
        for place in (1, leaf + 1, leaf + VMA_LEAF):  # of the directory, and the ends of the first leaf
            was, places[field][place] = int(places[field][place]), int(places[field][place]) + 1
            assert vmas(Frozen(views, geometry)) != 0, place
            places[field][place] = was


FULL = MAX_MAP_COUNT + 1  # mmap asks whether there are more than MAX_MAP_COUNT: so many it lets be


def test_an_mm_has_as_many_vmas_as_linux_allows_and_no_more():
    program = [
        mmap(BASE - 4 * PAGE, 3 * PAGE),
        *(mmap(at(i), PAGE) for i in range(FULL - 1)),
        *(refused := [mmap(at(FULL), PAGE), munmap(BASE - 3 * PAGE, PAGE), mprotect(BASE - 3 * PAGE, PAGE, "r")]),
        *(done := [mprotect(BASE - 4 * PAGE, 3 * PAGE, "r"), munmap(BASE - 4 * PAGE, PAGE), munmap(at(7), PAGE)]),
        *(again := [mmap(at(FULL), PAGE), mremap_fixed(at(8), PAGE, at(FULL + 1))]),
        STOP,
    ]
    geometry = machine_for(program, MAX_MAP_COUNT + 4, tables=4096)

    with at_rest([program], geometry, "none", PLAIN) as views:
        errors = views["record"]["error"].tolist()
        count = int(views["mm"]["vmas"][0])
        short = int(views["cpu"]["oom"][0])

    expected = [-ENOMEM] * len(refused) + [0] * len(done) + [0, -ENOMEM]
    assert len(expected) == len(refused) + len(done) + len(again)
    assert not any(errors[:FULL])
    assert errors[FULL : FULL + len(expected)] == expected
    assert (count, short) == (FULL, 0)


def test_at_the_most_vmas_an_mprotect_that_merges_needs_none_more():
    low = at(0) - 8 * PAGE
    program = [
        mmap(low, 2 * PAGE, writable=False),
        mmap(low + 2 * PAGE, 2 * PAGE),
        *(mmap(at(i), PAGE) for i in range(1, FULL - 1)),
        mprotect(low + 2 * PAGE, PAGE, "r"),
        mprotect(low + 2 * PAGE, PAGE, "rw"),
        mprotect(low + 3 * PAGE, PAGE, "rwx"),
        STOP,
    ]
    geometry = machine_for(program, MAX_MAP_COUNT + 4, tables=4096)

    with at_rest([program], geometry, "none", PLAIN) as views:
        assert views["record"]["error"][FULL : FULL + 3].tolist() == [0, 0, -ENOMEM]
