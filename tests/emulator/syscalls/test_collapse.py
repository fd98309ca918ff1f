"""MADV_COLLAPSE of shared memory: a huge page of a file, who maps it, and what takes it apart.

Covers: emulator/huge/file_leaf
"""

import dataclasses

import pytest
from support import BASE, FAMILIES, ONLINE, SLOT, at_rest, geometry_for

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EFAULT, MADV_COLD, MADV_COLLAPSE, MADV_PAGEOUT
from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    advise,
    barrier,
    dontneed,
    fork,
    gup,
    insert_pages,
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
    touch,
    truncate,
    writeback,
)

PAGE, PAGES = PAGE_SIZE, SLOT // PAGE_SIZE
OTHER = BASE + 4 * SLOT
MAP = mmap_file(BASE, SLOT, 0, shared=True)
COLLAPSE = advise(MADV_COLLAPSE, BASE, SLOT)


def huge(*program, then=(), policy="refcount", instruments=ONLINE):
    """What a huge page of a file and a program leave; `then` is what a second CPU does in the same mm."""
    programs = [[MAP, store(BASE + 8, 7), COLLAPSE, *program, STOP], *([[*then, STOP]] if then else [])]
    geometry = dataclasses.replace(geometry_for(programs), files=1, shmem=1, file_pages=PAGES, frames=16384)
    return at_rest(programs, geometry, policy, instruments)


def outcome(views):
    """Errno and faults of the instructions of CPU 0."""
    return views["record"]["error"].tolist(), views["record"]["minflt"].tolist()


@pytest.mark.parametrize("policy", FAMILIES)
def test_the_table_goes_and_the_contents_stay(policy):
    with huge(read(BASE, SLOT), load(BASE + 8), policy=policy) as views:
        errors, faults = outcome(views)
        assert errors[:5] == [0] * 5
        assert faults[4] == faults[1]  # 512 pages without a fault
        assert views["cpu"]["loaded"][0] == 7
        assert views["mm"]["pgtables_bytes"][0] == 2 * PAGE
        assert views["mm"]["rss_file"][0] == PAGES


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_second_mapping_gets_the_leaf_by_one_fault_and_an_odd_one_pages(policy):
    odd = mmap_file(OTHER + PAGE, SLOT, 0, shared=True)
    again = mmap_file(OTHER, SLOT, 0, shared=True)
    with huge(odd, read(OTHER + PAGE, SLOT, SLOT // 2), again, read(OTHER, SLOT), policy=policy) as views:
        faults = outcome(views)[1]
        assert (faults[4] - faults[3], faults[6] - faults[5]) == (2, 1)


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize(
    "apart",
    [
        [punch_hole(0, 100, 3)],
        [truncate(0, 0), truncate(0, PAGES)],
        [truncate(0, 77)],
        [advise(MADV_PAGEOUT, BASE, PAGE)],
        [advise(MADV_COLD, BASE + PAGE, PAGE)],
        [munmap(BASE + SLOT // 2, PAGE)],
        [mprotect(BASE, PAGE, "r")],
        [dontneed(BASE, PAGE)],
        [mremap_fixed(BASE, SLOT, OTHER)],
        [mremap_fixed(BASE, SLOT // 2, OTHER)],
        [writeback(0)],
        [migrate(BASE), migrate(pages=20)],
        [fork(2), store(BASE, 1), read(BASE, SLOT)],
        [gup(BASE, 4 * PAGE)],
        [gup(BASE, PAGE, 5)],
        [insert_pages(BASE, 4 * PAGE)],
    ],
    ids=lambda program: f"op{program[0].op}-{program[0].arg}-{program[0].length}",
)
def test_whatever_takes_it_apart_leaves_every_count_right(apart, policy):
    with huge(*apart, touch(BASE, SLOT // 4, SLOT // 16), COLLAPSE, read(BASE, SLOT // 4, PAGE * 8), policy=policy):
        pass


def test_pages_that_a_collapse_adds_are_not_counted_for_an_mm_from_which_it_takes_a_file():
    """One call collapses 510 pages, and a file that another mm has mapped: its entry there is cleared."""
    anon, file = OTHER, OTHER + SLOT
    collapse = [
        mmap(anon, SLOT),
        mmap_file(file, SLOT, 0, shared=True),
        touch(anon, 510 * PAGE),
        barrier(),
        advise(MADV_COLLAPSE, anon, 2 * SLOT),
        STOP,
    ]
    programs = [collapse, [MAP, touch(BASE, PAGE), barrier(), STOP]]
    geometry = dataclasses.replace(geometry_for(programs), mms=2, files=1, shmem=1, file_pages=PAGES, frames=16384)
    with at_rest(programs, geometry, mm_of_cpu=[0, 1]) as views:
        assert views["mm"]["rss_anon"].tolist() == [PAGES, 0]
        assert views["mm"]["rss_file"].tolist() == [PAGES, 0]


def test_a_device_stores_to_no_page_of_a_file():
    with huge(gup(BASE, PAGE, 5), load(BASE)) as views:
        assert outcome(views)[0][3] == -EFAULT
        assert views["cpu"]["loaded"][0] == 0


def test_pages_that_were_stored_to_are_found_in_what_a_hole_leaves_of_it():
    with huge(store(BASE + 3 * PAGE, 9), punch_hole(0, 100, 3), load(BASE + 3 * PAGE)) as views:
        assert views["cpu"]["loaded"][0] == 9
        orders = views["cache"]["order"].tolist()
        assert orders[0] == 6  # pages 0 to 63
        assert orders[100:103] == [0, 0, 0]
        assert orders[256] == 8


@pytest.mark.parametrize("policy", ["none", "refcount", "pt-reclaim"])
def test_faults_holes_and_collapse_race_without_a_violation(policy):
    rounds = 30
    program = [barrier(), punch_hole(0, 5, 1), COLLAPSE, dontneed(BASE, SLOT), jump(3, rounds)]
    other = [
        barrier(),
        *(touch(BASE + at * PAGE, PAGE) for at in (0, 5, 300)),
        truncate(0, 300),
        truncate(0, PAGES),
        jump(0, rounds),
    ]
    with huge(*program, then=other, policy=policy, instruments=Instruments(online=True, perturb=16)):
        pass


def test_a_file_that_is_cut_while_others_collapse_it_loses_no_frame_that_is_mapped():
    rounds = 200
    with huge(
        barrier(),
        touch(BASE, SLOT, SLOT // 8),
        COLLAPSE,
        jump(4, rounds),
        then=[barrier(), truncate(0, 300), truncate(0, PAGES), jump(1, rounds)],
        instruments=Instruments(online=True, perturb=8),
    ):
        pass
