"""Anonymous memory in swap: what goes, what comes back, what the entries count, and who may be in the way."""

import pytest
from support import BASE, SLOT, at_rest, race, run_programs

from emulator.checks import audit
from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.pgtable_types import SWAP_ENTRY
from emulator.policy.policies import POLICIES
from emulator.syscalls import madvise
from emulator.uapi import ENOMEM
from workers.machine import Machine
from workers.programs.program import (
    EXIT,
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
    mincore,
    mlock,
    mmap,
    mmap_file,
    mprotect,
    mremap_fixed,
    munlock,
    munmap,
    read,
    store,
    swapout,
    touch,
)

PAGE, OTHER, PAGES = PAGE_SIZE, BASE + 4 * SLOT, 8
COUNTED = [policy for policy in POLICIES if POLICIES[policy].pte_counted]
SOME = [mmap(BASE, SLOT), touch(BASE, PAGES * PAGE, value=7)]
PAGEOUT = advise(madvise.MADV_PAGEOUT, BASE, SLOT)


class Left:
    """What one CPU's program left behind, after the audit found nothing: figures of mm 0, and of the CPU."""

    def __init__(self, program, policy="refcount", **sizes):
        sizes = {"mms": 3, "frames": 8192, "tables": 256, "files": 1, "swap_pages": 64, **sizes}
        with at_rest([program], Geometry(insns=len(program), **sizes), policy) as views:
            cpu, mm, cache = views["cpu"][0], views["mm"][0], views["cache"]
            self.loaded, self.freed, self.errors = (int(cpu[n]) for n in ("loaded", "tables_freed", "errors"))
            self.anon, self.swap, self.file = (int(mm[n]) for n in ("rss_anon", "rss_swap", "rss_file"))
            self.slots = int((cache["swap_map"] != 0).sum())
            self.cached = int((cache["frame"] != 0).sum())
            self.error = [int(error) for error in views["record"]["error"]]
            self.moved = int(cpu["migrated"])


def run(program, policy="refcount", **sizes):
    """Run a program and stop."""
    return Left([*program, STOP], policy, **sizes)


@pytest.mark.parametrize("policy", POLICIES)
def test_pages_that_go_to_swap_keep_their_entries_and_come_back_with_their_words(policy):
    away, back = run([*SOME, PAGEOUT], policy), run([*SOME, PAGEOUT, load(BASE + 3 * PAGE)], policy)

    assert (away.anon, away.swap, away.slots, away.cached, away.freed) == (0, PAGES, PAGES, 0, 0)
    assert (back.anon, back.swap, back.slots, back.loaded) == (1, PAGES - 1, PAGES - 1, 7)


def test_without_swap_pages_stay_and_a_full_swap_takes_no_more():
    assert run([*SOME, PAGEOUT, swapout(100)], swap_pages=0).anon == PAGES
    assert run([*SOME, PAGEOUT, swapout(100)], swap_pages=3).swap == 3


@pytest.mark.parametrize("policy", COUNTED)
@pytest.mark.parametrize(
    "clear",
    [dontneed(BASE, SLOT), free(BASE, SLOT), munmap(BASE, SLOT), mmap(BASE, SLOT), mremap_fixed(OTHER, SLOT, BASE)],
    ids=["MADV_DONTNEED", "MADV_FREE", "munmap", "mmap over it", "mremap over it"],
)
def test_the_last_swap_entry_that_is_cleared_frees_its_table_and_its_slot(policy, clear):
    left = run([mmap(OTHER, SLOT), *SOME, PAGEOUT, clear], policy)

    assert (left.swap, left.slots, left.cached, left.freed) == (0, 0, 0, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_child_shares_what_is_in_swap_and_both_have_their_own_once_they_store(policy):
    child = [fork(2, hold=True), store(BASE, 8), load(BASE + PAGE), load(BASE), store(BASE, 9), REAP, load(BASE)]
    kept = [fork(1, hold=True), load(BASE + PAGE), dontneed(BASE, SLOT), REAP]

    assert run([*SOME, PAGEOUT, *child], policy).loaded == 9
    left = run([*SOME, PAGEOUT, *kept], policy)
    assert (left.swap, left.slots, left.loaded, left.cached) == (0, 0, 7, 0)


@pytest.mark.parametrize("policy", POLICIES)
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


@pytest.mark.parametrize("policy", POLICIES)
def test_swapoff_brings_everything_back_children_too(policy):
    program = [*SOME, fork(hold=True), touch(BASE, 2 * PAGE, value=8), swapout(100), SWAPOFF, load(BASE + PAGE)]
    left = run(program, policy)

    assert (left.anon, left.swap, left.slots, left.loaded, left.error[5]) == (PAGES, 0, 0, 8, 0)


def test_swapoff_ends_without_memory_and_leaves_what_it_could_not_bring():
    left = run([*SOME, PAGEOUT, mmap(OTHER, SLOT), touch(OTHER, 12 * PAGE), SWAPOFF], frames=16, swap_pages=8)

    assert left.error[5] != 0
    assert 0 < left.swap < PAGES


def test_willneed_reads_into_the_swap_cache_and_mincore_sees_that():
    ahead = [*SOME, PAGEOUT, advise(madvise.MADV_WILLNEED, BASE, 4 * PAGE), mincore(BASE, SLOT)]

    assert run([*SOME, PAGEOUT, mincore(BASE, SLOT)]).loaded == 0
    left = run(ahead)
    assert (left.loaded, left.cached, left.swap) == (4, 4, PAGES)
    assert run([*ahead, read(BASE, SLOT)]).cached == 0


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


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("odd", [PAGE, 5 * PAGE, SLOT - PAGE], ids=lambda odd: f"{odd // PAGE} pages off")
def test_what_is_left_of_a_huge_page_is_forgotten_in_runs_and_each_table_put_for_its_own(policy, odd):
    huge = [mmap(BASE, SLOT), advise(madvise.MADV_HUGEPAGE, BASE, SLOT), touch(BASE, SLOT), mmap(OTHER, 2 * SLOT)]
    program = [*huge, mremap_fixed(BASE, SLOT, OTHER + odd), free(OTHER, 2 * SLOT), swapout(1)]

    some, all_ = run(program, policy, swap_pages=0), run([*program[:-1], swapout(512)], policy, swap_pages=0)

    assert some.anon == 512 - 32
    assert all_.anon == 0


def test_memory_that_runs_out_goes_to_swap_if_there_is_any():
    program = [mmap(BASE, SLOT), touch(BASE, 60 * PAGE, value=7), read(BASE, 60 * PAGE), load(BASE)]

    left = run(program, frames=40)
    assert (left.errors, left.loaded) == (0, 7)
    assert left.anon + left.swap == 60
    assert run(program, frames=40, swap_pages=0).errors != 0


def test_a_store_to_a_shared_page_in_swap_needs_two_frames_and_with_one_it_ends_out_of_memory():
    def stored(others):
        program = [mmap(BASE, SLOT), mmap(OTHER, SLOT), touch(BASE, PAGES * PAGE, value=7), fork(hold=True)]
        program += [swapout(100), touch(OTHER, others * PAGE), store(BASE, 8), REAP, load(BASE)]
        return run(program, frames=16, swap_pages=PAGES)

    enough, short = stored(13), stored(14)

    assert (enough.error[6], enough.loaded) == (0, 8)
    assert (short.error[6], short.loaded) == (-ENOMEM, 7)  # what reclaim wins is the page that is to be copied


def test_locked_pages_stay_and_private_copies_of_a_file_go():
    locked = [mlock(BASE, 2 * PAGE), swapout(100)]
    private = [mmap_file(BASE, 4 * PAGE, 0), touch(BASE, 4 * PAGE, value=7), PAGEOUT, load(BASE + PAGE)]

    assert (run([*SOME, *locked]).anon, run([*SOME, *locked, munlock(BASE, SLOT), swapout(100)]).anon) == (2, 0)
    left = run(private)
    assert (left.loaded, left.anon, left.swap, left.file) == (7, 1, 3, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_exit_leaves_no_slot_in_use(policy):
    left = Left([*SOME, fork(hold=True), swapout(5), touch(BASE, 2 * PAGE), swapout(2), EXIT], policy)

    assert (left.swap, left.slots, left.anon) == (0, 0, 0)


@pytest.mark.parametrize(
    ("view", "row", "field"),
    [("cache", -1, "swap_map"), ("mm", 0, "rss_swap"), ("page", 1, "mapping"), ("entry", None, "word")],
)
def test_the_audit_misses_no_swap_entry_slot_or_mapping(view, row, field):
    program = [*SOME, advise(madvise.MADV_PAGEOUT, BASE, PAGE), STOP]
    geometry = Geometry(insns=len(program), frames=64, tables=64, swap_pages=4)
    with Machine(geometry, "refcount") as machine:
        run_programs(machine, [program])
        assert not any(audit(machine.views, geometry).values())
        rows = machine.views[view][field]
        if view == "entry":
            rows[rows & 0xFFF == SWAP_ENTRY] += 1 << 12
        elif view == "page":
            rows[rows != 0] += 1 << 12
        else:
            rows[row] += 1
        assert any(audit(machine.views, geometry)[check] for check in ("swap", "rss", "rmap"))


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
