"""VMAs of files: moved, locked, populated, guarded, written back by range; and what Linux makes of each in a trace.

Covers: emulator/pages/rmap, emulator/syscalls/file_advice, emulator/syscalls/mlock
"""

import dataclasses

import pytest
from support import BASE, FAMILIES, PLAIN, SLOT, at_rest, geometry_for, race

from emulator.checks import Frozen, i_mmap
from emulator.mm_types import PAGE_SIZE
from emulator.syscalls import madvise
from emulator.uapi import EFAULT, EINVAL
from scenarios.traces.replay import run_replay
from workers.programs.program import (
    EXIT,
    STOP,
    advise,
    barrier,
    dontneed,
    fork,
    jump,
    load,
    mincore,
    mlock,
    mmap_file,
    mprotect,
    mremap,
    mremap_fixed,
    msync,
    munlock,
    munmap,
    punch_hole,
    read,
    remove,
    store,
    touch,
    truncate,
    writeback,
)

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT
CLEAN = ({}, None)


class After:
    """What one CPU left: errors and faults of its instructions, cpu.loaded, and figures of the files and of mm 0."""

    def __init__(self, program, policy="refcount", **machine):
        geometry = dataclasses.replace(geometry_for([program]), **machine)
        with at_rest([program], geometry, policy, PLAIN) as views:
            self.errors = [int(error) for error in views["record"]["error"]]
            self.minflt = [int(faults) for faults in views["record"]["minflt"]]
            self.rss = int(views["mm"]["rss_anon"][0]), int(views["mm"]["rss_file"][0])
            self.loaded = int(views["cpu"]["loaded"][0])
            self.cached = int((views["cache"]["frame"] != 0).sum())
            self.dirty = [int(page) for page in views["cache"]["dirty"].nonzero()[0]]
            self.disk = int(views["disk"]["word"][0])
            self.links = int((views["vma"]["file"][Frozen(views, geometry).vmas(0)] == 1).sum())
            self.freed = int(views["cpu"]["tables_freed"][0])


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("length", "to"),
    [(PAGE, BASE + 8 * PAGE), (4 * PAGE, OTHER + PAGE), (SLOT, OTHER), (SLOT, OTHER + PAGE)],
    ids=["in the table", "to another", "whole table", "over a border"],
)
def test_a_page_of_a_file_moves_with_its_link(policy, shared, length, to):
    program = [mmap_file(BASE, length, 0, shared), store(BASE, 7), mremap_fixed(BASE, length, to), load(to)]
    written = [*program, writeback(0), STOP]
    cut = [*program, truncate(0, 0), load(to), STOP]

    after = After(written, policy)
    assert (after.loaded, after.links, after.errors[:4]) == (7, 1, [0] * 4)
    assert after.disk == (7 if shared else 0)
    assert after.rss == ((0, 1) if shared else (1, 0))

    after = After(cut, policy)
    assert (after.rss, after.cached, after.errors[5] != 0) == ((0, 0), 0, True)


def test_a_mapping_that_grows_in_place_is_linked_as_a_whole():
    program = [mmap_file(BASE, PAGE, 0, shared=True), mremap(BASE, PAGE, 4 * PAGE), touch(BASE, 4 * PAGE)]

    after = After([*program, truncate(0, 1), STOP])

    assert (after.errors[1], after.links, after.rss) == (0, 1, (0, 1))


@pytest.mark.parametrize("policy", FAMILIES)
def test_mlock_copies_private_pages_and_maps_shared_ones(policy):
    private = [mmap_file(BASE, 8 * PAGE, 0), mlock(BASE, 8 * PAGE), dontneed(BASE, 8 * PAGE), STOP]
    shared = [mmap_file(BASE, 8 * PAGE, 0, shared=True), mlock(BASE, 8 * PAGE), remove(BASE, PAGE), STOP]

    assert After(private, policy).rss == (8, 0)
    assert After(shared, policy).rss == (0, 8)
    assert After(private, policy).errors[:3] == [0, 0, -EINVAL]
    assert After(shared, policy).errors[:3] == [0, 0, -EINVAL]


def test_populate_reads_or_makes_dirty_and_fails_past_the_end():
    at = [mmap_file(BASE, 8 * PAGE, 0, shared=True, page=60)]
    populate = [advise(advice, BASE, 8 * PAGE) for advice in (madvise.MADV_POPULATE_READ, madvise.MADV_POPULATE_WRITE)]

    reads, writes = After([*at, populate[0], STOP]), After([*at, populate[1], STOP])

    assert (reads.errors[1], reads.rss, reads.dirty) == (-EFAULT, (0, 4), [])
    assert (writes.errors[1], writes.rss, writes.dirty) == (-EFAULT, (0, 4), [60, 61, 62, 63])


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_guard_in_a_file_stays_when_the_file_is_cut_and_goes_to_children(policy):
    program = [
        mmap_file(BASE, 4 * PAGE, 0, shared=True),
        touch(BASE, 4 * PAGE),
        advise(madvise.MADV_GUARD_INSTALL, BASE, PAGE),
        load(BASE),
        truncate(0, 0),
        truncate(0, 64),
        load(BASE),
        fork(1),
        load(BASE),
        advise(madvise.MADV_GUARD_REMOVE, BASE, PAGE),
        load(BASE),
        STOP,
    ]

    errors = After(program, policy).errors

    assert [errors[at] for at in (2, 3, 6, 7, 9, 10)] == [0, -EFAULT, -EFAULT, -EFAULT, 0, 0]


def test_a_child_may_store_to_shared_pages_that_it_got_with_a_guard():
    setup = [mmap_file(BASE, 4 * PAGE, 0, shared=True), touch(BASE, 4 * PAGE)]
    child = [fork(1), store(BASE, 9), load(BASE), writeback(0), store(BASE, 8), writeback(0), STOP]

    after = After([*setup, advise(madvise.MADV_GUARD_INSTALL, BASE + PAGE, PAGE), *child])

    assert (after.loaded, after.disk) == (9, 8)
    assert after.minflt[6] == after.minflt[2]  # neither side was write-protected


def test_advice_that_linux_refuses_for_files_is_refused():
    program = [mmap_file(BASE, 4 * PAGE, 0)]
    program += [advise(advice, BASE, PAGE) for advice in (madvise.MADV_FREE, madvise.MADV_WIPEONFORK)]

    assert After([*program, STOP]).errors[1:3] == [-EINVAL, -EINVAL]


def test_the_first_store_to_shared_memory_is_noticed_in_a_file_only():
    program = [mmap_file(BASE, 4 * PAGE, 0, shared=True), read(BASE, 4 * PAGE), touch(BASE, 4 * PAGE), STOP]

    assert After(program).minflt[1:3] == [4, 8]
    assert After(program, shmem=2).minflt[1:3] == [4, 4]


def test_mprotect_gives_the_right_to_store_back_to_dirty_pages_alone():
    program = [mmap_file(BASE, 2 * PAGE, 0, shared=True), store(BASE, 1), load(BASE + PAGE)]
    program += [mprotect(BASE, 2 * PAGE, "r"), mprotect(BASE, 2 * PAGE, "rw"), store(BASE, 2), store(BASE + PAGE, 2)]

    after = After([*program, STOP])

    assert [after.minflt[at] for at in (4, 5, 6)] == [2, 2, 3]


def test_mincore_asks_the_page_cache_and_willneed_fills_it():
    cached = [
        mmap_file(BASE, 8 * PAGE, 0),
        read(BASE, 3 * PAGE),
        dontneed(BASE, 8 * PAGE),
        mincore(BASE, 8 * PAGE),
        STOP,
    ]
    ahead = [mmap_file(BASE, 8 * PAGE, 0, page=60), advise(madvise.MADV_WILLNEED, BASE, 8 * PAGE)]

    assert After(cached).loaded == 3
    assert After([*ahead, mincore(BASE, 8 * PAGE), STOP]).loaded == 4
    assert After([*ahead, read(BASE, 4 * PAGE), STOP]).minflt[2] == 1
    assert After([*ahead, STOP], shmem=2).cached == 0


def test_msync_writes_the_pages_of_its_range_if_they_are_shared():
    program = [mmap_file(BASE, 8 * PAGE, 0, shared=True), touch(BASE, 8 * PAGE), msync(BASE + 2 * PAGE, 3 * PAGE), STOP]

    assert After(program).dirty == [0, 1, 5, 6, 7]


MOVES = {
    "pages": [mremap_fixed(BASE, 8 * PAGE, OTHER + PAGE), mremap_fixed(OTHER + PAGE, 8 * PAGE, BASE)],
    "table": [mremap_fixed(BASE, SLOT, OTHER), mremap_fixed(OTHER, SLOT, BASE)],
    "lock": [mlock(BASE, 8 * PAGE), munlock(BASE, 8 * PAGE)],
    "populate": [advise(madvise.MADV_POPULATE_WRITE, BASE, 8 * PAGE), dontneed(BASE, SLOT)],
    "fork": [fork(1), touch(BASE, 8 * PAGE, value=9)],
    "guard": [advise(madvise.MADV_GUARD_INSTALL, BASE, 2 * PAGE), advise(madvise.MADV_GUARD_REMOVE, BASE, 2 * PAGE)],
}
WALKERS = {
    "writeback": [writeback(0)],
    "truncate": [truncate(0, 2), truncate(0, 64)],
    "hole": [punch_hole(0, 1, 4)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("walker", WALKERS)
@pytest.mark.parametrize("move", MOVES)
def test_who_walks_i_mmap_finds_every_entry_beside_a_cpu_that_moves_them(move, walker, policy):
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE), touch(OTHER, 9 * PAGE, value=4)]
    programs = [MOVES[move], WALKERS[walker], stores]
    loops = [[mmap_file(BASE, SLOT, 0, shared=True), barrier(), *body, jump(2, 150), STOP] for body in programs]

    assert race(loops, policy, online=True) == CLEAN


def test_everything_goes_at_exit_wherever_it_was_moved():
    program = [mmap_file(BASE, SLOT, 0, shared=True), touch(BASE, 8 * PAGE), mremap_fixed(BASE, SLOT, OTHER)]

    after = After([*program, munmap(OTHER, PAGE), EXIT])

    assert (after.links, after.rss) == (0, (0, 0))


def test_munmap_takes_the_lock_of_the_file_that_it_unmaps_and_no_others():
    program = [mmap_file(BASE, 4 * PAGE, 1), touch(BASE, PAGE), munmap(BASE + PAGE, PAGE), munmap(BASE, SLOT), STOP]
    geometry = dataclasses.replace(geometry_for([program]), files=3)

    with at_rest([program], geometry, "refcount", PLAIN) as views:
        first = geometry.slots + geometry.files  # the i_mmap_lock of file 0
        assert (views["mutex"]["seq"][first : first + geometry.files] != 0).tolist() == [False, True, False]


def test_a_vma_that_is_split_and_merged_again_is_in_the_list_of_its_file_as_often_as_it_is_there():
    parts = [mprotect(BASE + PAGE, PAGE, "r"), mprotect(BASE + 3 * PAGE, PAGE, "r")]
    whole = [mprotect(BASE + PAGE, PAGE, "rw"), mprotect(BASE + 3 * PAGE, PAGE, "rw")]
    program = [mmap_file(BASE, 5 * PAGE, 0), touch(BASE, 5 * PAGE), *parts]

    assert After([*program, STOP]).links == 5
    assert After([*program, *whole, STOP]).links == 1


@pytest.mark.parametrize(("view", "field"), [("vma", "i_mmap_next"), ("vma", "i_mmap_prev"), ("file", "i_mmap_last")])
def test_the_check_notices_a_list_of_a_file_that_lacks_a_vma(view, field):
    program = [*(mmap_file(BASE + 2 * i * PAGE, PAGE, 0) for i in range(4)), STOP]
    geometry = geometry_for([program])

    with at_rest([program], geometry, "none", PLAIN) as views:
        rows = Frozen(views, geometry).vmas(0)
        at = 0 if view == "file" else rows[1]
        views[view][field][at] = {"i_mmap_next": rows[3], "i_mmap_prev": 0, "i_mmap_last": rows[2]}[field]

        assert i_mmap(Frozen(views, geometry)) != 0


TRACES = {
    "private file, moved, forked": """
        mmapfile 0 4M              |   0     0     0    0
        read 0 0 1M                |  12     0   256    0
        touch 0 0 512K             |  12   512   384    0
        mremapmv 0 0 4M 1 0        |  12   512   384    0
        fork                       |  12   512   384    0   12:512:0
        forkdo touch 1 0 1M        |  12   512   384    0   12:1024:256
        munmap 1 0 4M              |   0     0   384    0
    """,
    "shared memory, moved by tables and by pages": """
        mmapsh 0 8M                |   0     0     0    0
        touch 0 0 4M               |  16     0  1024    0
        mremapmv 0 0 2M 1 0        |  20     0  1024    0
        mremapmv 0 2M 1M 1 2M      |  24     0  1024    0
        touch 1 0 3M               |  24     0  1024    0
        fork                       |  24     0  1024    0   0:0:0
        forkdo touch 1 0 3M        |  24     0  1024    0   16:0:768
        remove 1 0 1M              |  24     0  1024    0
        touch 1 0 1M               |  24     0  1280    0
    """,
    "populate and mlock": """
        mmapfile 0 4M              |   0     0     0    0
        mlock 0 0 1M               |  12  1024   256    0
        dontneed 0 0 1M            |  12  1024   256  -22
        munlock 0 0 1M             |  12  1024   256    0
        populate 0 1M 1M           |  12  2048   512    0
        populate_read 0 2M 1M      |  16  2048   768    0
        mmapsh 1 4M                |  16  2048   768    0
        populate_read 1 0 1M       |  24  2048  1024    0
        touch 1 0 1M               |  24  2048  1024    0
        mlock 1 0 2M               |  24  2048  1280    0
        remove 1 0 1M              |  24  2048  1280  -22
        munlock 1 0 2M             |  24  2048  1280    0
        remove 0 0 1M              |  24  2048  1280  -13
    """,
    "guards": """
        mmapsh 0 4M                |   0     0     0    0
        touch 0 0 1M               |  12     0   256    0
        guard 0 0 4K               |  12     0   256    0
        touch 0 0 4K               |  12     0   256  -14
        fork                       |  12     0   256    0   12:0:0
        populate 0 0 8K            |  12     0   256  -14
        unguard 0 0 4K             |  12     0   256    0
        touch 0 0 4K               |  12     0   257    0
        guard 0 2M 2M              |  16     0   257    0
        free 0 0 4K                |  16     0   257  -22
        wipeonfork 0 0 4K          |  16     0   257  -22
    """,
    "what is cached comes sixteen pages at a time": """
        mmapfile 0 2M              |   0     0     0    0
        read 0 0 2M                |  12     0   512    0
        dontneed 0 0 4K            |  12     0   512    0
        read 0 0 4K                |  12     0   513    0
        dontneed 0 4K 1M           |  12     0   513    0
        read 0 0 2M                |  12     0   530    0
        cold 0 0 2M                |  12     0   530    0
        pageout 0 0 2M             |  12     0   530    0
        willneed 0 0 2M            |  12     0   530    0
    """,
    "pageout unmaps what is shared, and frees what is clean": """
        mmapsh 0 2M                |   0     0     0    0
        touch 0 0 1M               |  12     0   256    0
        pageout 0 0 1M             |  12     0   256    0
        touch 0 0 1M               |  12     0   512    0
        mmapfile 1 2M              |  12     0   512    0
        read 1 0 1M                |  20     0   768    0
        touch 1 0 64K              |  20    64   784    0
        pageout 1 0 1M             |  20    64   784    0
        read 1 0 1M                |  20    64  1024    0
        dontneed 1 0 1M            |  20     0  1024    0
    """,
    "a window of sixteen pages begins where the mapping does": """
        mmapfile 0 2M 4K           |   0     0     0    0
        read 0 4K 1M               |  12     0   256    0
        dontneed 0 4K 1M           |  12     0   256    0
        read 0 4K 64K              |  12     0   257    0
        read 0 68K 4K              |  12     0   258    0
    """,
    "shared memory under mprotect": """
        mmapsh 0 2M                |   0     0     0    0
        read 0 0 1M                |  12     0   256    0
        mprotect 0 0 1M r          |  12     0   256    0
        touch 0 0 4K               |  12     0   256  -14
        mprotect 0 0 1M rw         |  12     0   256    0
        touch 0 0 1M               |  12     0   256    0
        mprotect 0 0 1M none       |  12     0   256    0
        read 0 0 4K                |  12     0   256  -14
    """,
}


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_of_files_costs_what_linux_takes(name, tmp_path):
    lines = [line.partition("|") for line in TRACES[name].strip().splitlines()]
    path = tmp_path / "files.trace"
    path.write_text("".join(f"{text.strip()}\n" for text, _, _ in lines))

    result = run_replay(path)

    assert result.passed
    for row, (text, _, expected) in zip(result.rows, lines, strict=True):
        figures = expected.split()
        assert row.split("\t") == [*figures[:4], figures[4] if len(figures) > 4 else "", text.strip()]
