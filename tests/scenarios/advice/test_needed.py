"""Tables that entries need, and mappings that empty ones can belong to: compared with sets of pages.

Covers: scenarios/advice/by_mapping
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scenarios.advice import by_mapping
from scenarios.advice.needed import count, units
from workers.host.page_scan import FILE, GUARD, HUGE, PFNZERO, PRESENT, RANGE, SWAPPED, WRITTEN
from workers.host.process_files import Vma

PAGE, SLOT = 4096, 512  # bytes; pages of a table
ZERO, FRAME, IN_SWAP, GUARDED = PRESENT | PFNZERO, PRESENT, SWAPPED | WRITTEN, SWAPPED | GUARD
LEVELS = (9, 18, 27)  # pages per table, as powers of two


@st.composite
def address_spaces(draw):
    """Mappings as (first page, end page), and the kind of each page that has an entry."""
    borders = sorted(draw(st.sets(st.integers(0, 6 * SLOT), min_size=2, max_size=8)))
    far = draw(st.sampled_from([0, 1 << 18, 1 << 27]))  # the later half in another PMD or PUD table
    borders = [page + far * (i >= len(borders) // 2) for i, page in enumerate(borders)]
    spans = [span for span in pairwise(borders) if span[1] - span[0] <= 6 * SLOT]
    vmas = [span for i, span in enumerate(spans) if i % 3]
    vmas = vmas or [(borders[0], borders[0] + SLOT)]
    pages = {}
    for start, end in vmas:
        for page in draw(st.sets(st.integers(start, end - 1), max_size=6)):
            pages[page] = draw(st.sampled_from([ZERO, FRAME, IN_SWAP, GUARDED]))
    return vmas, pages


def ranges_of(pages):
    """Pages with their kinds as ranges, neighbours of one kind joined as PAGEMAP_SCAN does."""
    rows = []
    for page, kind in sorted(pages.items()):
        if rows and rows[-1][1] == page * PAGE and rows[-1][2] == kind:
            rows[-1][1] += PAGE
        else:
            rows.append([page * PAGE, (page + 1) * PAGE, kind])
    return np.array([tuple(row) for row in rows], RANGE)


def vmas_of(spans, **more):
    return [Vma(start * PAGE, end * PAGE, "rw-p", 0, "", **more) for start, end in spans]


def slots(span):
    return set(range(span[0] // SLOT, (span[1] - 1) // SLOT + 1))


@given(address_spaces())
def test_needed_tables_are_those_of_the_pages_level_by_level(space):
    vmas, pages = space
    needed = count(ranges_of(pages), vmas_of(vmas))

    assert [needed.pte, needed.pmd, needed.pud] == [len({page >> level for page in pages}) for level in LEVELS]
    assert (needed.deposited, needed.pages) == (0, len(pages))
    kinds = {}
    for page, kind in pages.items():
        kinds.setdefault(page // SLOT, set()).add(kind)
    alone = [next(iter(found)) for found in kinds.values() if len(found) == 1]
    assert (needed.only_zero, needed.only_swap, needed.only_guard) == (
        *(alone.count(ZERO), alone.count(IN_SWAP)),
        alone.count(GUARDED),
    )
    assert needed.only_mixed == sum(len(found) > 1 and FRAME not in found for found in kinds.values())


@given(address_spaces(), st.data())
def test_the_empty_tables_of_a_mapping_lie_within_its_bounds(space, data):
    vmas, pages = space
    used = {page // SLOT for page in pages}
    possible = sorted(set().union(*map(slots, vmas)) - used)
    empty = data.draw(st.sets(st.sampled_from(possible))) if possible else set()
    ranges, mapped = ranges_of(pages), vmas_of(vmas)

    room = by_mapping.empty_slots(ranges, mapped)
    assert room == len(possible)
    found = by_mapping.bounded(by_mapping.mappings(ranges, mapped), len(empty), len(empty), room)
    for span, one in zip(vmas, found, strict=True):
        assert (one.slots, one.used) == (len(slots(span)), len(slots(span) & used))
        assert one.pages == sum(span[0] <= page < span[1] for page in pages)
        assert one.may_waste_low <= len(empty & slots(span)) <= one.may_waste_high


@given(address_spaces())
def test_empty_upper_tables_are_those_of_mappings_without_entries(space):
    vmas, pages = space
    for_mappings = [
        set().union(*(range(start >> level, (end - 1 >> level) + 1) for start, end in vmas)) for level in LEVELS[1:]
    ]
    with_entries = [{page >> level for page in pages} for level in LEVELS[1:]]

    found = by_mapping.empty_upper(ranges_of(pages), vmas_of(vmas))
    assert found == sum(len(all_ - used) for all_, used in zip(for_mappings, with_entries, strict=True))


def test_an_anonymous_huge_page_deposits_a_table_and_a_files_does_not():
    ranges = np.array([(0, 4 << 20, PRESENT | HUGE), (4 << 20, 6 << 20, PRESENT | HUGE | FILE)], RANGE)

    needed = count(ranges, vmas_of([(0, 1536)]))
    assert (needed.pte, needed.deposited, needed.pmd, needed.pud) == (0, 2, 1, 1)


def test_hugetlb_pages_of_two_sizes_need_the_tables_above_their_entries():
    two = vmas_of([(0, 512)], flags=frozenset({"ht"}), page_size=2048)
    gib = vmas_of([(1 << 18, 2 << 18)], flags=frozenset({"ht"}), page_size=1 << 20)
    ranges = np.array([(0, 2 << 20, PRESENT | HUGE), (1 << 30, 2 << 30, PRESENT | HUGE)], RANGE)

    needed = count(ranges, [*two, *gib])
    assert (needed.pte, needed.deposited, needed.pmd, needed.pud) == (0, 0, 1, 1)


def test_a_range_that_goes_on_into_a_hugetlb_mapping_is_told_apart():
    anonymous = vmas_of([(0, 1024)])
    huge = vmas_of([(1024, 2048)], flags=frozenset({"ht"}), page_size=2048)
    ranges = np.array([(0, 8 << 20, PRESENT | HUGE)], RANGE)

    assert count(ranges, [*anonymous, *huge]).deposited == 2


def test_nothing_needs_nothing():
    nothing = np.empty(0, RANGE)

    assert count(nothing, []).tables == units(nothing, 21) == 0
