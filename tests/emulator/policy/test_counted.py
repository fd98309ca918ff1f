"""Real processes race for one table, then the audit of the stopped machine holds; and it fails where it must.

Covers: emulator/checks, emulator/fault/memory, emulator/fault/zap, emulator/pgtable, emulator/policy/policies,
emulator/policy/pte_alloc, emulator/policy/pte_ref, emulator/tables/unhook
"""

import pytest
from support import BASE, SLOT, hammer, in_engine, race, raced, run_one

from emulator.policy.policies import POLICIES
from workers.programs.program import STOP, dontneed, mmap, touch

CLEAN = ({}, None)


@pytest.mark.parametrize("policy", POLICIES)
def test_faults_into_one_table_and_its_release_keep_the_count(policy):
    assert race(hammer(2, 500), policy) == CLEAN


# --- broken twins: the same machine with one piece left out must be caught


def names_the_count(violations, bug):
    """True if a lost update of the count was seen: in the audit, or by a put that went wrong because of it."""
    return "pte_refcount" in violations or "pte_put:" in (bug or "") or "free_pte_table:" in (bug or "")


def test_a_count_that_is_not_atomic_is_caught():
    found = in_engine("semaphore", raced, 5, 2, 50, "refcount", ["plain-count"])

    assert any(names_the_count(violations, bug) for violations, bug in found)


def test_a_missing_pte_put_is_caught():
    violations, _ = race(hammer(2, 10, write=False), "refcount", ["missing-pte-put"])

    assert violations == {"pte_refcount": 1, "empty_tables": 1}


def test_a_freed_table_that_is_not_flushed_is_caught():
    violations, _ = run_one([mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), STOP], "refcount", ["no-flush"])

    assert violations.keys() == {"stale_tlb"}
