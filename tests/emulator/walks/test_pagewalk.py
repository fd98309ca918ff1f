"""What reads and clears bits through a page walk: smaps, pagemap, clear_refs; the charge that a walk moves.

Covers: emulator/pages/memcontrol, emulator/walks/change_ptes, emulator/walks/task_mmu
"""

import dataclasses

import pytest
from support import BASE, FAMILIES, SLOT, at_rest, geometry_for, race

from emulator.mm_types import PAGE_SIZE, SMAPS
from emulator.syscalls import madvise
from emulator.uapi import PM_FILE, PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_SOFT_DIRTY, PM_SWAP
from workers.programs.program import (
    REAP,
    STOP,
    advise,
    barrier,
    clear_refs,
    dontneed,
    fork,
    jump,
    mmap,
    mmap_file,
    move_charge,
    mprotect,
    mremap_fixed,
    munmap,
    pagemap,
    read,
    smaps,
    touch,
    writeback,
)

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT
CLEAN = ({}, None)


class Walked:
    """What one CPU left: sums of its SMAPS, the word it loaded, charges of the groups, faults and errors."""

    def __init__(self, program, policy="refcount", swap_pages=0):
        geometry = dataclasses.replace(geometry_for([program]), swap_pages=swap_pages)
        with at_rest([program], geometry, policy) as views:
            self.sums = {name: int(views["smaps"][name][0]) for name in SMAPS.comments}
            self.word = int(views["cpu"]["loaded"][0])
            self.charged = [int(pages) for pages in views["memcg"]["charged"]]
            self.faults, self.errors = int(views["cpu"]["faults"][0]), int(views["cpu"]["errors"][0])
            self.freed = int(views["cpu"]["tables_freed"][0])


@pytest.mark.parametrize("policy", FAMILIES)
def test_smaps_counts_pages_by_kind_in_all_vmas_of_a_range(policy):
    anonymous = [mmap(BASE, SLOT), touch(BASE, 3 * PAGE), read(BASE + 8 * PAGE, 2 * PAGE)]
    file = [mmap_file(BASE + SLOT, 8 * PAGE, 0), read(BASE + SLOT, 5 * PAGE), touch(BASE + SLOT, PAGE)]
    guard = [advise(madvise.MADV_GUARD_INSTALL, BASE + 20 * PAGE, PAGE)]

    sums = Walked([*anonymous, *file, *guard, smaps(BASE, 2 * SLOT), STOP], policy).sums

    assert (sums["rss"], sums["anonymous"], sums["shared"], sums["swap"]) == (8, 4, 0, 0)


def test_smaps_sees_what_fork_shares():
    program = [
        mmap(BASE, SLOT),
        touch(BASE, 4 * PAGE),
        fork(hold=True),
        touch(BASE, PAGE),
        smaps(BASE, SLOT),
        REAP,
        STOP,
    ]

    sums = Walked(program).sums

    assert (sums["rss"], sums["shared"]) == (4, 3)


@pytest.mark.parametrize("policy", FAMILIES)
def test_smaps_and_pagemap_tell_a_page_in_swap_from_none(policy):
    out = [mmap(BASE, SLOT), touch(BASE, 8 * PAGE), advise(madvise.MADV_PAGEOUT, BASE, 3 * PAGE)]

    walked = Walked([*out, smaps(BASE, SLOT), pagemap(BASE, PAGE), STOP], policy, swap_pages=64)

    assert (walked.sums["rss"], walked.sums["swap"], walked.word) == (5, 3, PM_SWAP)


def test_what_is_not_used_after_clear_refs_is_not_referenced():
    program = [mmap(BASE, SLOT), touch(BASE, 8 * PAGE), clear_refs(BASE, SLOT), read(BASE, 3 * PAGE), smaps(BASE, SLOT)]

    walked = Walked([*program, STOP])

    assert (walked.sums["referenced"], walked.sums["dirty"], walked.faults) == (3, 8, 8)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_store_after_clear_refs_is_a_fault_and_makes_soft_dirty(policy):
    program = [mmap(BASE, SLOT), touch(BASE, 8 * PAGE), clear_refs(BASE, SLOT, soft_dirty=True)]
    store = [mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw"), touch(BASE, 2 * PAGE)]

    clean, walked = (Walked([*program, *rest, smaps(BASE, SLOT), STOP], policy) for rest in ([], store))

    assert (clean.sums["soft_dirty"], clean.sums["dirty"], clean.faults) == (0, 8, 8)
    assert (walked.sums["soft_dirty"], walked.faults) == (2, 10)


def test_a_shared_page_of_a_file_that_clear_refs_has_protected_is_written_back_after_the_next_store():
    setup = [mmap_file(BASE, PAGE, 0, shared=True), touch(BASE, PAGE), clear_refs(BASE, PAGE, soft_dirty=True)]

    assert Walked([*setup, touch(BASE, PAGE, value=3), writeback(0), pagemap(BASE, PAGE), STOP]).word & PM_SOFT_DIRTY


def test_pagemap_has_the_frame_and_its_bits_or_nothing():
    at = [mmap(BASE, SLOT), touch(BASE, PAGE), mmap_file(OTHER, PAGE, 0), read(OTHER, PAGE)]

    own, file = (
        Walked([*at, pagemap(BASE, PAGE), STOP]).word,
        Walked([*at, pagemap(BASE, OTHER + PAGE - BASE), STOP]).word,
    )

    assert own & ~0xFFFFF == -(1 << 63) | PM_MMAP_EXCLUSIVE | PM_SOFT_DIRTY
    assert file & ~0xFFFFF == -(1 << 63) | PM_FILE
    assert PM_PRESENT == -(1 << 63)
    assert Walked([*at, pagemap(BASE, 2 * PAGE), STOP]).word == 0
    assert Walked([*at, pagemap(OTHER, SLOT), STOP]).word == 0


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_charge_moves_with_each_walk_and_ends_with_the_page(policy):
    program = [mmap(BASE, SLOT), touch(BASE, 8 * PAGE), move_charge(BASE, SLOT, 3), move_charge(BASE, 2 * PAGE, 5)]

    assert Walked([*program, STOP], policy).charged[1:6] == [0, 0, 6, 0, 2]
    assert Walked([*program, dontneed(BASE + PAGE, 3 * PAGE), STOP], policy).charged[1:6] == [0, 0, 4, 0, 1]
    assert Walked([*program, move_charge(BASE, SLOT, 0), STOP], policy).charged[1:6] == [0] * 5
    assert Walked([*program, munmap(BASE, SLOT), STOP], policy).charged[1:6] == [0] * 5
    assert Walked([*program, move_charge(BASE, SLOT, 99), STOP], policy).errors == 1


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_huge_page_is_looked_at_page_by_page_and_split_by_who_changes_entries(policy):
    huge = [mmap(BASE, SLOT), advise(madvise.MADV_HUGEPAGE, BASE, SLOT), touch(BASE, PAGE)]

    looked = Walked([*huge, smaps(BASE, SLOT), pagemap(BASE, SLOT - PAGE), STOP], policy)
    cleared = Walked(
        [*huge, clear_refs(BASE, PAGE, soft_dirty=True), touch(BASE, SLOT), smaps(BASE, SLOT), STOP], policy
    )
    charged = Walked([*huge, move_charge(BASE, SLOT, 2), dontneed(BASE, 12 * PAGE), STOP], policy)

    assert (looked.sums["rss"], looked.sums["soft_dirty"], looked.faults) == (512, 512, 1)
    assert looked.word & PM_MMAP_EXCLUSIVE
    assert (cleared.sums["soft_dirty"], cleared.faults) == (512, 2)
    assert charged.charged[2] == 500


ROUNDS = 200
WALKS = {
    "smaps": [smaps(BASE, 8 * SLOT)],
    "pagemap": [pagemap(BASE, SLOT)],
    "clear": [clear_refs(BASE, SLOT)],
    "soft-dirty": [clear_refs(BASE, 8 * SLOT, soft_dirty=True)],
    "charge": [move_charge(BASE, SLOT, 1), move_charge(BASE, SLOT, 2)],
}
OTHERS = {
    "release": [dontneed(BASE, SLOT)],
    "unmap": [munmap(BASE, SLOT), mmap(BASE, SLOT)],
    "move": [mremap_fixed(BASE, SLOT, OTHER), mremap_fixed(OTHER, SLOT, BASE)],
    "fork": [fork(1), touch(BASE, 8 * PAGE, value=9)],
    "charge": [move_charge(BASE, SLOT, 3)],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_beside_what_takes_tables_away_raises_no_alarm(walk, other, policy):
    stores = [touch(BASE, 8 * PAGE, value=3), read(BASE, 8 * PAGE)]
    bodies = [WALKS[walk], OTHERS[other], stores]
    loops = [[mmap(BASE, SLOT), barrier(), *body, jump(2, ROUNDS), STOP] for body in bodies]

    assert race(loops, policy, online=True) == CLEAN
