"""How cost grows: the exponent of what was measured, one above the bound is named, and the quick form measures all."""

import json
import subprocess
import sys

import pytest
from support import ROOT

from benchmarks.scale import growths, show, too_steep

SIZES = (1000, 4000, 16_000)


def measured(cost):
    """VMAs, of which each size costs so much."""
    growth = growths()["vmas-lowest"]
    growth.ns = {size: cost(size) for size in SIZES}
    return growth


@pytest.mark.parametrize(
    ("cost", "exponent", "met"),
    [
        (lambda size: 300, 1.0, True),
        (lambda size: 300 * size**0.05, 1.05, True),
        (lambda size: 300 * size**0.15, 1.15, False),
        (lambda size: 0.8 * size, 2.0, False),
    ],
)
def test_the_exponent_is_that_of_as_many_operations_as_the_size(cost, exponent, met):
    growth = measured(cost)

    assert growth.exponent == pytest.approx(exponent)
    assert growth.met is met


def test_a_growth_above_the_bound_is_named_and_shown_in_a_hundred_columns(capsys):
    steep, flat = measured(lambda size: size), measured(lambda size: 300)

    show([steep, flat])

    out = capsys.readouterr().out
    assert too_steep([steep, flat]) == ["vmas-lowest: exponent 2.00 is above 1.1"]
    assert out.count("ABOVE 1.1") == 1
    assert max(map(len, out.splitlines())) <= 100


def test_one_size_alone_has_no_exponent_and_is_no_fault():
    growth = growths()["files"]
    growth.ns = {1: 200.0}

    assert growth.exponent is None
    assert too_steep([growth]) == []


def test_the_quick_form_measures_the_smallest_size_and_writes_it(tmp_path):
    command = [sys.executable, "-m", "benchmarks.scale", "--quick", "--only", "vmas-split,files"]
    run = subprocess.run([*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, cwd=ROOT)

    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "out.json").read_text())["growths"]
    assert {name: growth["sizes"] for name, growth in found.items()} == {"vmas-split": [1000], "files": [1]}
    assert all(growth["exponent"] is None for growth in found.values())


@pytest.mark.parametrize("wrong", [["--only", "vma"], ["--policy", "nonesuch"]])
def test_a_name_that_is_none_is_refused_in_a_line(wrong):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *wrong], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert run.returncode == 2
    assert wrong[1] in run.stderr
