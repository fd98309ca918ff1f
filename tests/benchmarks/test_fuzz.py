"""Hostile input: parsers refuse it and do nothing else, and what does something else is told with its input.

Covers: benchmarks/judge
"""

import random

import pytest

from benchmarks import fuzz
from benchmarks.judge import INPUTS, commands
from scenarios.session.errors import UserError
from scenarios.session.options import digits


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_fuzzed_inputs_are_parsed_or_refused(name):
    outcome = fuzz.fuzzed(name, 150, 0)

    assert outcome.findings == []
    assert 0 < outcome.refused < outcome.inputs
    assert not outcome.failed


def test_what_ends_otherwise_is_told_with_its_input(monkeypatch):
    def parse(text):
        if "x" in text:
            raise KeyError("x")
        if "y" in text:
            raise UserError("no y")

    target = fuzz.Target("broken", parse, (UserError,), ["axbc", "yy", "z"])
    monkeypatch.setitem(fuzz.TARGETS, "broken", lambda: target)

    outcome = fuzz.fuzzed("broken", 200, 0)

    assert outcome.failed
    assert outcome.refused > 0
    assert len(outcome.findings) == fuzz.KEPT
    assert all(finding.startswith("KeyError: 'x' for '") for finding in outcome.findings)


def test_an_input_that_has_no_end_is_told(monkeypatch):
    def parse(text):
        while True:
            pass

    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.05)
    monkeypatch.setitem(fuzz.TARGETS, "endless", lambda: fuzz.Target("endless", parse, (UserError,), ["a"]))

    (finding,) = fuzz.fuzzed("endless", 1, 0).findings

    assert finding.startswith("Hang: no end after 0.05 s for ")


def test_a_seed_names_the_same_inputs():
    corpus = ["mmap 0 1M", "touch 0 0 4k"]
    first, again = ([fuzz.changed(random.Random(5), corpus) for _ in range(20)] for _ in range(2))

    assert first == again


def test_a_number_with_more_digits_than_any_is_none():
    assert digits("9" * 5000) is None
    assert digits("12") == 12
    assert digits("1x") is None


def test_a_short_judge_asks_less_of_everybody():
    (_, _, whole), (_, _, some) = commands(INPUTS)[1], commands(2000)[1]

    assert whole[-1] == "0"
    assert some[-1] == "2"
