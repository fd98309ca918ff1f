"""Events in columns fit any width, and lose no word for it."""

from collections import Counter

import pytest
from stories import publish_before_init

from scenarios.proofs.subject import names, subject
from workers.telling.columns import NARROWEST, Row, column_lines, hanging, history_lines
from workers.telling.story import story_of, story_text

ACROSS = "... 24 earlier events on which nothing of this depends at all"
TASKS = ["CPU 0", "CPU 1", "CPU 2", "the coordinator"]
TEXTS = [
    "[touch 0x1000 0x1000]",
    "lock_table: spin_lock the ptl of table 6, which everybody knows",
    "    holds no lock",
]


def letters(text):
    """A text without what is between its words, and without rules."""
    return "".join(word for word in text.split() if set(word) != {"="})


def events(of):
    """Events of so many processes, a row across all, and one that clashes."""
    rows = [Row(f"{i:>6}", TASKS[i % of], ">> " if i == 4 else "", TEXTS) for i in range(6)]
    return [rows[0], ACROSS, *rows[1:]]


@pytest.mark.parametrize("of", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [40, 60, 72, 100, 240])
def test_a_story_is_no_wider_than_asked_and_loses_no_word(width, of):
    lines = column_lines(TASKS[:of], events(of), 8, width, "  step")

    assert max(map(len, lines)) <= width
    said = letters(" ".join(lines))
    assert [line.split()[0] for line in lines[1:] if line[:6].strip()] == list("012345")
    assert said.count(">>") == 1
    assert letters(ACROSS) in said
    if of == 1 or width == 40:  # then no line is beside another one's
        assert all(said.count(letters(text)) == 6 for text in TEXTS)


def test_columns_stand_side_by_side_as_long_as_there_is_room():
    room = 8 + 2 + 3 * NARROWEST + 2 * 3

    beside, below = (column_lines(TASKS[:3], events(3), 8, width)[0].split() for width in (room, room - 1))

    assert beside == ["CPU", "0", "CPU", "1", "CPU", "2"]
    assert below == ["CPU", "0"]


@pytest.mark.parametrize("width", [40, 72, 100])
def test_the_story_of_a_counterexample_fits(width):
    lines = story_text(story_of(publish_before_init()), width)

    assert max(map(len, lines)) <= width
    assert sum(">>" in line for line in lines) == 2


@pytest.mark.parametrize("width", [40, 72, 100])
def test_the_history_of_every_race_fits_and_keeps_its_words_in_their_columns(width):
    for name in names():
        text = subject(name).text
        lines = history_lines(text, width)

        assert max(map(len, lines)) <= width, name
        assert not Counter(letters(text)) - Counter(letters(" ".join(lines))), name


def test_a_history_that_fits_is_left_as_it_is():
    text = subject("race/no-flush").text

    assert "\n".join(history_lines(text, 120)) == text


def test_what_one_process_does_stays_in_its_column():
    text = f"""A race.

CPU 0                                  CPU 1
=====                                  =====
looks at the pmd
                                       takes the table away {"again " * 5}
                                         and again
stores to it"""

    lines = history_lines(text, 72)

    at = lines[2].index("CPU 1")
    first = lines.index("looks at the pmd")
    assert lines[-1] == "stores to it"
    assert {line[:at] for line in lines[first + 1 : -1]} == {" " * at}
    assert " ".join(" ".join(lines[first + 1 : -1]).split()) == f"takes the table away {'again ' * 5}and again"


def test_a_line_that_fits_is_one():
    assert hanging("  one", 5) == ["  one"]
    assert hanging("  one two", 8) == ["  one", "    two"]
