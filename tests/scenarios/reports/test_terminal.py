"""Bars and curves in a terminal: within its width, in proportion, plain where no colour is shown."""

import itertools
import os
import pty
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from scenarios.cli import command_line
from scenarios.reports.reading import read_runs
from scenarios.reports.terminal import Bars, Curves, drawn, pictures

RECORDS = Path(__file__).with_name("records")
DRAWN = ("multi-fault", "madvise-loop", "race", "replay-refcount", "whatif")


@pytest.mark.parametrize("width", [40, 72, 100])
@pytest.mark.parametrize("name", DRAWN)
def test_no_line_is_longer_than_the_terminal(name, width):
    (run,) = read_runs(str(RECORDS / f"{name}.json"))
    found = pictures(run)

    assert found
    for picture in found:
        lines = drawn(picture, width, plain=False)
        assert len(lines) == len(picture.rows)
        assert all(len(f"{name}  {shape}  {said}".rstrip()) <= width for name, shape, said in lines)


def test_a_bar_is_as_long_as_its_value():
    lines = drawn(Bars("x", [("a", 50.0, ""), ("b", 100.0, ""), ("c", 0.0, "")]), 60, plain=True)
    half, whole, none = (shape.count("#") for _, shape, _ in lines)

    assert abs(whole - 2 * half) <= 1 < 40 < whole
    assert none == 0


def test_a_bar_of_a_log_scale_grows_with_the_power():
    lines = drawn(Bars("x", [("a", 10.0**i, "") for i in range(1, 7)], log=True), 90, plain=True)
    lengths = [shape.count("#") for _, shape, _ in lines]
    steps = {after - before for before, after in itertools.pairwise(lengths)}

    assert max(steps) - min(steps) <= 2  # rounded, and counted from 1


def test_a_curve_keeps_the_peak_that_lasts_one_operation():
    values = [4] * 5000
    values[3333] = 4096
    ((_, shape, _),) = drawn(Curves("x", [("a", values, "")]), 60, plain=True)

    assert shape.count("@") == 1
    assert abs(shape.index("@") / len(shape) - 3333 / 5000) < 0.03


def test_a_name_that_is_too_long_is_cut_in_its_middle():
    ((name, _, _),) = drawn(Bars("x", [("a" * 50 + "z", 1.0, "")]), 60, plain=True)

    assert len(name) == 20
    assert ".." in name
    assert name.endswith("z")


def test_a_pipe_gets_no_escapes_and_a_terminal_that_knows_ascii_gets_ascii():
    piped = ptelab("report", str(RECORDS / "multi-fault.json"))
    narrow = subprocess.run(
        [*COMMAND, "report", str(RECORDS / "whatif.json"), str(RECORDS / "multi-fault.json")],
        capture_output=True,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"},
        cwd=ROOT,
        timeout=60,
    )

    assert piped.returncode == 0, piped.stderr
    assert "\x1b" not in piped.stdout
    assert narrow.returncode == 0, narrow.stderr
    assert max(map(len, narrow.stdout.decode("ascii").splitlines())) <= 100


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_gets_colour_unless_no_color_is_set(no_colour):
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "NO_COLOR"} | {
        "TERM": "xterm-256color"
    }
    environment |= {"NO_COLOR": "1"} if no_colour else {}
    command = [*COMMAND, "report", str(RECORDS / "multi-fault.json")]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT) as child:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(ours)

    assert child.returncode == 0, said
    assert (b"\x1b[3" in said) is not no_colour


def test_what_cannot_be_drawn_says_what_can(capsys):
    assert command_line(["report", str(RECORDS / "explored-race.json")]) == 2
    assert "-o FILE" in capsys.readouterr().err
