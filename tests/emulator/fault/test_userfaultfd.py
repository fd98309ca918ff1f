"""userfaultfd: who misses a page waits, holding nothing; who fills it wakes; a page moves with its reference.

Covers: emulator/syscalls/mfill_atomic, emulator/syscalls/uffd_move, emulator/syscalls/uffd_register
"""

import pytest
from support import BASE, FAMILIES, SLOT, at_rest, geometry_for, race

from emulator.mm_types import PAGE_SIZE
from emulator.syscalls import madvise
from emulator.uapi import EAGAIN, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT
from workers.instruments import Instruments, Steer
from workers.programs.program import (
    STOP,
    advise,
    barrier,
    compute,
    dontneed,
    fork,
    jump,
    load,
    mlock,
    mmap,
    mmap_file,
    mremap_fixed,
    munmap,
    read,
    store,
    touch,
    uffd_copy,
    uffd_move,
    uffd_register,
    uffd_unregister,
    uffd_zeropage,
)
from workers.signals import signals_of

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT
CLEAN = ({}, None)
FILLED_LATE = Steer("set_pte.locked", "uffd.waiting", 1_000_000, 0)  # CPU 0 fills when somebody waits


class Run:
    """Programs to their end under the detectors: errors of CPU 0, loaded words, retries, signals, and mm 0."""

    def __init__(self, *programs, policy="refcount", steer=(), **settings):
        geometry, instruments = geometry_for(programs), Instruments(online=True, settings=settings, steer=steer)
        with at_rest(programs, geometry, policy, instruments) as views:
            self.errors = [int(error) for error in views["record"]["error"]]
            self.loaded = [int(word) for word in views["cpu"]["loaded"][: len(programs)]]
            self.retries = int(views["cpu"]["retries"].sum())
            self.signals = [(of.first.signal, of.first.addr) for of in signals_of(views, geometry)]
            self.rss = int(views["mm"]["rss_anon"][0])
            self.freed = int(views["cpu"]["tables_freed"].sum())


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize(("fill", "word"), [(uffd_copy(BASE, PAGE, 7), 7), (uffd_zeropage(BASE, PAGE), 0)])
def test_a_missing_page_is_waited_for_and_holds_what_it_was_filled_with(fill, word, policy):
    monitor = [mmap(BASE, SLOT), uffd_register(BASE, SLOT), barrier(), fill, STOP]
    waiter = [barrier(), load(BASE + 8), STOP]

    run = Run(monitor, waiter, policy=policy, steer=(FILLED_LATE,))

    assert (run.errors[3], run.loaded[1], run.signals) == (0, word, [])
    assert run.retries >= 1
    assert run.rss == (1 if word else 0)


def test_nobody_waits_where_a_page_is_or_nothing_is_watched():
    program = [mmap(BASE, 2 * SLOT), store(BASE, 7), uffd_register(BASE, SLOT), load(BASE), store(BASE + SLOT, 1)]

    assert Run([*program, uffd_unregister(BASE, SLOT), store(BASE + PAGE, 2), STOP]).retries == 0


def test_who_waits_too_long_gets_a_bus_error_and_leaves_no_table():
    run = Run([mmap(BASE, SLOT), uffd_register(BASE, SLOT, 100), load(BASE + PAGE), STOP])

    assert run.signals == [("SIGBUS", BASE + PAGE)]
    assert run.freed == 2  # one for each time that it came


@pytest.mark.parametrize("policy", FAMILIES)
def test_who_waits_lets_munmap_and_unregister_come_in(policy):
    waiter = [barrier(), load(BASE), STOP]
    setup = [mmap(BASE, SLOT), uffd_register(BASE, SLOT), barrier(), compute(3000)]

    assert Run([*setup, uffd_unregister(BASE, SLOT), STOP], waiter, policy=policy).loaded[1] == 0
    again = [munmap(BASE, SLOT), mmap(BASE, PAGE), uffd_register(BASE, PAGE), uffd_copy(BASE, PAGE, 9), STOP]
    # 0 if the waiter comes back between mmap and register
    assert any(Run([*setup, *again], waiter).loaded[1] == 9 for _ in range(20))


@pytest.mark.parametrize("to", [BASE + PAGE, OTHER], ids=["in the table", "to another"])
def test_a_page_moves_with_its_word_and_its_table_goes_behind_it(to):
    setup = [mmap(BASE, SLOT), mmap(OTHER, SLOT), uffd_register(to, PAGE), store(BASE, 7)]
    keep = [uffd_copy(OTHER, 0, 1)] if to == BASE + PAGE else [touch(OTHER + PAGE, PAGE)]

    run = Run([*setup, *keep, uffd_move(BASE, PAGE, to), load(to), STOP])

    assert (run.errors[5], run.loaded[0]) == (0, 7)
    assert run.freed == (0 if to == BASE + PAGE else 1)


def test_what_cannot_be_filled_or_moved_is_said():
    at = [
        mmap(BASE, SLOT),
        mmap(OTHER, SLOT),
        touch(BASE, PAGE),
        uffd_register(BASE, SLOT),
        mmap_file(OTHER + SLOT, PAGE, 0),
    ]
    tried = [
        uffd_copy(BASE, PAGE, 1),  # is there
        uffd_copy(OTHER, PAGE, 1),  # is not watched
        uffd_copy(BASE + 1, PAGE, 1),
        uffd_move(OTHER, PAGE, BASE + PAGE),  # nothing to move
        uffd_move(BASE, PAGE, BASE),  # is there
        uffd_register(OTHER, 2 * SLOT),  # a file
        uffd_move(BASE, PAGE, OTHER),
    ]

    run = Run([*at, *tried, STOP])

    assert run.errors[5:12] == [-EEXIST, -ENOENT, -EINVAL, -ENOENT, -EEXIST, -EINVAL, -EINVAL]


def test_a_move_that_stops_half_way_leaves_the_rest_where_it_was():
    at = [mmap(BASE, SLOT), touch(BASE, 4 * PAGE, value=7), mmap(OTHER, SLOT), touch(OTHER + 2 * PAGE, PAGE)]
    tried = [uffd_register(OTHER, SLOT), uffd_move(BASE, 4 * PAGE, OTHER), load(OTHER + PAGE), load(BASE + 3 * PAGE)]

    run = Run([*at, *tried, STOP])

    assert (run.errors[5], run.loaded[0], run.signals) == (-EAGAIN, 7, [])


def test_a_page_that_a_child_shares_does_not_move():
    program = [mmap(BASE, SLOT), store(BASE, 7), mmap(OTHER, SLOT), uffd_register(OTHER, SLOT), fork(hold=True)]

    run = Run([*program, uffd_move(BASE, PAGE, OTHER), STOP])

    assert run.errors[5] == -EBUSY


def test_mlock_and_populate_wait_as_well_and_give_up():
    at = [mmap(BASE, SLOT), uffd_register(BASE, SLOT, 100)]
    run = Run([*at, advise(madvise.MADV_POPULATE_READ, BASE, PAGE), mlock(BASE, PAGE), STOP])

    assert (run.errors[2], run.errors[3] != 0, run.signals) == (-EFAULT, True, [])


def test_mremap_and_fork_leave_the_watch_behind():
    at = [mmap(BASE, SLOT), uffd_register(BASE, SLOT)]

    assert Run([*at, mremap_fixed(BASE, SLOT, OTHER), load(OTHER), STOP]).retries == 0
    assert Run([*at, fork(1), load(BASE), STOP]).retries == 0


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_huge_page_is_not_missing_is_moved_in_pieces_and_does_not_come_where_pages_are_missed(policy):
    huge = [mmap(BASE, SLOT), advise(madvise.MADV_HUGEPAGE, BASE, SLOT), store(BASE + PAGE, 7)]
    there = [*huge, uffd_register(BASE, SLOT, 100), uffd_copy(BASE, PAGE, 1), load(BASE + PAGE)]
    move = [*huge, mmap(OTHER, SLOT), uffd_register(OTHER, SLOT), uffd_move(BASE + PAGE, PAGE, OTHER), load(OTHER)]
    none = [*huge[:2], uffd_register(BASE, SLOT, 100), load(BASE), STOP]

    assert Run([*there, STOP], policy=policy).errors[3:6] == [0, -EEXIST, 0]
    moved = Run([*move, STOP], policy=policy)
    assert (moved.errors[5], moved.loaded[0]) == (0, 7)
    assert Run(none, policy=policy).signals == [("SIGBUS", BASE)]


ROUNDS = 150
RACERS = {
    "release": [dontneed(BASE, SLOT)],
    "move away": [uffd_move(BASE, 2 * PAGE, OTHER), dontneed(OTHER, SLOT)],
    "unmap": [munmap(BASE, SLOT), mmap(BASE, SLOT), uffd_register(BASE, SLOT, 100)],
    "fork": [fork(1), touch(BASE, 4 * PAGE, value=9)],
    "mremap": [
        mremap_fixed(BASE, SLOT, OTHER + SLOT),
        mremap_fixed(OTHER + SLOT, SLOT, BASE),
        uffd_register(BASE, SLOT, 100),
    ],
}


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("other", RACERS)
def test_filling_waiting_and_taking_away_raise_no_alarm(other, policy):
    setup = [mmap(BASE, SLOT), mmap(OTHER, 2 * SLOT), uffd_register(BASE, SLOT, 100), uffd_register(OTHER, SLOT, 100)]
    fill = [uffd_copy(BASE, 4 * PAGE, 5), uffd_zeropage(BASE + 4 * PAGE, 4 * PAGE)]
    use = [read(BASE, 4 * PAGE), touch(BASE, 8 * PAGE, value=3)]
    bodies = [[*setup, barrier(), *fill], [barrier(), *RACERS[other]], [barrier(), *use]]
    loops = [[*body, jump(body.index(barrier()) + 1, ROUNDS), STOP] for body in bodies]

    assert race(loops, policy, online=True) == CLEAN
