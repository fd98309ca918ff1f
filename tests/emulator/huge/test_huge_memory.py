"""Huge pages: a leaf in place of a PTE table, that table kept under it, and both ways back.

Covers: emulator/huge/huge_fork, emulator/huge/khugepaged, emulator/pages/huge_page, emulator/rmap_walks/folio
"""

import pytest
from support import BASE, FAMILIES, SLOT, alone

from emulator.mm_types import PAGE_SIZE
from emulator.policy.policies import POLICIES
from emulator.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTFORK,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_WIPEONFORK,
)
from scenarios.traces.replay import run_replay
from workers.programs.program import (
    EXIT,
    REAP,
    STOP,
    advise,
    dontneed,
    fork,
    gup,
    load,
    mincore,
    mlock,
    mmap,
    mprotect,
    mremap_fixed,
    munmap,
    read,
    store,
    touch,
    uffd_register,
)

PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT
HUGE = (mmap(BASE, SLOT, huge=True), store(BASE + 8, 7))
COLLAPSE = advise(MADV_COLLAPSE, BASE, SLOT)


@pytest.fixture
def replay(tmp_path):
    """The rows that a trace gives under `none`."""

    def run(*lines):
        path = tmp_path / "huge.trace"
        path.write_text("\n".join(lines) + "\n")
        result = run_replay(path, "none")
        assert result.passed, (result.violation, result.checks)
        return ["\t".join(row.split("\t")[:5]) for row in result.rows]

    return run


@pytest.mark.parametrize("before", ["cold 0 0 4K", "pageout 0 0 2M", "free 0 1M 1M"])
def test_of_a_folio_that_is_split_what_nobody_stored_to_is_the_zero_page(before, replay):
    rows = replay("mmapthp 0 2M", "touch 0 0 64K", before, "touch 0 0 2M")

    assert rows[2:] == ["12\t64\t1\t0\t", f"12\t2048\t{1 + 512 - 16}\t0\t"]


def test_a_folio_that_a_child_maps_as_well_is_left_alone(replay):
    rows = replay("mmapthp 0 2M", "touch 0 0 64K", "forkhold", "cold 0 0 4K", "reap", "touch 0 0 2M")

    assert rows[-1] == "12\t2048\t2\t0\t"


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize(
    "change",
    [
        (),
        (dontneed(BASE + PAGE, PAGE),),
        (munmap(BASE + SLOT // 2, SLOT // 2),),
        (mprotect(BASE, PAGE, "r"),),
        (mprotect(BASE, SLOT, "none"), mprotect(BASE, SLOT, "r")),
        (advise(MADV_COLD, BASE, SLOT),),
        (advise(MADV_COLD, BASE + SLOT // 2, SLOT // 2),),
        (advise(MADV_PAGEOUT, BASE, SLOT),),
        (advise(MADV_FREE, BASE + PAGE, PAGE), advise(MADV_PAGEOUT, BASE, SLOT)),
        (fork(1), store(BASE + 8, 1)),
        (fork(1, hold=True), store(BASE + 8, 1), REAP),
        (fork(0, hold=True), store(BASE + PAGE, 1), REAP),
        (mprotect(BASE, PAGE, "r"), COLLAPSE),
    ],
    ids=[
        "nothing",
        "zap",
        "munmap",
        "mprotect",
        "none",
        "cold",
        "half cold",
        "paged out",
        "part freed",
        "fork",
        "held",
        "parent stores",
        "not collapsed",
    ],
)
def test_a_word_in_a_huge_page_stays_whatever_happens_to_the_leaf(policy, change):
    loaded, errors, _, _ = alone([*HUGE, *change, load(BASE + 8), STOP], policy)

    assert loaded == 7
    assert errors == (COLLAPSE in change)  # two VMAs: there is no room for a huge page in either


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("to", [OTHER, OTHER + PAGE, BASE - SLOT])
def test_a_word_in_a_huge_page_is_where_mremap_has_moved_it(policy, to):
    assert alone([*HUGE, mremap_fixed(BASE, SLOT, to), load(to + 8), STOP], policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_huge_page_moves_with_its_gib(policy):
    program = [mmap(1 << 40, 1 << 30, huge=True), store((1 << 40) + 8, 7), mremap_fixed(1 << 40, 1 << 30, 2 << 40)]

    assert alone([*program, load((2 << 40) + 8), dontneed(2 << 40, 1 << 30), STOP], policy)[:2] == (7, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_collapse_moves_every_word_into_the_huge_page(policy):
    program = [mmap(BASE, SLOT), *(store(BASE + page * PAGE, page + 1) for page in (0, 3, 511)), read(BASE, 9 * PAGE)]

    for page in (0, 3, 511, 5):
        expected = page + 1 if page != 5 else 0
        assert alone([*program, COLLAPSE, load(BASE + page * PAGE), STOP], policy)[:2] == (expected, 0)


@pytest.mark.parametrize("policy", FAMILIES)
def test_no_table_is_left_of_huge_pages(policy):
    program = [*HUGE, mmap(OTHER, 2 * SLOT), touch(OTHER, PAGE), advise(MADV_COLLAPSE, OTHER, SLOT), fork(0), EXIT]

    assert alone(program, policy)[3] == 0


def test_a_huge_page_that_is_released_as_a_whole_takes_its_table_along():
    for policy in POLICIES:
        assert alone([*HUGE, STOP], policy)[3] == 12
        assert alone([*HUGE, dontneed(BASE, SLOT), STOP], policy)[3] == (0 if POLICIES[policy].upper else 8)


def test_frames_of_huge_pages_are_used_again_one_by_one_when_nothing_else_is_free():
    rounds = [insn for _ in range(3) for insn in (touch(BASE, SLOT), dontneed(BASE, SLOT))]
    program = [mmap(BASE, 2 * SLOT, huge=True), *rounds, advise(MADV_NOHUGEPAGE, BASE, SLOT), *rounds, STOP]

    assert alone(program, frames=1024)[1] == 0


def test_a_fault_falls_back_to_small_pages_when_no_block_is_free():
    assert alone([*HUGE, load(BASE + 8), STOP], frames=600)[:2] == (7, 0)


def test_a_device_stores_to_a_huge_page_that_stays_where_it_is_pinned():
    assert alone([*HUGE, gup(BASE, 3 * PAGE, 5), load(BASE + 2 * PAGE), STOP])[:2] == (5, 0)
    assert alone([mmap(BASE, SLOT, huge=True), read(BASE, PAGE), gup(BASE, PAGE, 5), load(BASE), STOP])[:2] == (5, 0)
    assert alone([*HUGE, mincore(BASE, SLOT), STOP])[:2] == (512, 0)


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("advice", [MADV_DONTFORK, MADV_WIPEONFORK, None])
def test_a_child_gets_of_a_huge_page_what_its_vmas_have(policy, advice):
    part = mlock(BASE, 16 * PAGE) if advice is None else advise(advice, BASE + 16 * PAGE, 16 * PAGE)
    program = [*HUGE, part, fork(1), store(BASE + 8, 1), fork(1, hold=True), store(BASE + 8, 2), REAP, load(BASE + 8)]

    assert alone([*program, STOP], policy)[:2] == (7, 0)


def test_one_fault_fills_a_huge_page_and_another_one_takes_it_back_after_fork(replay):
    rows = replay("mmapthp 0 4M", "touch 0 0 4K", "fork", "touch 0 0 2M", "forkhold", "touch 0 0 2M", "reap")

    assert rows == [
        "0\t0\t0\t0\t",
        "12\t2048\t1\t0\t",
        "12\t2048\t1\t0\t12:2048:0",
        "12\t2048\t2\t0\t",
        "12\t2048\t2\t0\t12:2048:0",
        "12\t2048\t514\t0\t",
        "12\t2048\t514\t0\t",
    ]


def test_a_load_maps_the_huge_zero_page_and_a_store_replaces_it(replay):
    rows = replay("mmapthp 0 2M", "read 0 0 2M", "touch 0 4K 4K", "dontneed 0 0 1M", "munmap 0 0 2M")

    assert rows == ["0\t0\t0\t0\t", "12\t0\t1\t0\t", "12\t2048\t2\t0\t", "12\t1024\t2\t0\t", "0\t0\t2\t0\t"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (("mmap 0 2M", "collapse 0 0 2M"), -22),  # no page, so no anon_vma
        (("mmap 0 2M", "touch 0 0 4K", "nohugepage 0 0 2M", "collapse 0 0 2M"), -22),
        (("mmap 0 2M 1M", "touch 0 1M 4K", "collapse 0 1M 2M"), -22),  # no aligned 2 MiB
        (("mmap 0 4M", "touch 0 0 4K", "collapse 0 0 4M"), -22),  # the second has no table
        (("mmap 0 4M", "touch 0 0 4M 2M", "collapse 0 0 4M"), 0),
        (("mmap 0 2M", "touch 0 0 4K", "collapse 0 0 4M"), -12),  # a hole behind it
        (("mmap 0 2M", "touch 0 0 4K", "guard 0 4K 4K", "collapse 0 0 2M"), -22),
        (("mmap 0 2M", "touch 0 0 4K", "collapse 0 1 2M"), -22),
        (("mmap 0 2M", "touch 0 0 4K", "forkhold", "collapse 0 0 2M"), 0),  # shared, not pinned
    ],
)
def test_a_collapse_that_cannot_be_says_why(replay, lines, error):
    assert int(replay(*lines)[-1].split("\t")[3]) == error


def test_a_huge_page_that_is_moved_or_protected_as_a_whole_stays_one(replay):
    begin = ("mmapthp 0 4M", "touch 0 0 4K")
    for change in (("mremapmv 0 0 2M 1 0",), ("mprotect 0 0 2M none", "mprotect 0 0 2M rw")):
        window = int("mremapmv" in change[0])
        rows = replay(*begin, *change, "fork", f"touch {window} 0 2M")
        assert rows[-1].split("\t")[1:4] == ["2048", "2", "0"], change  # one fault takes all of it back from fork


@pytest.mark.parametrize("change", ["mlock 0 0 1M", "dontfork 0 0 4K", "mprotect 0 1M 1M r", "nohugepage 0 0 1M"])
def test_a_vma_that_ends_inside_of_a_huge_page_splits_it(replay, change):
    rows = replay("mmapthp 0 2M", "touch 0 0 4K", change, "fork", "touch 0 4K 1020K", "touch 0 0 4K")

    assert rows[-1] == ("12\t2048\t256\t0\t" if "dontfork" in change else "12\t2048\t257\t0\t")


@pytest.mark.parametrize("policy", FAMILIES)
def test_a_child_gets_a_huge_page_that_userfaultfd_has_split_once(policy):
    program = [*HUGE, uffd_register(BASE, SLOT // 2), fork(1), load(BASE + 8), load(BASE + 8), EXIT]

    assert alone(program, policy)[:2] == (7, 0)


def test_advice_about_huge_pages_splits_vmas_and_lets_them_merge_again():
    program = [mmap(BASE, 3 * SLOT), advise(MADV_HUGEPAGE, BASE, SLOT), advise(MADV_HUGEPAGE, BASE, 3 * SLOT)]

    assert alone([*program, touch(BASE, 3 * SLOT), STOP])[:2] == (0, 0)
