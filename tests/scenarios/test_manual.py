"""`ptelab help TOPIC` prints the pages of docs/, and nothing of its own."""

import re

import pytest
from command import ptelab
from support import ROOT

from scenarios.manual import EXIT_STATUS, TRACES, pages, section, text_of, topics
from scenarios.session.style import WIDTH

PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_every_page_is_a_topic_and_the_list_says_what_it_is_about():
    result = ptelab("help")

    assert result.returncode == 0, result.stderr
    listed = re.findall(r"^  (\S+) +\S", result.stdout, re.MULTILINE)
    assert listed == list(topics()) == sorted([*PAGES, EXIT_STATUS])


@pytest.mark.parametrize("topic", [*PAGES, EXIT_STATUS])
def test_a_topic_is_the_text_of_its_page_within_the_width_of_a_terminal(topic):
    text = text_of(topic)
    page = pages()["json" if topic == EXIT_STATUS else topic].read_text()

    assert max(map(len, text.splitlines())) <= WIDTH
    if topic != TRACES:  # the reference alone, which tests/scenarios/traces/test_reference.py holds to the page
        words = set(re.findall(r"[a-z]{9,}", text))
        assert len(words) > 2
        assert [word for word in words if word not in page] == [], "nothing but what the page says"


def test_the_exit_statuses_are_all_there_and_only_their_section():
    result = ptelab("help", EXIT_STATUS)

    assert result.returncode == 0, result.stderr
    for word in ("died", "inconclusive", "130", "143"):
        assert word in result.stdout
    assert "environment" not in result.stdout


def test_a_section_ends_at_the_next_one():
    assert section("# a\n\n## b\n\nc\n\n### d\n\n## e\n", "b") == "## b\n\nc\n\n### d\n"


def test_an_unknown_topic_is_one_line_that_says_what_fits():
    result = ptelab("help", "cooking")

    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"ptelab: unknown topic 'cooking'; known: .*traces.*\n", result.stderr)
