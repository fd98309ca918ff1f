"""The traces of this directory, replayed and compared line by line with what a real Linux did (README.md)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from emulator.insn import Op
from emulator.madvise import MADV_DONTNEED
from emulator.pgtable import PMD_SIZE
from emulator.policy import POLICIES
from scenarios.replay import run_replay
from scenarios.trace import parse

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.trace"))
JEMALLOC = HERE / "recorded" / "jemalloc_decay0.trace.gz"
PYTHON = HERE / "recorded" / "python_lists.trace.gz"
COUNTED = [policy for policy in POLICIES if POLICIES[policy].pte_counted]


def expected(path):
    """The recorded rows that belong to a trace."""
    name = str(path).replace(".trace", ".expect")
    with gzip.open(name, "rt") if name.endswith(".gz") else open(name) as stream:
        return stream.read().splitlines()


def covers_a_slot(insn):
    """True if one call of this MADV_DONTNEED covers a whole aligned 2 MiB slot: Linux may free that table at once."""
    if insn.op != Op.MADVISE or insn.arg != MADV_DONTNEED:
        return False
    size = insn.step or insn.length or 1
    calls = range(insn.addr, insn.addr + insn.length, size)
    return any(-(-at // PMD_SIZE) * PMD_SIZE + PMD_SIZE <= min(at + size, calls.stop) for at in calls)


def first_dependent(path):
    """Index of the first row that depends on CONFIG_PT_RECLAIM; the number of rows if there is none."""
    operations = parse(path).operations
    return next((i for i, operation in enumerate(operations) if covers_a_slot(operation.insn)), len(operations))


def vmpte_and_rest(rows, column=0):
    """VmPTE of each row, of a child's figures as well, and each row without it."""
    vmpte, rest = [], []
    for fields in (row.split("\t") for row in rows):
        vmpte.append(int(fields[column]))
        rest.append(fields[:column] + fields[column + 1 :])
        child = fields[column + 4].split(":") if len(fields) > column + 4 else [""]
        if child[0]:
            vmpte.append(int(child[0]))
            rest[-1][column + 3] = child[1:]
    return vmpte, rest


def assert_agrees(rows, recorded, dependent, column=0):
    """All rows before `dependent` are the recorded ones; behind it all but VmPTE, which is not smaller."""
    assert rows[:dependent] == recorded[:dependent]
    vmpte, rest = vmpte_and_rest(rows, column)
    recorded_vmpte, recorded_rest = vmpte_and_rest(recorded, column)
    assert rest == recorded_rest
    assert all(ours >= theirs for ours, theirs in zip(vmpte, recorded_vmpte, strict=True))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_gives_what_linux_was_recorded_to_do(path, record_property):
    recorded = expected(path)
    dependent = first_dependent(path)

    result = run_replay(path, "none")

    record_property("lines_compared", f"{dependent} of {len(recorded)}; the rest without VmPTE")
    assert_agrees(result.rows, recorded, dependent)
    assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("policy", COUNTED)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_counting_policy_changes_vmpte_only_and_never_raises_it(path, policy):
    vmpte, rest = vmpte_and_rest(run_replay(path, "none").rows)

    result = run_replay(path, policy)

    counted_vmpte, counted_rest = vmpte_and_rest(result.rows)
    assert counted_rest == rest
    assert all(ours <= theirs for ours, theirs in zip(counted_vmpte, vmpte, strict=True))
    assert result.passed, (result.violation, result.checks)


def test_refcount_frees_every_table_that_linux_frees_in_the_cases_made_of_these_operations():
    for path in CASES:
        recorded, _ = vmpte_and_rest(expected(path))
        ours, _ = vmpte_and_rest(run_replay(path, "refcount").rows)
        assert all(a <= b for a, b in zip(ours, recorded, strict=True)), path.stem


def test_the_jemalloc_heap_gives_what_linux_was_recorded_to_do_on_all_48212_lines(record_property):
    recorded = expected(JEMALLOC)

    result = run_replay(JEMALLOC, "none")

    record_property("lines_compared", f"{len(result.rows)} of {len(recorded)}")
    assert len(recorded) == 48_212
    assert first_dependent(JEMALLOC) == len(recorded)  # none of its 24,941 DONTNEEDs covers a whole 2 MiB slot
    assert result.rows == recorded
    assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("policy", COUNTED)
def test_the_jemalloc_heap_needs_no_more_tables_where_they_are_counted(policy):
    recorded_vmpte, recorded_rest = vmpte_and_rest(expected(JEMALLOC), 1)

    result = run_replay(JEMALLOC, policy)

    vmpte, rest = vmpte_and_rest(result.rows, 1)
    assert rest == recorded_rest
    assert all(ours <= theirs for ours, theirs in zip(vmpte, recorded_vmpte, strict=True))
    assert result.passed, (result.violation, result.checks)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_python_lists_give_what_linux_was_recorded_to_do_on_all_30365_lines(policy):
    """The programs move their arrays, and release no whole table before they unmap it."""
    result = run_replay(PYTHON, policy)

    assert len(result.rows) == 30_365
    assert first_dependent(PYTHON) == len(result.rows)
    assert result.rows == expected(PYTHON)
    assert result.passed, (result.violation, result.checks)


def test_every_recorded_case_is_compared():
    assert len(CASES) == 62
