"""The mappings of a process are what a list of pages says, whatever is done to them."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.imports.space import PAGE, Mapping, Space

PAGES = 24
RANGE = st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES)).map(lambda r: (r[0], min(PAGES, r[0] + r[1])))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["map", "unmap", "protect"]), RANGE, st.integers(0, 3)), max_size=12))
def test_a_space_is_what_a_list_of_pages_says(steps):
    space, pages = Space(), [None] * PAGES
    for what, (first, last), prot in steps:
        start, end = first * PAGE, last * PAGE
        if what == "map":
            space.replace(start, end, [Mapping(start, end, prot)])
            pages[first:last] = [prot] * (last - first)
        elif what == "unmap":
            space.replace(start, end, [])
            pages[first:last] = [None] * (last - first)
        else:
            space.protect(start, end, prot)
            pages[first:last] = [old if old is None else prot for old in pages[first:last]]
        for page in range(PAGES):
            there = space.at(page * PAGE)
            assert (there.prot if there else None) == pages[page]
        assert {page for low, high in space.holes(0, PAGES * PAGE) for page in range(low // PAGE, high // PAGE)} == {
            page for page in range(PAGES) if pages[page] is None
        }
        around = space.around(start, end)
        assert (around is not None) <= (None not in pages[first:last])
    merged = space.merged()
    assert sum(one.end - one.start for one in merged) == PAGE * sum(page is not None for page in pages)
    assert not any(one.joins(other) for one, other in itertools.pairwise(merged))


def test_a_part_of_a_file_keeps_its_offset_where_it_is_cut():
    space = Space()
    space.replace(0, 4 * PAGE, [Mapping(0, 4 * PAGE, 1, file="a", offset=PAGE)])
    space.replace(PAGE, 2 * PAGE, [])
    assert [(one.start, one.offset) for one in space] == [(0, PAGE), (2 * PAGE, 3 * PAGE)]
