"""What a table says of two lists of measurements."""

import pytest

from scenarios.session import report
from scenarios.session.style import Style, default_width, styled


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([100, 100, 100], [90, 90, 90], "-10.00 %"),
        ([100, 102, 98], [90, 91, 89], "-10.00 %"),
        ([100, 150, 50], [90, 91, 89], "-10.00 % n.s."),
        ([100], [90], "-10.00 %"),
        ([0, 0], [1, 1], "-"),
    ],
)
def test_a_change_within_twice_its_standard_error_is_called_not_significant(before, after, said):
    assert report.change(before, after) == said


def test_millions_are_the_mean_with_the_standard_deviation_of_the_mean():
    assert report.millions([1e6, 3e6]) == "2.00 M +- 50.00 %"
    assert report.millions([1.5e6]) == "1.50 M"


TITLE = "race (piece removed)"
HEADER = [TITLE, "detector", "bare caught", "median", "operations", "clean operations", "why"]
ROWS = [
    ["publish-before-init", "count-saturated", "20/20", "1,234.5 ms", "1,234,567", "12,345,678", "a word " * 12],
    ["no-flush", "tlb-hit-freed-frame", "2/2", "> 10 s", "34,514", "9,188", "-"],
]


def shown(capsys, one, left=(0, 1, 6)):
    """The table as it is printed in a style."""
    with styled(one):
        report.table(HEADER, ROWS, "caught", left)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 72, 100, 200])
def test_a_table_is_no_wider_than_asked_and_loses_no_figure(capsys, width):
    said = shown(capsys, Style(width=width))

    assert max(map(len, said.splitlines())) <= width
    for row in ROWS:
        for cell in row[2:6]:
            assert said.count(cell) >= 1
    assert said.split().count("word") == 12
    assert said.count("publish-before-init") >= (1 if width == 200 else 2)  # each part begins with the name


def test_a_table_that_fits_is_one(capsys):
    assert shown(capsys, Style(width=200)).count("publish-before-init") == 1


@pytest.mark.parametrize(("columns", "width"), [("72", 72), ("300", 100), ("3", 40), ("", 100)])
def test_without_a_width_it_is_that_of_the_terminal_and_100_at_most(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)

    assert default_width() == width


def test_a_line_that_is_too_long_becomes_several_and_a_command_stays_one(capsys):
    command = "again: ptelab explore race/no-flush " + "--schedule 0@x.1 " * 8
    with styled(Style(width=72)):
        report.write("word " * 40)
        report.write(command)

    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 72
    assert " ".join(lines).split() == ["word"] * 40
    assert last == command


def test_in_markdown_a_table_is_one_and_text_stays_as_it_is(capsys):
    said = shown(capsys, Style("markdown", 72))
    with styled(Style("markdown")):
        report.write("check   rss 0   ok")

    lines = said.splitlines()
    assert "**caught**" in lines
    assert [line.count("|") for line in lines if line.startswith("|")] == [8] * 4
    assert capsys.readouterr().out == "    check   rss 0   ok\n"


def test_a_sign_of_markdown_in_a_cell_is_escaped(capsys):
    with styled(Style("markdown")):
        report.table(["a"], [["x|y"]])

    assert "| x\\|y |" in capsys.readouterr().out
