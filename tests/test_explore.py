"""The explore engine: every step is the strategy's choice, and the reduced search misses nothing."""

import pytest
from support import in_engine


def explore(expression):
    return in_engine("explore", f"__import__('litmus').{expression}", build="debug")


@pytest.mark.parametrize("memory", ["sc", "tso", "pso"])
def test_litmus_programs_have_just_the_outcomes_that_the_literature_allows(memory):
    found = explore(f"classic('{memory}')")

    assert len(found) == 14
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


def test_random_walks_and_pct_lose_the_update_as_well():
    assert max(explore("executions_of_chance(10)").values()) < 100


def test_two_locks_in_two_orders_deadlock():
    assert explore("deadlock()") is True


def test_readers_of_mmap_lock_commute():
    assert explore("mmap_lock('rrr')") == [1, False, [[0, 0]]]


@pytest.mark.parametrize(
    ("tasks", "seen"), [("rw", [[0, 0], [2, 2]]), ("rd", [[0, 0], [2, 2]]), ("dd", [[1, 1], [2, 2]])]
)
def test_mmap_lock_excludes_a_writer_and_loses_no_wake_up(tasks, seen):
    assert explore(f"mmap_lock({tasks!r})")[1:] == [False, seen]


def test_without_mmap_lock_a_reader_sees_half_of_a_write():
    assert [0, 2] in explore("mmap_lock('rw', locked=False)")[2]


def test_a_loop_that_was_led_to_wait_by_what_is_no_longer_true_is_not_stuck():
    assert explore("looks_twice()") is False


def test_publish_before_init_is_found_with_two_preemptions_and_replays():
    word, what, steps = explore("publish_before_init(False, 2)")

    assert (word, what) == ("fail", "count-saturated")
    assert steps < 150


def test_publish_before_init_is_absent_with_one_preemption_when_fixed():
    assert explore("publish_before_init(True, 1)")[0] == "pass (bound 1 complete)"


def test_a_schedule_survives_unrelated_edits():
    assert explore("edited()") == ["count-saturated"] * 2


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("7", "'7' is no switch"),
        ("0@set_pte/entry.99=1", "never comes to where CPU 0 is about to make its 99th access"),
        ("0@rcu_qs/rcu.gp_seq.1=5", "but CPU 5 cannot move there"),
    ],
)
def test_a_schedule_that_does_not_fit_says_where(schedule, why):
    assert why in explore(f"misfit({schedule!r})")
