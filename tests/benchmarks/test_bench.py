"""The benchmark: a median keeps its promise or misses it, and what was measured is written with every value.

Covers: benchmarks/command
"""

import json
import subprocess
import sys

import pytest
from support import ROOT

from benchmarks.bench import Figure, Worst, missed, show


@pytest.mark.parametrize(
    ("figure", "values", "met"),
    [
        (Figure("rate", "x", 15, at_least=True), [14, 15, 90], True),
        (Figure("rate", "x", 15, at_least=True), [14, 14, 90], False),
        (Figure("cost", "ns", 15, at_least=False), [3, 15, 90], True),
        (Worst("cost", "ns", 15, at_least=False), [3, 15, 90], False),
        (Figure("told", "x", None), [90], True),
    ],
)
def test_a_promise_is_about_the_median_or_the_worst(figure, values, met):
    figure.values += values

    assert figure.met is met


def test_the_change_against_an_earlier_file_is_shown(capsys):
    figure = Figure("rate", "x", 15)
    figure.values += [12, 12]

    show({"rate": figure}, {"figures": {"rate": {"median": 16.0}}})

    line = capsys.readouterr().out.strip().splitlines()[-1].split()
    assert line == ["rate", "12.00", "x", "12.00", "..", "12.00", ">=", "15", "MISSED", "-25.0", "%"]


def test_a_missed_promise_is_found_and_a_kept_one_is_not():
    slow, fast, told = Figure("start", "s", 0.3, at_least=False), Figure("rate", "x", 15), Figure("told", "x", None)
    slow.values, fast.values, told.values = [0.4], [16], [1]

    assert missed({"start": slow, "rate": fast, "told": told}) == ["start: 0.40 s is not <= 0.3"]


@pytest.mark.parametrize("text", ['{"rows": []}', "[]", "no JSON"])
def test_a_base_without_figures_is_refused(text, tmp_path):
    file = tmp_path / "base.json"
    file.write_text(text)
    command = [sys.executable, "-m", "benchmarks.bench", "--base", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    assert run.returncode in (1, 2)
    assert "has no figures" in run.stderr or "cannot be read" in run.stderr


def test_a_part_is_measured_alone_and_written_with_every_value(tmp_path):
    command = [sys.executable, "-m", "benchmarks.bench", "--only", "checks", "--repeat", "1"]
    run = subprocess.run([*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, cwd=ROOT)

    assert run.returncode == 0, run.stderr
    (figure,) = json.loads((tmp_path / "out.json").read_text())["figures"].values()
    assert len(figure["values"]) == 1
    assert figure["median"] == figure["values"][0] > 0
