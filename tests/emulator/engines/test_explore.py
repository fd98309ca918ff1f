"""The explore engine: every step is the strategy's choice, and the reduced search misses nothing.

Covers: emulator/engines/partial_order, emulator/engines/store_buffer, emulator/locking/spinlock,
workers/explorer/search
"""

import pytest
from support import in_engine


def explore(expression):
    return in_engine("explore", f"__import__('litmus').{expression}", build="debug")


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_litmus_programs_have_just_the_outcomes_that_the_literature_allows(memory):
    found = explore(f"classic('{memory}')")

    assert len(found) == 18
    assert [name for name, as_should in found.items() if not all(as_should)] == []


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_the_reduced_search_finds_just_what_an_abstract_machine_can_reach(memory):
    assert explore(f"compare_random('{memory}', 150)") == []


def test_a_bound_that_keeps_nothing_out_misses_nothing():
    assert explore("compare_bounded(50)") == []


def test_the_reduction_runs_a_tenth_of_the_executions_or_less():
    assert explore("spread(False)") >= 10 * explore("spread(True)")


def test_a_lock_is_found_to_exclude_and_its_lack_to_lose_updates():
    assert explore("locked(False)")[:2] == [3, 3]
    lowest, highest, schedule = explore("locked(True)")

    assert (lowest, highest) == (1, 3)
    assert explore(f"replayed({schedule}, 10)") == [1] * 10


def test_two_locks_in_two_orders_deadlock():
    assert explore("deadlock()") is True


def test_a_loop_that_was_led_to_wait_by_what_is_no_longer_true_is_not_stuck():
    assert explore("looks_twice()") is False
