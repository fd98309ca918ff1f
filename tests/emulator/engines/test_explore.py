"""The explore engine: every step is the strategy's choice, and the reduced search misses nothing.

Covers: emulator/engines/partial_order, emulator/engines/store_buffer, emulator/locking/spinlock,
workers/explorer/search
"""

import litmus
import pytest
from support import in_engine


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_litmus_programs_have_just_the_outcomes_that_the_literature_allows(memory):
    found = in_engine("explore", litmus.classic, memory)

    assert len(found) == 18
    assert [name for name, as_should in found.items() if not all(as_should)] == []


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_the_reduced_search_finds_just_what_an_abstract_machine_can_reach(memory):
    assert in_engine("explore", litmus.compare_random, memory, 150) == []


def test_a_bound_that_keeps_nothing_out_misses_nothing():
    assert in_engine("explore", litmus.compare_bounded, 50) == []


def test_the_reduction_runs_a_tenth_of_the_executions_or_less():
    assert in_engine("explore", litmus.spread, False) >= 10 * in_engine("explore", litmus.spread, True)


def test_a_lock_is_found_to_exclude_and_its_lack_to_lose_updates():
    assert in_engine("explore", litmus.locked, False)[:2] == [3, 3]
    lowest, highest, schedule = in_engine("explore", litmus.locked, True)

    assert (lowest, highest) == (1, 3)
    assert in_engine("explore", litmus.replayed, schedule, 10) == [1] * 10


def test_two_locks_in_two_orders_deadlock():
    assert in_engine("explore", litmus.deadlock) is True


def test_an_execution_is_cut_where_a_task_goes_on_that_nobody_takes_the_turn_from():
    steps, most = in_engine("explore", litmus.steps_of_one_that_goes_on)

    assert steps == most


def test_a_loop_that_was_led_to_wait_by_what_is_no_longer_true_is_not_stuck():
    assert in_engine("explore", litmus.looks_twice) is False


def test_each_order_in_which_a_lock_is_taken_is_one_execution():
    assert [in_engine("explore", litmus.lock_orders, n) for n in (2, 3, 4)] == [[2, 2], [6, 6], [24, 24]]
