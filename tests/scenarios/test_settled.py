"""--until goes on until the median is known, and says so if it never is."""

import math
import random

import pytest
from command import ptelab

from scenarios import multi_fault
from scenarios.settled import interval, settled


@pytest.mark.parametrize(("rounds", "left_out"), [(6, 0), (8, 0), (9, 1), (12, 2), (20, 5)])
def test_the_interval_leaves_out_as_many_rounds_as_the_tables_of_the_sign_test_say(rounds, left_out):
    values = [float(one) for one in range(rounds)]
    random.Random(rounds).shuffle(values)

    assert interval(values) == (left_out, rounds - 1 - left_out)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_too_few_rounds_settle_nothing(rounds):
    assert interval([1.0] * rounds) == (-math.inf, math.inf)
    assert not settled([1.0] * rounds, 100)


def test_the_interval_holds_the_median_as_often_as_it_says():
    dice = random.Random(7)
    samples = [interval([dice.expovariate(math.log(2)) for _ in range(11)]) for _ in range(2000)]

    assert sum(low <= 1.0 <= high for low, high in samples) / 2000 > 0.95


def test_a_median_is_settled_within_the_share_that_is_asked_for():
    values = [99.0, 99.5, 100.0, 100.0, 100.5, 101.0]

    assert settled(values, 1.0)
    assert not settled(values, 0.9)


def row(cpus, *values):
    return {"cpus": cpus, "policy": "none", "ns_per_fault": list(values), "pf_per_min": list(values)}


def test_rounds_go_on_until_every_row_is_settled_and_no_further():
    rows = {(1, "none"): row(1), (2, "none"): row(2)}
    setup = {"repeat": 50, "until": 1.0}
    done = []
    for share, repeat, key in multi_fault.steps(rows, setup):
        done.append(share)
        rows[key]["ns_per_fault"].append(100.0 if key[0] == 1 or repeat >= 3 else 150.0)

    assert [len(each["ns_per_fault"]) for each in rows.values()] == [15, 15]  # then three on a side may be left out
    assert done == sorted(done)


def test_without_until_there_are_as_many_rounds_as_asked_for():
    rows = {(1, "none"): row(1), (2, "none"): row(2)}

    assert len(list(multi_fault.steps(rows, {"repeat": 3, "until": None}))) == 6


def test_what_is_not_settled_is_named_and_the_run_inconclusive():
    arguments = ["--cpus", "1", "--policy", "none", "--seconds", "0.01", "--no-host", "--engine", "semaphore"]
    run = ptelab("run", "multi-fault", *arguments, "--until", "0.0001%", "--repeat", "2")

    assert run.returncode == 4, run.stderr
    assert "within 0.0001 % of it; not yet: 1 none" in run.stdout
    assert "2 x 0.01 s" in run.stdout


def test_a_share_that_is_none_is_one_line():
    run = ptelab("run", "multi-fault", "--until", "soon")

    assert run.stderr == "ptelab: --until 'soon' is no share; known: per cent from 0 to 1000, as 5% or 5\n"
