"""The traces of this directory, replayed and compared line by line with what a real Linux did (README.md).

Covers: scenarios/traces/agreement, emulator/walks/access_vm
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support import by_family

from emulator.policy.policies import POLICIES
from scenarios.traces.agreement import first_dependent, first_difference, vmpte_and_rest
from scenarios.traces.replay import replay_trace, run_replay
from scenarios.traces.trace import parse

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.trace"))
JEMALLOC = HERE / "recorded" / "jemalloc_decay0.trace.gz"
PYTHON = HERE / "recorded" / "python_lists.trace.gz"
SOME = [path if at % 4 == 0 else pytest.param(path, marks=pytest.mark.stress) for at, path in enumerate(CASES)]
COUNTED = [policy for policy in POLICIES if POLICIES[policy].counted]

# Where an empty table goes, the next touch may find room for a huge page, and collapse nothing to collapse.
ROOM_FOR_A_HUGE_PAGE = ("thp_dn_4K_steps", "thp_free_whole_then_pageout", "thp_guard_whole", "collapse_empty_table")


def expected(path):
    """The recorded rows that belong to a trace."""
    name = str(path).replace(".trace", ".expect")
    with gzip.open(name, "rt") if name.endswith(".gz") else open(name) as stream:
        return stream.read().splitlines()


def columns(rows, numbered=False):
    """VmPTE of each row, of a child's figures as well, and each row without it."""
    vmpte, rest = zip(*(vmpte_and_rest(row, numbered) for row in rows), strict=True)
    return [figure for figures in vmpte for figure in figures], rest


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_gives_what_linux_with_pt_reclaim_was_recorded_to_do_in_every_column(path):
    recorded = expected(path)

    result = run_replay(path, "pt-reclaim")

    assert result.rows == recorded
    assert result.passed, (result.violation, result.checks)


def test_memory_that_is_only_executed_denies_reads_where_the_processor_has_protection_keys():
    path = HERE / "protection_keys" / "execute_only.trace"
    recorded = expected(path)

    with_keys = replay_trace(parse(path), "pt-reclaim", protection_keys=True)
    without = replay_trace(parse(path), "pt-reclaim")

    assert with_keys.rows == recorded
    assert with_keys.passed, (with_keys.violation, with_keys.checks)
    assert len(set(without.rows) - set(recorded)) > 9  # what was populated is there, and can be read
    assert without.passed, (without.violation, without.checks)


def only_vmpte_differs(path, without, policies):
    """Hold policies against the rows of `none`."""
    vmpte, rest = columns(without.rows)
    recorded, _ = columns(expected(path))

    for policy in policies:
        result = run_replay(path, policy)

        counted_vmpte, counted_rest = columns(result.rows)
        assert counted_rest == rest or path.stem in ROOM_FOR_A_HUGE_PAGE
        assert all(ours <= theirs for ours, theirs in zip(counted_vmpte, vmpte, strict=True))
        assert policy != "refcount" or all(ours <= theirs for ours, theirs in zip(counted_vmpte, recorded, strict=True))
        assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.stem)  # every case is held against Linux above
def test_without_reclaim_only_tables_differ_and_refcount_frees_every_one_that_linux_frees(path, record_property):
    recorded, trace = expected(path), parse(path)

    without = run_replay(path, "none")

    record_property("lines_compared", f"{first_dependent(trace)} of {len(recorded)}; the rest without VmPTE")
    at = first_difference(trace, without.rows, recorded)
    assert at is None, f"line {at + 1}:\n{without.rows[at]}, but Linux:\n{recorded[at]}"
    assert without.passed, (without.violation, without.checks)
    only_vmpte_differs(path, without, ["refcount"])


@pytest.mark.stress
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_each_way_of_counting_changes_vmpte_only(path):
    only_vmpte_differs(path, run_replay(path, "none"), [policy for policy in COUNTED if policy != "refcount"])


def test_the_jemalloc_heap_gives_what_linux_was_recorded_to_do_on_all_48212_lines(record_property):
    recorded = expected(JEMALLOC)

    result = run_replay(JEMALLOC, "pt-reclaim")

    record_property("lines_compared", f"{len(result.rows)} of {len(recorded)}")
    assert len(recorded) == 48_212
    assert first_dependent(parse(JEMALLOC)) == len(recorded)  # none of its 24,941 DONTNEEDs covers a whole 2 MiB slot
    assert result.rows == recorded
    assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("policy", by_family(COUNTED))
def test_the_jemalloc_heap_needs_no_more_tables_where_they_are_counted(policy):
    recorded_vmpte, recorded_rest = columns(expected(JEMALLOC), True)

    result = run_replay(JEMALLOC, policy)

    vmpte, rest = columns(result.rows, True)
    assert rest == recorded_rest
    assert all(ours <= theirs for ours, theirs in zip(vmpte, recorded_vmpte, strict=True))
    assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("policy", by_family(policy for policy in POLICIES if not POLICIES[policy].upper))
def test_the_python_lists_give_what_linux_was_recorded_to_do_on_all_30365_lines(policy):
    """The programs move their arrays, and release no whole table before they unmap it."""
    result = run_replay(PYTHON, policy)

    assert len(result.rows) == 30_365
    assert first_dependent(parse(PYTHON)) == len(result.rows)
    assert result.rows == expected(PYTHON)
    assert result.passed, (result.violation, result.checks)


def test_every_recorded_case_is_compared():
    recorded = sorted(path.stem for path in (HERE / "cases").glob("*.expect"))
    assert [path.stem for path in CASES] == recorded != []
