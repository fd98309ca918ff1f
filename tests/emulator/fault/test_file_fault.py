"""Memory that maps files: what faults, write-back, truncate and reclaim leave in memory, on disk and in counters.

Covers: emulator/fault/cow, emulator/fault/filemap, emulator/fault/vmf, emulator/pages/pagemap,
emulator/rmap_walks/page_writeback, emulator/syscalls/insert_pages, emulator/syscalls/truncate
"""

import dataclasses

import provoke
import pytest
from support import BASE, FAMILIES, PLAIN, SLOT, at_rest, geometry_for, in_engine

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EBUS, EFAULT
from workers.programs.program import (
    EXIT,
    STOP,
    barrier,
    dontneed,
    insert_pages,
    load,
    mmap_file,
    munmap,
    punch_hole,
    read,
    store,
    touch,
    truncate,
    writeback,
)

PAGES = 64  # of a file


class Left:
    """What a run left: errors of the recorded instructions, cpu.loaded of CPU 0, and copies of some views."""

    def __init__(self, programs, policy="refcount", mm_of_cpu=None, **machine):
        mms = max(mm_of_cpu or [0]) + 1
        geometry = dataclasses.replace(geometry_for(programs, mms), **machine)
        with at_rest(programs, geometry, policy, PLAIN, mm_of_cpu=mm_of_cpu) as views:
            self.errors = [int(error) for error in views["record"]["error"]]
            self.minflt = [int(faults) for faults in views["record"]["minflt"]]
            self.rss_file = [int(pages) for pages in views["mm"]["rss_file"][:mms]]
            self.rss_anon = [int(pages) for pages in views["mm"]["rss_anon"][:mms]]
            self.loaded = int(views["cpu"]["loaded"][0])
            self.cached = int((views["cache"]["frame"] != 0).sum())
            self.dirty = int(views["cache"]["dirty"].sum())
            self.reclaimed = int(views["cpu"]["reclaimed"].sum())
            self.disk = [int(word) for word in views["disk"]["word"][: 4 * 8 : 8]]


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_read_fault_maps_what_is_cached_of_sixteen_pages_around(policy):
    cached = [mmap_file(BASE, 40 * PAGE_SIZE, 0), read(BASE, 40 * PAGE_SIZE), dontneed(BASE, SLOT)]

    left = Left([[*cached, read(BASE + 20 * PAGE_SIZE, PAGE_SIZE), read(BASE, 40 * PAGE_SIZE), STOP]], policy)

    assert left.minflt[3] - left.minflt[2] == 1
    assert left.minflt[4] - left.minflt[3] == 2  # 0-15 and 32-39; 16-31 were mapped around page 20
    assert left.rss_file == [40]
    assert left.rss_anon == [0]


def test_a_store_to_a_private_mapping_copies_and_leaves_the_file_alone():
    program = [
        mmap_file(BASE, PAGE_SIZE, 0, shared=True),
        store(BASE, 7),
        mmap_file(BASE + PAGE_SIZE, PAGE_SIZE, 0),
        load(BASE + PAGE_SIZE),
        store(BASE + PAGE_SIZE, 9),
        load(BASE),
        writeback(0),
        STOP,
    ]

    left = Left([program])

    assert left.loaded == 7
    assert left.disk[0] == 7
    assert (left.rss_file, left.rss_anon) == ([1], [1])


def test_write_back_cleans_and_the_next_store_makes_dirty_again():
    clean = [mmap_file(BASE, PAGE_SIZE, 0, shared=True), store(BASE, 7), writeback(0), STOP]
    again = [*clean[:-1], store(BASE, 8), STOP]

    assert (Left([clean]).dirty, Left([clean]).disk[0]) == (0, 7)
    assert (Left([again]).dirty, Left([again]).disk[0]) == (1, 7)


def test_past_the_end_of_the_file_is_a_bus_error_and_a_read_only_mapping_a_fault():
    program = [
        mmap_file(BASE, 4 * PAGE_SIZE, 0, shared=True, page=PAGES - 2),
        touch(BASE, 2 * PAGE_SIZE),
        touch(BASE, 4 * PAGE_SIZE),
        truncate(0, PAGES - 1),
        touch(BASE, 2 * PAGE_SIZE),
        mmap_file(BASE, PAGE_SIZE, 0, writable=False),
        touch(BASE, PAGE_SIZE),
        STOP,
    ]

    left = Left([program])

    assert left.errors[:7] == [0, 0, -EBUS, 0, -EBUS, 0, -EFAULT]


@pytest.mark.parametrize("policy", FAMILIES)
def test_truncate_unmaps_in_every_mm_copies_too_and_a_hole_leaves_copies(policy):
    def both(cut):
        maps = [mmap_file(BASE, PAGE_SIZE, 0, shared=True), mmap_file(BASE + PAGE_SIZE, PAGE_SIZE, 0)]
        other = [*maps, touch(BASE, 2 * PAGE_SIZE, value=5), barrier(), barrier(), STOP]
        return Left([[barrier(), cut, barrier(), STOP], other], policy, (0, 1))

    cut, hole = both(truncate(0, 0)), both(punch_hole(0, 0, 1))

    assert (cut.rss_file, cut.rss_anon, cut.cached) == ([0, 0], [0, 0], 0)
    assert (hole.rss_file, hole.rss_anon, hole.cached) == ([0, 0], [0, 1], 0)


def test_what_was_truncated_reads_zero_when_the_file_is_long_again():
    program = [
        mmap_file(BASE, PAGE_SIZE, 0, shared=True),
        store(BASE, 7),
        writeback(0),
        truncate(0, 0),
        truncate(0, PAGES),
        load(BASE),
        STOP,
    ]

    left = Left([program])

    assert left.errors[5] == 0
    assert left.loaded == 0
    assert left.disk[0] == 0


def test_a_page_that_was_reclaimed_comes_back_from_the_disk():
    keep = [mmap_file(BASE, PAGE_SIZE, 0, shared=True), store(BASE, 7), writeback(0), munmap(BASE, SLOT)]
    table = [mmap_file(BASE + 2 * SLOT, PAGE_SIZE, 0), load(BASE + 2 * SLOT)]

    left = Left([[*keep, *table, STOP]], memcg_limit=1)

    assert left.reclaimed == 1
    assert left.loaded == 7


def test_pages_of_files_make_room_when_frames_run_out():
    files = [mmap_file(BASE, PAGES * PAGE_SIZE, 0), read(BASE, PAGES * PAGE_SIZE), munmap(BASE, SLOT)]
    anonymous = [mmap_file(BASE + SLOT, PAGES * PAGE_SIZE, 1), touch(BASE + SLOT, PAGES * PAGE_SIZE)]

    left = Left([[*files, *anonymous, STOP]], frames=PAGES + 20)

    assert left.errors[4] == 0
    assert left.reclaimed >= PAGES
    assert left.rss_anon == [PAGES]


def test_a_driver_inserts_what_is_cached_over_two_tables():
    at = BASE + SLOT - PAGE_SIZE
    program = [mmap_file(at, 3 * PAGE_SIZE, 0), read(at, 2 * PAGE_SIZE), dontneed(at, 3 * PAGE_SIZE)]

    left = Left([[*program, insert_pages(at, 3 * PAGE_SIZE), STOP]])

    assert left.rss_file == [2]
    assert left.minflt[3] == left.minflt[2]


def test_exit_takes_the_links_of_the_mm_away_and_leaves_the_pages():
    program = [mmap_file(BASE, 3 * PAGE_SIZE, 0, shared=True), touch(BASE, 3 * PAGE_SIZE), EXIT]

    left = Left([program])

    assert (left.rss_file, left.cached, left.dirty) == ([0], 3, 3)


def test_a_preallocated_table_that_is_forgotten_is_missed_by_the_audit():
    found = in_engine("semaphore", provoke.leaked)

    assert found == {"limbo": 1, "tables": 1}
