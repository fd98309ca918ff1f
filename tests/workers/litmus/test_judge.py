"""Litmus tests: the published verdicts hold, the reduced search loses nothing, and each piece of a model is needed.

Covers: workers/litmus/program, emulator/engines/load_queue, emulator/engines/memory_model,
emulator/engines/dependencies
"""

import json

import pytest
import verdicts
from support import in_engine


def test_x86_tso_is_met_both_ways():
    found = in_engine("explore", verdicts.judged, "tso", "tso")

    assert len(found) == 60
    assert [one for one in found if one[1:3] != [True, True] or one[3] != one[4]] == []


@pytest.mark.parametrize(("memory", "reached"), [("sc", 2), ("tso", 9), ("pso", 18), ("arm", 28)])
def test_nothing_that_linux_forbids_is_reached_and_what_is_reached_of_the_rest_is_known(memory, reached):
    found = in_engine("explore", verdicts.judged, "lkmm", memory)

    assert len(found) == 120
    assert [one for one in found if one[1:3] != [True, True]] == []
    assert sum(one[3] and one[4] for one in found) >= reached


def test_without_a_piece_of_a_memory_model_some_verdict_does_not_hold():
    found = in_engine("explore", verdicts.wrong_without)

    assert found.keys() == verdicts.TWINS.keys()
    assert [piece for piece, wrong in found.items() if not wrong] == []


@pytest.mark.parametrize("memory", ["sc", "pso", "arm"])
def test_the_reduced_search_finds_every_end_of_random_tests(memory):
    complete, differ = in_engine("explore", verdicts.compare_unreduced, memory, 40, 1000)

    assert complete >= 20
    assert differ == []


def test_the_race_detector_says_what_linux_says_of_the_same_programs():
    found = in_engine("explore", verdicts.races)

    assert sum(one[2] for one in found) >= 10
    assert [one for one in found if one[2] != one[3]] == []


def locked(threads):
    body = [{"op": "lock", "loc": "l"}, {"op": "rmw", "f": "add", "loc": "x", "val": 1, "kind": "relaxed"}]
    body += [{"op": "unlock", "loc": "l"}]
    return json.dumps({"name": "l", "threads": [body] * threads, "condition": "x == 1", "quantifier": "exists"})


def test_a_lock_is_taken_in_one_step():
    assert in_engine("explore", verdicts.executions, [locked(n) for n in (1, 2, 3, 4)], "sc") == [
        [1, 1], [1, 2], [1, 6], [1, 24],
    ]  # fmt: skip


def section(*inner):
    return [{"op": "rcu_read_lock"}, *inner, {"op": "rcu_read_unlock"}]


def test_a_grace_period_costs_two_steps_and_no_loop():
    update = [{"op": "store", "loc": "x", "val": 1, "kind": "once"}, {"op": "synchronize_rcu"}]
    update.append({"op": "store", "loc": "y", "val": 1, "kind": "once"})
    reader = section(
        {"op": "load", "reg": "a", "loc": "x", "kind": "once"}, {"op": "load", "reg": "b", "loc": "y", "kind": "once"}
    )
    test = {"name": "g", "threads": [update, reader], "condition": "1:a == 0 && 1:b == 1", "quantifier": "exists"}
    ((ends, executions),) = in_engine("explore", verdicts.executions, [json.dumps(test)], "sc")

    assert (ends, executions <= 6) == (3, True)


def test_a_grace_period_within_a_section_of_its_own_has_no_end():
    stuck = {"name": "g", "threads": [section({"op": "synchronize_rcu"})], "condition": "1", "quantifier": "exists"}

    assert in_engine("explore", verdicts.executions, [json.dumps(stuck)], "pso") == [[0, 1]]
