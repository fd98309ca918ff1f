"""hugetlbfs: pages that many mms map, PMD tables that they share, and what is left when one gives a table up."""

import pytest
from support import FAMILIES, alone

from emulator.uapi import MADV_DONTNEED, MADV_FREE, MADV_POPULATE_WRITE
from workers.programs.program import (
    EXIT,
    MARK,
    REAP,
    STOP,
    advise,
    fork,
    fork_as,
    gup,
    in_child,
    load,
    mincore,
    mlock,
    mmap,
    mmap_hugetlb,
    mprotect,
    mremap,
    mremap_fixed,
    munmap,
    pagemap,
    read,
    store,
    touch,
    uffd_register,
)

PAGE, SLOT, GIB = 4096, 2 << 20, 1 << 30
AT, ELSEWHERE = 7 * GIB, 9 * GIB
MAPPED = (mmap_hugetlb(AT, GIB), store(AT + 8, 7))
IN_CHILD = in_child(1)
# the PMD table of the parent is its child's alone, and has a page of memory that is nobody's but the child's
OUTLIVED = (fork_as(1), IN_CHILD, load(AT), munmap(AT, GIB), IN_CHILD, munmap(AT, SLOT), IN_CHILD, mmap(AT, SLOT))
OUTLIVED += (IN_CHILD, touch(AT, PAGE), mmap_hugetlb(AT, GIB))


def kb(program, policy="refcount"):
    """VmPTE of the first mm when a program is done."""
    return alone(program, policy)[3]


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize(
    "change",
    [
        (),
        (mmap_hugetlb(ELSEWHERE, GIB), store(ELSEWHERE + 16, 8)),
        (mmap_hugetlb(ELSEWHERE, GIB), read(ELSEWHERE, PAGE), munmap(ELSEWHERE, GIB)),
        (munmap(AT + SLOT, SLOT), mmap(AT + SLOT, SLOT), touch(AT + SLOT, SLOT)),
        (munmap(AT, GIB), mmap_hugetlb(AT, GIB)),
        (mprotect(AT, SLOT, "none"), mprotect(AT, GIB, "r")),
        (fork(1), store(AT + 16, 1)),
        (fork(1, hold=True), load(AT), mprotect(AT, SLOT, "r"), REAP),
        (fork(1, hold=True), load(AT), munmap(AT, GIB), mmap_hugetlb(AT, GIB), REAP),
        (fork(4), load(AT), munmap(AT, SLOT), mmap(AT, SLOT), touch(AT, PAGE)),
    ],
    ids=["nothing", "twice", "one of two", "hole", "again", "mprotect", "fork", "protected", "moves on", "child"],
)
def test_a_word_of_the_file_stays_whatever_one_who_maps_it_does(policy, change):
    assert alone([*MAPPED, *change, load(AT + 8), STOP], policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", ["pmap-mutex", "scan-eager"])
def test_a_table_under_one_that_another_mm_has_left_is_unlocked_by_the_lock_that_was_taken(policy):
    assert alone([*MAPPED, *OUTLIVED, load(AT + 8), STOP], policy)[:2] == (7, 0)


def test_what_a_child_stores_its_parent_reads():
    assert alone([*MAPPED, fork(1), store(AT + 8, 9), load(AT + 8), STOP])[:2] == (9, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_shared_table_counts_for_each_who_has_it_and_goes_with_the_last(policy):
    twice = (*MAPPED, mmap_hugetlb(ELSEWHERE, GIB), load(ELSEWHERE + 8))

    assert kb([*MAPPED, STOP], policy) == 8
    assert kb([*twice, STOP], policy) == 12
    assert kb([*twice, munmap(AT, GIB), STOP], policy) == 8
    assert kb([*twice, munmap(AT, GIB), munmap(ELSEWHERE, GIB), STOP], policy) == 0
    assert kb([*twice, fork(1, hold=True), load(AT), EXIT], policy) == 0


def test_a_table_is_given_up_as_a_whole_and_a_fault_brings_a_page_again():
    twice = (*MAPPED, store(AT + SLOT, 5), mmap_hugetlb(ELSEWHERE, GIB), load(ELSEWHERE))

    assert kb([*twice, munmap(AT, SLOT), STOP]) == 8
    assert alone([*twice, munmap(AT, SLOT), load(AT + SLOT), STOP])[::3] == (5, 12)
    assert alone([*twice, mprotect(AT + SLOT, SLOT, "r"), load(AT + SLOT), STOP])[::3] == (5, 12)


@pytest.mark.parametrize(
    "other",
    [
        (mmap_hugetlb(ELSEWHERE, GIB, writable=False), load(ELSEWHERE + 8)),
        (mmap_hugetlb(ELSEWHERE, GIB - SLOT), load(ELSEWHERE + 8)),
        (mmap_hugetlb(ELSEWHERE + SLOT, GIB), load(ELSEWHERE + SLOT + 8)),
    ],
    ids=["other access", "not a whole GiB", "not aligned"],
)
def test_only_a_whole_gib_with_the_same_access_shares_its_table(other):
    with_own_table = kb([*MAPPED, mmap(ELSEWHERE, SLOT), touch(ELSEWHERE, PAGE), STOP], "none") - 4

    assert kb([*MAPPED, *other, STOP], "none") == with_own_table
    assert kb([*MAPPED, *other, munmap(AT, GIB), STOP], "none") == with_own_table - 4


def test_a_device_stores_to_a_page_of_the_file():
    assert alone([*MAPPED, gup(AT, 2 * PAGE, 5), load(AT), STOP])[:2] == (5, 0)
    assert alone([mmap_hugetlb(AT, GIB), gup(AT, PAGE, 5), load(AT), STOP])[:2] == (5, 0)


def test_the_calls_that_look_find_pages_that_are_mapped():
    assert alone([*MAPPED, mincore(AT, 2 * SLOT), STOP])[:2] == (512, 0)
    assert alone([*MAPPED, pagemap(AT, PAGE), STOP])[0] != 0
    assert alone([mmap_hugetlb(AT, GIB), mlock(AT, SLOT), mincore(AT, SLOT), STOP])[:2] == (512, 0)
    assert alone([mmap_hugetlb(AT, GIB), advise(MADV_POPULATE_WRITE, AT, SLOT), mincore(AT, GIB), STOP])[0] == 512


@pytest.mark.parametrize(
    "refused",
    [
        munmap(AT, PAGE),
        munmap(AT + PAGE, SLOT),
        mmap(AT, PAGE),
        mmap_hugetlb(AT, GIB + PAGE),
        mmap_hugetlb(AT, GIB, page=1),
        mprotect(AT, PAGE, "r"),
        mremap(AT, SLOT, GIB),
        mremap_fixed(AT, GIB, ELSEWHERE),
        advise(MADV_DONTNEED, AT, SLOT),
        advise(MADV_FREE, AT, SLOT),
        uffd_register(AT, SLOT),
        store(AT + 2 * SLOT, 1),
    ],
    ids=str,
)
def test_a_call_that_would_split_a_page_or_is_not_built_fails_and_changes_nothing(refused):
    assert alone([*MAPPED, refused, load(AT + 8), STOP])[:2] == (7, 1)


def test_a_fault_is_a_sigbus_where_no_block_is_free():
    assert alone([mmap_hugetlb(AT, GIB), touch(AT, 2 * SLOT, SLOT), MARK, STOP], frames=1100)[1] == 1
