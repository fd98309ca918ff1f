"""Expressions of litmus tests: C's precedence, 64 bits, and one line for what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.litmus.expression import BadTest, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("1 | 2 == 2", 1),
        ("1 & 3 == 1", 0),
        ("6 ^ 3 & 1", 7),
        ("1 << 2 + 1", 8),
        ("!0 + ~0", 0),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1 || 0 && 0", 1),
        ("(1 || 0) && 0", 0),
        ("x - &x", 3),
        ("0:r0 == &x[1] - 1", 1),
        ("0x10 - 1", 15),
        ("9223372036854775807 + 1", -(2**63)),
        ("2 - - 1", 3),
    ],
)
def test_a_value_is_what_c_says(text, value):
    assert parse(text).of({"x": 103, "&x": 100, "&x[1]": 101, "0:r0": 100}) == value


@pytest.mark.parametrize("text", ["", "1 +", "(1", "1 2", "1)", "@", "x[", "* 2", "(" * 200, True, None, 1.5])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(BadTest):
        parse(text)


@pytest.mark.parametrize("text", ["1 / 0", "1 % 0", "1 << 64", "1 >> -1"])
def test_what_has_no_value_is_refused_when_it_is_asked_for(text):
    with pytest.raises(BadTest):
        parse(text).of({})


@given(st.text("01x&|!~()+-*/%<>=^ []r:", max_size=40))
def test_no_text_leads_to_anything_but_a_value_or_a_refusal(text):
    with contextlib.suppress(BadTest, KeyError):
        parse(text).of({"x": 1, "&x": 2, "r": 3})
