"""Which zaps free a table where nothing is counted: CONFIG_PT_RECLAIM's rule, and the two that close its holes."""

import pytest
from support import BASE, ONLINE, SLOT, at_rest, geometry_for

from emulator.mm_types import NR_PATHS, PAGE_SIZE
from emulator.uapi import MADV_FREE, MADV_GUARD_INSTALL
from emulator.watch.paths import PATHS
from workers.instruments import Instruments
from workers.programs.program import STOP, advise, dontneed, mmap, mmap_file, munmap, punch_hole, read, touch

COVERED = ("pt-reclaim", "pt-reclaim-edges", "pt-reclaim-any")
IN_PIECES = ("pt-reclaim-edges", "pt-reclaim-any")
UNCOUNTED = ("none", "none-rcu", *COVERED)
MAPPED = (mmap(BASE, SLOT), touch(BASE, SLOT))
HALF = SLOT // 2
FAST, SLOW = "zap frees the table, ptl held", "zap frees the table, by a scan"


def zapped(program, policy, instruments=ONLINE):
    """Tables freed by a program of one CPU before its end, and how often each of the two paths was taken."""
    programs = [[*program, STOP]]
    with at_rest(programs, geometry_for(programs), policy, instruments) as views:
        taken = views["path_taken"]["word"].reshape(-1, NR_PATHS).sum(axis=0)
        fast, slow = (int(taken[PATHS.index(name)]) for name in (FAST, SLOW))
        return int(views["cpu"]["tables_freed"].sum()), fast, slow


@pytest.mark.parametrize("policy", UNCOUNTED)
def test_a_dontneed_that_covers_the_slot_frees_its_table(policy):
    assert zapped([*MAPPED, dontneed(BASE, SLOT)], policy)[0] == (1 if policy in COVERED else 0)


@pytest.mark.parametrize("policy", UNCOUNTED)
@pytest.mark.parametrize("piece", [HALF, SLOT // 32, PAGE_SIZE])
def test_a_slot_emptied_in_pieces_keeps_its_table_under_linux_rule_and_loses_it_under_ours(policy, piece):
    program = [*MAPPED, *(dontneed(BASE + at, piece) for at in range(0, SLOT, piece))]

    assert zapped(program, policy)[0] == (1 if policy in IN_PIECES else 0)


@pytest.mark.parametrize("policy", UNCOUNTED)
def test_a_page_or_a_guard_that_stays_keeps_the_table(policy):
    guard = advise(MADV_GUARD_INSTALL, BASE + HALF, PAGE_SIZE)

    assert zapped([*MAPPED, dontneed(BASE, SLOT - PAGE_SIZE)], policy)[0] == 0
    assert zapped([*MAPPED, guard, dontneed(BASE, SLOT)], policy)[0] == 0


@pytest.mark.parametrize("policy", UNCOUNTED)
def test_a_munmap_beside_a_neighbour_frees_the_table_under_our_rules_only(policy):
    program = [mmap(BASE, HALF), mmap(BASE + HALF, HALF, writable=False), touch(BASE, HALF), munmap(BASE, HALF)]

    assert zapped(program, policy)[0] == (1 if policy in IN_PIECES else 0)


@pytest.mark.parametrize("policy", UNCOUNTED)
def test_a_hole_in_a_file_frees_the_table_under_our_rules_only(policy):
    program = [mmap_file(BASE, SLOT, 0, shared=True), read(BASE, PAGE_SIZE), punch_hole(0, 0, 16)]

    assert zapped(program, policy)[0] == (1 if policy in IN_PIECES else 0)


@pytest.mark.parametrize("policy", COVERED)
def test_madv_free_frees_no_table(policy):
    assert zapped([*MAPPED, advise(MADV_FREE, BASE, SLOT)], policy)[0] == 0


def test_a_zap_that_kept_its_ptl_frees_at_once_and_one_that_let_go_scans():
    program = [*MAPPED, dontneed(BASE, SLOT)]
    lets_go = Instruments(online=True, settings={"zap_batch": 8})

    assert zapped(program, "pt-reclaim") == (1, 1, 0)
    assert zapped(program, "pt-reclaim", lets_go) == (1, 0, 1)
    assert zapped(program, "pt-reclaim-edges") == (1, 1, 0)
    assert zapped(program, "pt-reclaim-any") == (1, 0, 1)
