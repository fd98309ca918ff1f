"""agree: random traces are the same for the same seed and say everything; a difference is shrunk to what it takes.

Covers: scenarios/traces/random_trace, scenarios/traces/agreement
"""

from __future__ import annotations

import pytest
from command import ptelab

from scenarios.traces import agree
from scenarios.traces.agree import Coverage, Outcome, compare, shrink
from scenarios.traces.agreement import PT_RECLAIM, differences, host_policy
from scenarios.traces.random_trace import random_lines
from scenarios.traces.recorder import record
from scenarios.traces.trace import parse_text
from scenarios.traces.verbs import VERBS, WORDS
from workers.host.fault_loop import HostUnavailable
from workers.host.kernel_facts import kernel_facts


@pytest.fixture
def host():
    """This host records."""
    try:
        record(parse_text(["mark"]), 1)
    except HostUnavailable as error:
        pytest.skip(str(error))


def test_a_seed_names_its_traces():
    assert random_lines(3, 7) == random_lines(3, 7)
    assert random_lines(3, 7) != random_lines(3, 8)


def test_random_traces_parse_and_have_every_verb_and_every_word():
    coverage = Coverage()
    for number in range(1500):
        lines = random_lines(1, number)
        parse_text(lines)
        coverage.add(Outcome(lines))

    assert coverage.never() == []


def test_only_the_verbs_that_were_asked_for_come_behind_the_mappings():
    lines = [line for number in range(50) for line in random_lines(0, number, ["touch", "munmap"])]

    assert {line.split()[0] for line in lines} <= {
        *("touch", "munmap", "file"),
        *("mmap", "mmapthp", "mmapsh", "mmapfile", "mf", "mm"),
    }


def test_a_difference_is_shrunk_to_the_lines_it_takes():
    lines = ["mmap 0 1M", "mark", "touch 0 0 4K", "mark", "in 1 munmap 0 0 4K", "fork"]

    def fails(candidate):
        return "touch 0 0 4K" in candidate and any("munmap" in line for line in candidate)

    assert shrink(lines, fails) == ["touch 0 0 4K", "munmap 0 0 4K"]


def test_under_none_a_larger_vmpte_behind_a_released_slot_is_known_and_a_smaller_one_is_not():
    trace = parse_text(["mmap 0 4M", "touch 0 0 4M", "dontneed 0 0 2M"])
    theirs = ["0\t0\t0\t0\t\ta", "16\t4096\t1024\t0\t\tb", "12\t2048\t1024\t0\t\tc"]
    larger, smaller = "16\t2048\t1024\t0\t\tc", "8\t2048\t1024\t0\t\tc"

    assert [one.known for one in differences(trace, [*theirs[:2], larger], theirs)] == [True]
    assert [one.known for one in differences(trace, [*theirs[:2], smaller], theirs)] == [False]
    assert [one.known for one in differences(trace, [*theirs[:2], larger], theirs, PT_RECLAIM)] == [False]
    assert [one.by for one in differences(trace, [*theirs[:2], larger], theirs)] == [(4, 0, 0)]


def test_a_row_that_is_missing_is_a_difference():
    trace = parse_text(["mark", "mark"])
    row = "0\t0\t0\t0\t\tmark"

    assert [(one.row, one.ours) for one in differences(trace, [row], [row, row])] == [(1, "nothing")]


def test_the_policy_of_a_host_is_the_one_that_frees_what_its_kernel_frees():
    assert host_policy() == (PT_RECLAIM if kernel_facts()["pt_reclaim"] == "yes" else "none")


def test_a_trace_that_both_sides_follow_alike_agrees(host):
    outcome = compare(["mmap 0 1M", "touch 0 0 64K", "fork 1", "in 1 put 0 0 4K 9", "get 0 0 4K"], host_policy())

    assert (outcome.skipped, outcome.different, len(outcome.theirs)) == ("", [], 5)


def test_a_wrong_answer_is_found_and_shown(host, monkeypatch):
    """The broken twin: a replay that forgets one page."""
    right = agree._replayed

    def wrong(trace, policy):
        return [row.replace("12\t4\t1", "12\t0\t1") for row in right(trace, policy)]

    monkeypatch.setattr(agree, "_replayed", wrong)
    outcome = compare(["mmap 0 1M", "touch 0 0 4K"], host_policy())

    assert outcome.unexplained
    assert outcome.different[0].by == (0, 4, 0)


def test_the_command_prints_agreement_and_coverage(host):
    result = ptelab("agree", "--count", "3", "--seed", "5", "--verbs", "touch,read")

    assert result.returncode == 0, result.stderr
    assert "3 traces: 3 agree on every line" in result.stdout
    assert "never:" in result.stdout


def test_an_unknown_verb_is_one_line():
    result = ptelab("agree", "--verbs", "touch,jump")

    assert (result.returncode, result.stdout) == (2, "")
    assert "unknown verb 'jump'; known: mmap, " in result.stderr


def test_every_word_of_the_table_is_a_word_of_some_verb():
    operands = {operand for verb in VERBS.values() for operand in verb.operands}

    assert set(WORDS) <= operands
