"""A command fills the places of a document, and nothing else of it."""

import pytest

from scenarios.session.errors import UserError
from scenarios.session.places import filled

PAGE = "before\n<!-- one -->\nold\nlines\n<!-- end of one -->\nbetween\n<!-- two -->\n<!-- end of two -->\nbehind\n"


def test_each_table_takes_the_place_of_the_old_one_and_the_rest_stays():
    page = filled(PAGE, {"one": "new\n", "two": "a\nb\n"})

    assert page == PAGE.replace("old\nlines\n", "new\n").replace("<!-- two -->\n", "<!-- two -->\na\nb\n")
    assert filled(page, {"one": "new\n", "two": "a\nb\n"}) == page


@pytest.mark.parametrize("page", ["", PAGE.replace("<!-- end of two -->\n", ""), PAGE + "<!-- two -->\n"])
def test_a_place_that_is_missing_or_there_twice_is_said(page):
    with pytest.raises(UserError, match=r"no place for the table of (one|two), between <!-- "):
        filled(page, {"one": "", "two": ""})
