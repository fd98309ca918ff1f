"""Write protection by userfaultfd: a store waits, or is a bus error; a marker keeps its table until it goes."""

from dataclasses import replace

import pytest
from support import BASE, FAMILIES, SLOT, at_rest, geometry_for

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import EINVAL, ENOENT, PM_UFFD_WP, VM_UFFD, VM_UFFD_WP, Op
from workers.instruments import Instruments
from workers.programs.program import (
    STOP,
    Insn,
    barrier,
    compute,
    dontneed,
    fork,
    load,
    migrate,
    mlock,
    mmap,
    mprotect,
    mremap_fixed,
    read,
    store,
    swapout,
    touch,
    uffd_copy,
    uffd_register,
    uffd_unregister,
    uffd_writeprotect,
)
from workers.signals import signals_of

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT
COUNTING = ("refcount-lock", "refcount")
PROTECT, FREE = uffd_writeprotect(BASE, SLOT, True), uffd_writeprotect(BASE, SLOT, False)
WATCHED = [mmap(BASE, SLOT), store(BASE, 7), uffd_register(BASE, SLOT, 100, VM_UFFD_WP)]
PROTECTED = Insn(Op.PAGEMAP_COUNT, BASE, SLOT, 0, PM_UFFD_WP)


class Run:
    """Programs to their end under the detectors: errors and words of CPU 0, signals, tables freed."""

    def __init__(self, *programs, policy="refcount", **geometry):
        room = replace(geometry_for(programs), **geometry)
        with at_rest(programs, room, policy, Instruments(online=True)) as views:
            self.errors = [int(error) for error in views["record"]["error"]]
            self.values = [int(value) for value in views["record"]["value"]]
            self.loaded = [int(word) for word in views["cpu"]["loaded"][: len(programs)]]
            self.signals = [(of.cpu, of.first.signal) for of in signals_of(views, room)]
            self.pgtables = int(views["mm"]["pgtables_bytes"][0]) // PAGE


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_store_waits_until_the_protection_goes_and_a_load_does_not(policy):
    monitor = [mmap(BASE, SLOT), store(BASE, 7), uffd_register(BASE, SLOT, 0, VM_UFFD_WP), PROTECT, barrier()]
    writer = [barrier(), load(BASE), store(BASE, 8), load(BASE), STOP]

    run = Run([*monitor, compute(3000), FREE, STOP], writer, policy=policy)

    assert (run.loaded[1], run.signals) == (8, [])


def test_a_store_that_nobody_lets_pass_is_a_bus_error_and_changes_nothing():
    run = Run([*WATCHED, PROTECT, store(BASE, 8), load(BASE), STOP])

    assert (run.signals, run.loaded[0]) == ([(0, "SIGBUS")], 7)


def test_locked_pages_that_may_be_written_again_are_not_brought_to_be_written_while_they_are_protected():
    """mprotect holds mmap_lock for writing, and a fault that waits for userfaultfd lets go of it for reading."""
    run = Run([*WATCHED, mlock(BASE, SLOT), PROTECT, mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw"), STOP])

    assert (run.errors[:-1], run.signals) == ([0] * 7, [])


@pytest.mark.parametrize("policy", COUNTING)
def test_a_marker_keeps_its_table_and_goes_with_what_was_there(policy):
    setup = [mmap(BASE, SLOT), uffd_register(BASE, SLOT, 100, VM_UFFD_WP)]
    upper = Run([*setup, read(BASE, PAGE), dontneed(BASE, SLOT), STOP], policy=policy).pgtables

    assert Run([*setup, PROTECT, STOP], policy=policy).pgtables == upper + 1
    assert Run([*setup, PROTECT, dontneed(BASE, SLOT), STOP], policy=policy).pgtables == upper
    assert Run([*setup, PROTECT, FREE, STOP], policy=policy).pgtables == upper
    assert Run([*setup, PROTECT, uffd_unregister(BASE, SLOT), STOP], policy=policy).pgtables == upper


@pytest.mark.parametrize(("touched", "pages"), [(load(BASE + PAGE), 512), (store(BASE + PAGE, 1), 512)])
def test_what_comes_where_a_marker_is_is_protected_as_well(touched, pages):
    run = Run([*WATCHED, PROTECT, touched, PROTECTED, STOP])

    assert run.values[5] == pages
    assert run.signals == ([] if touched.op == Op.LOAD else [(0, "SIGBUS")])


def test_what_the_watcher_copies_is_not_protected():
    run = Run([*WATCHED, PROTECT, uffd_copy(BASE + PAGE, PAGE, 9), store(BASE + PAGE, 5), load(BASE + PAGE), STOP])

    assert (run.loaded[0], run.signals) == (5, [])


@pytest.mark.parametrize(
    "between",
    [
        [swapout(64)],
        [migrate(BASE)],
        [mprotect(BASE, SLOT, "r"), mprotect(BASE, SLOT, "rw")],
        [fork(1), store(BASE, 9)],
    ],
    ids=["swap", "migration", "mprotect", "fork"],
)
def test_protection_outlasts(between):
    run = Run([*WATCHED, PROTECT, *between, store(BASE, 8), load(BASE), STOP], swap_pages=256)

    assert (run.signals, run.loaded[0]) == ([(0, "SIGBUS")], 7)


def test_a_child_and_another_place_are_not_protected():
    child = Run([*WATCHED, PROTECT, fork(1), store(BASE, 9), STOP])
    moved = Run([*WATCHED, PROTECT, mmap(OTHER, SLOT), mremap_fixed(BASE, SLOT, OTHER), touch(OTHER, SLOT), STOP])

    assert (child.signals, moved.signals) == ([], [])


@pytest.mark.parametrize("what", [VM_UFFD_WP, VM_UFFD])
def test_a_huge_page_is_protected_whole(what):
    setup = [mmap(BASE, SLOT, huge=True), store(BASE, 7), uffd_register(BASE, SLOT, 100, what), PROTECT, PROTECTED]

    run = Run([*setup, store(BASE + PAGE, 8), FREE, store(BASE + PAGE, 9), load(BASE + PAGE), STOP])

    assert (run.values[4], run.signals, run.loaded[0]) == (512, [(0, "SIGBUS")], 9)


def test_what_cannot_be_protected_is_said():
    tried = [
        uffd_writeprotect(OTHER, PAGE, True),
        uffd_writeprotect(BASE + 1, PAGE, True),
        uffd_writeprotect(BASE, 0, True),
        uffd_writeprotect(BASE + SLOT - PAGE, 2 * PAGE, True),  # a hole is passed over
    ]

    assert Run([*WATCHED, *tried, STOP]).errors[3:7] == [-ENOENT, -EINVAL, -EINVAL, 0]
