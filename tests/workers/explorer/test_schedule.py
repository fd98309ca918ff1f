"""Schedules as text: they survive edits, and say where they do not fit.

Covers: workers/explorer/counterexample
"""

import litmus
import pytest
from support import in_engine


def test_a_schedule_survives_unrelated_edits():
    assert in_engine("explore", litmus.edited) == ["count-saturated"] * 2


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("7", "'7' is no switch"),
        ("0@set_pte/entry.99=1", "never comes to where CPU 0 is about to make its 99th access"),
        ("0@rcu_qs/rcu.gp_seq.1=5", "but CPU 5 cannot move there"),
    ],
)
def test_a_schedule_that_does_not_fit_says_where(schedule, why):
    assert why in in_engine("explore", litmus.misfit, schedule)
