"""Two rows are compared beyond their spread: what is worse is found, what is the same or noise is not."""

import inspect

import numpy as np
import pytest

from emulator.mm_types import REUSE_BUCKETS
from emulator.pages.page_alloc import reuse_bucket
from scenarios.arena.figures import (
    BASELINE,
    FIGURES,
    added_ns,
    beaten_by,
    exceeds,
    given_back,
    spread,
    worse,
)
from scenarios.arena.measure import middle_ns, percentile_us


def row(policy, workload="sweep", cpus=1, **figures):
    """A row in which every figure is 100, three times, but for those given."""
    filled = {figure: [100, 100, 100] for figure in FIGURES}
    sizes = {"table_bytes": 0, "cpu_bytes": 0, "chunks": 10, "engine": "native"}
    return {"policy": policy, "workload": workload, "cpus": cpus, **sizes, **filled, **figures}


def test_one_exceeds_the_other_only_if_no_repeat_overlaps_and_the_medians_are_apart():
    assert exceeds([11, 12, 13], [8, 9, 10], 0.05)
    assert not exceeds([11, 12, 13], [8, 9, 11], 0.05)  # one repeat reaches the other's
    assert not exceeds([104, 104, 104], [100, 100, 100], 0.05)  # apart, and less than the noise
    assert not exceeds([], [1], 0)
    assert not exceeds([1], [], 0)


def test_a_policy_is_beaten_by_one_that_is_nowhere_worse_and_somewhere_better():
    slow = row("slow", ns_per_fault=[120, 121, 122])
    small = row("small", ns_per_fault=[120, 121, 122], later_kb=[50, 50, 50])

    assert beaten_by([row("fast"), slow]) == {"fast": [], "slow": ["fast"]}
    assert beaten_by([row("fast"), small]) == {"fast": [], "small": []}  # each is better in something
    assert beaten_by([row("one"), row("same")]) == {"one": [], "same": []}
    assert beaten_by([row("plain"), row("bytes") | {"table_bytes": 8}]) == {"plain": [], "bytes": ["plain"]}


def test_one_workload_in_which_it_is_better_saves_a_policy():
    rows = [row("fast"), row("slow", ns_per_fault=[120] * 3)]
    rows += [row("fast", "free"), row("slow", "free", ns_per_zap=[50] * 3)]

    assert beaten_by(rows)["slow"] == []


def test_a_figure_that_does_not_apply_decides_nothing():
    never = row("never", reuse_median_us=[None] * 3)

    assert not worse(never, row("other"), "reuse_median_us")
    assert not worse(row("other"), never, "reuse_median_us")


def test_what_a_policy_gives_back_is_of_what_the_baseline_has_and_the_policy_does_not_need():
    base = row(BASELINE, later_kb=[500], needed_kb=[100])
    full = row(BASELINE, later_kb=[100], needed_kb=[100])

    assert given_back(row("half", later_kb=[300], needed_kb=[100]), base) == 50
    assert given_back(base, base) == 0
    assert given_back(full, full) is None
    assert given_back(row("zeros", later_kb=[40], needed_kb=[40]), full) == 100  # it needs none of them


def test_added_nanoseconds_pair_the_repeats():
    assert added_ns(row("a", ns_per_fault=[11, 22, 33]), row("b", ns_per_fault=[1, 2, 3])) == [10, 20, 30]
    assert spread([100]) == 0
    assert spread([90, 110]) == pytest.approx(10)


def test_a_percentile_lies_in_the_bucket_that_holds_it():
    times = [0] * REUSE_BUCKETS
    for nanoseconds in [1000] * 98 + [50_000, 10_000_000]:
        times[inspect.unwrap(reuse_bucket)(nanoseconds)] += 1

    assert percentile_us(np.array(times), 0.5) == pytest.approx(1.0, rel=0.07)
    assert percentile_us(np.array(times), 0.99) == pytest.approx(50, rel=0.07)
    assert percentile_us(np.array(times), 1) == pytest.approx(10_000, rel=0.07)
    assert percentile_us(np.zeros(REUSE_BUCKETS, int), 0.5) is None
    for bucket in range(REUSE_BUCKETS - 1):
        assert inspect.unwrap(reuse_bucket)(int(middle_ns(bucket))) == bucket
