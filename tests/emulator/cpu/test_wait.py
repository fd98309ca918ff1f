"""One way to sleep and wake: no wake-up is lost, in every interleaving and under every memory model."""

import litmus
import pytest
from support import in_engine

BARRIERS = ["smp_mb__before_atomic", "smp_mb__after_atomic"]


STRONGER = [pytest.param(memory, marks=pytest.mark.stress) for memory in ("sc", "tso")]  # pso allows all that they do


@pytest.mark.parametrize("memory", ["pso", *STRONGER])
def test_a_cpu_that_sleeps_is_woken_whatever_order_stores_take(memory):
    assert in_engine("explore", litmus.sleepers, memory) == ["pass (bound 1 complete)", ""]


@pytest.mark.parametrize("barrier", BARRIERS)
def test_without_a_barrier_beside_its_addition_a_wake_up_is_lost(barrier):
    assert in_engine("explore", litmus.sleepers, "pso", barrier) == ["fail", "deadlock"]


@pytest.mark.stress
@pytest.mark.parametrize("barrier", BARRIERS)
def test_where_stores_leave_in_order_an_addition_needs_no_barrier_beside_it(barrier):
    assert in_engine("explore", litmus.sleepers, "tso", barrier) == ["pass (bound 1 complete)", ""]
