"""The latency of a cache line: probed in nanoseconds, and compared from probe to probe."""

import os

import pytest

from workers.host import line_latency


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: no line goes from one to another")
def test_a_probe_takes_more_than_nothing_and_less_than_a_system_call_would():
    assert 1 < line_latency.probe() < 100_000


def test_one_processor_has_no_latency(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})

    assert line_latency.probe() is None


@pytest.mark.parametrize(("probes", "changed"), [([], False), ([44.0], False), ([44, 60], False), ([44, 198], True)])
def test_two_probes_that_differ_by_half_have_met_two_machines(probes, changed):
    assert line_latency.disagree(probes) is changed


def test_the_words_give_the_spread_only_where_there_is_one():
    assert line_latency.words([44, 45]) == "a line takes 44 ns from processor to processor"
    assert line_latency.words([44, 44, 198]) == "a line takes 44 ns from processor to processor (44 to 198)"
