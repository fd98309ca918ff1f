"""Walkers that hold nothing beside freers that count nothing: real processes, then the audit holds.

The twins are the races lock-no-pmd-recheck, reclaim-trusts-first-pass and early-ptlock-free.
Covers: emulator/policy/pins, emulator/policy/ptlock, emulator/locking/vma_lock
"""

import dataclasses

import pytest
from support import BASE, SLOT, at_rest, geometry_for, hammer

from emulator.uapi import MADV_COLLAPSE
from workers.instruments import Instruments
from workers.programs.program import STOP, advise, dontneed, fork, gup, jump, mincore, mmap, mremap_fixed, munmap, touch

PAGE = 4096
LETS_GO, OWN_LOCKS = {"zap_batch": 64}, {"vma_locks": 1}
RECLAIMS = ("pt-reclaim", "pt-reclaim-edges", "pt-reclaim-any")


def freed(programs, policy, settings, **geometry):
    """Tables freed by programs that run at once, before their end. The detectors look, the audit holds."""
    tools = Instruments(online=True, settings=settings, perturb=7)
    with at_rest(programs, dataclasses.replace(geometry_for(programs), **geometry), policy, tools) as views:
        return int(views["cpu"]["tables_freed"].sum())


@pytest.mark.parametrize("settings", [{}, LETS_GO, OWN_LOCKS, LETS_GO | OWN_LOCKS], ids=str)
@pytest.mark.parametrize("policy", RECLAIMS)
def test_faults_and_zaps_of_one_slot_at_once_lose_no_page_and_no_table(policy, settings):
    assert freed(hammer(3, 40), policy, settings) > 0


@pytest.mark.parametrize("policy", RECLAIMS)
def test_every_kind_of_walker_beside_a_zap_finds_its_table_or_that_it_has_gone(policy):
    setup = [mmap(BASE, SLOT)]
    walkers = [mincore(BASE, SLOT), gup(BASE + PAGE, PAGE, 7), fork(), mremap_fixed(BASE, PAGE, BASE + 2 * SLOT)]
    walk = [touch(BASE, 4 * PAGE), *walkers, munmap(BASE + 2 * SLOT, PAGE), mmap(BASE, SLOT), jump(1, 30), STOP]
    zap = [touch(BASE + 8 * PAGE, PAGE), dontneed(BASE, SLOT), jump(0, 60), STOP]

    assert freed([[*setup, *walk], zap], policy, LETS_GO) > 0


def test_collapse_beside_a_dontneed_that_holds_the_lock_of_its_vma_breaks_nothing():
    """The twin is the race collapse-late-vma-lock. Most zaps meet a huge page, so no number of tables is due."""
    collapse = [touch(BASE, PAGE), advise(MADV_COLLAPSE, BASE, SLOT), jump(1, 30), STOP]
    zap = [dontneed(BASE, SLOT), jump(0, 60), STOP]

    freed([[mmap(BASE, SLOT), *collapse], zap], "pt-reclaim", OWN_LOCKS)  # the detectors and the audit judge
