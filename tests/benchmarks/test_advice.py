"""The figures of docs/operators.md are of processes that are what their names say.

Covers: benchmarks/churn, benchmarks/situations
"""

import shutil

import pytest

from benchmarks import advice, situations
from scenarios.advice.reading import read
from workers.host.kernel_facts import kernel_facts

MIB = 1 << 20


def test_a_sparse_process_has_a_table_for_each_page_it_touched():
    with advice.sparse_process(256 * MIB, 4 * MIB) as pid:
        more = read(pid)
    with advice.sparse_process(256 * MIB, 256 * MIB) as pid:
        one = read(pid)

    assert 60 <= more.needed.pte - one.needed.pte <= 64
    assert more.waste == one.waste


def test_a_churn_waits_in_the_end_and_holds_what_it_kept():
    reading = advice.churned("", {}, waves=1, size=1)

    assert reading.needed.pages > 256
    assert reading.held >= reading.needed_low


@pytest.mark.skipif(not any(map(shutil.which, ("perf", "strace"))), reason="neither perf nor strace is installed")
def test_the_calls_of_a_churn_are_seen_to_its_end():
    try:
        seen = advice.calls_of("", {"MALLOC_TRIM_THRESHOLD_": "0"}, waves=1, size=8)
    except advice.SampleUnavailable as error:
        pytest.skip(str(error))

    assert seen.munmap_calls > 0


def test_a_library_that_is_not_there_is_left_out():
    assert advice.library("libno-such-thing.so.1") is None
    assert advice.library("") == ""


def test_situations_differ_as_their_names_say():
    with situations.process(lambda: None) as pid:
        base = read(pid)

    def added(title):
        with situations.process(situations.SITUATIONS[title]) as pid:
            reading = read(pid)
        return reading.needed_low - base.needed_low, reading.waste - base.waste, reading

    needed, waste, _ = added("released in calls of 64 KiB")
    assert needed < 64 < 2000 < waste
    needed, waste, _ = added("1 GiB of huge pages")
    assert needed > 2000
    assert waste < 64
    _, waste, _ = added("released in calls of 2 MiB")
    assert (waste < 64) == (kernel_facts()["pt_reclaim"] == "yes")


def test_a_situation_that_cannot_be_made_is_an_error():
    with pytest.raises(OSError, match="not enough memory"), situations.process(lambda: 1 // 0):
        pass
