"""What the detectors must not take for a violation: lawful histories that look like one."""

import dataclasses

import moved
import pytest
from support import BASE, FAMILIES, SLOT, at_rest, geometry_for, in_engine, race

from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.uapi import MADV_COLLAPSE, MADV_PAGEOUT
from workers.programs.program import (
    DEVICE_REMOVE,
    STOP,
    advise,
    dontneed,
    fork_as,
    in_child,
    load,
    mmap,
    mmap_device,
    mremap_fixed,
    munmap,
    store,
)
from workers.programs.random_programs import DEVICE_PAGE, SETUP

CLEAN = ({}, None)


def errors_of(program, **sizes):
    """One CPU on a machine with little of something, in which nothing is found: the errors counted."""
    with at_rest([program], Geometry(insns=len(program), **sizes)) as views:
        return int(views["cpu"]["errors"].sum())


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_page_that_the_driver_took_away_is_not_a_lost_store(policy):
    program = [*SETUP, mmap_device(DEVICE_PAGE), dontneed(DEVICE_PAGE, PAGE_SIZE)]  # makes room for a page of our own
    program += [store(DEVICE_PAGE, 7), DEVICE_REMOVE, load(DEVICE_PAGE), STOP]

    assert race([program], policy, online=True) == CLEAN


def test_what_a_munmap_that_failed_left_there_is_not_stale():
    program = [mmap(0, 9 * PAGE_SIZE), munmap(PAGE_SIZE, PAGE_SIZE)]  # two VMAs of three: no room to split one more
    program += [store(4 * PAGE_SIZE, 7), munmap(4 * PAGE_SIZE, PAGE_SIZE), load(4 * PAGE_SIZE), STOP]

    assert errors_of(program, vmas=3) == 1


@pytest.mark.parametrize(("frames", "tables"), [(1, 64), (64, 4)], ids=["no frame", "no table"])
def test_a_device_that_cannot_be_mapped_leaves_neither_frame_nor_reference(frames, tables):
    assert errors_of([mmap_device(DEVICE_PAGE), STOP], frames=frames, tables=tables) == 1


def test_a_page_that_is_moved_away_and_back_while_it_is_migrated_is_not_stale():
    # a detector that is not told by mremap fires within ten executions
    assert in_engine("explore", moved.found, 200) == "inconclusive"


def test_a_page_from_swap_that_nobody_stored_to_is_the_parents_too_wherever_its_child_moves_it():
    there, moved = BASE + PAGE_SIZE, BASE + 2 * SLOT
    program = [
        mmap(BASE, SLOT),
        store(BASE, 1),
        advise(MADV_COLLAPSE, BASE, SLOT),
        advise(MADV_PAGEOUT, there, PAGE_SIZE),
        fork_as(1),
        in_child(1),
        load(there),
        in_child(1),
        mremap_fixed(there, PAGE_SIZE, moved),
        load(there),
        STOP,
    ]
    geometry = dataclasses.replace(geometry_for([program]), mms=2, frames=16384, swap_pages=64)
    with at_rest([program], geometry) as views:
        assert views["record"]["error"].tolist() == [0] * len(program)
