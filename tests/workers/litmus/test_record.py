"""Litmus tests as data: what is one, and one line that says why a line is none."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.litmus.expression import BadTest
from workers.litmus.record import OPERATIONS, read

GOOD = {
    "name": "MP",
    "init": {"x": 0, "1:r9": 7},
    "threads": [
        [{"op": "store", "loc": "x", "val": 1, "kind": "once"}],
        [{"op": "load", "reg": "r0", "loc": "*&x", "kind": "once"}],
    ],
    "condition": "1:r0 == 1",
    "quantifier": "exists",
    "verdict": True,
}  # fmt: skip


def test_a_record_names_its_locations_and_registers():
    test = read(json.dumps(GOOD), "f:1")

    assert (test.places, test.registers(0), test.registers(1), test.expected) == (("x",), [], ["r0", "r9"], True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"threads": []}, "0 threads"),
        ({"threads": [[]] * 9}, "9 threads"),
        ({"threads": [[{"op": "jump"}]]}, "unknown operation"),
        ({"threads": [[{"op": "load", "reg": "r0", "loc": "x", "kind": "soon"}]]}, "load of kind 'soon'"),
        ({"threads": [[{"op": "load", "reg": "0", "loc": "x", "kind": "once"}]]}, "no register"),
        ({"threads": [[{"op": "store", "loc": "x y", "val": 1, "kind": "once"}]]}, "no location"),
        ({"threads": [[{"op": "store", "loc": "x", "val": "r5", "kind": "once"}]]}, "none of its registers"),
        ({"threads": [[{"op": "rmw", "f": "sub", "loc": "x", "val": 1, "kind": "mb"}]]}, "rmw 'sub'"),
        ({"condition": "7:r0 == 1"}, "names thread 7"),
        ({"condition": 3}, "'condition' is 3"),
        ({"quantifier": "always"}, "quantifier"),
        ({"verdict": 5}, "verdict"),
        ({"init": {"x y": 1}}, "no location"),
        ({"init": {f"x{n}": 0 for n in range(99)}}, "locations"),
    ],
)
def test_a_line_that_is_no_test_says_why_and_where(change, why):
    with pytest.raises(BadTest, match="f:1: ") as told:
        read(json.dumps(GOOD | change), "f:1")

    assert why in str(told.value)


@pytest.mark.parametrize("line", ["", "[]", "{", "7", '{"threads": 1}', "[" * 100_000])
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(BadTest, match="f:1"):
        read(line, "f:1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([*OPERATIONS, "x", "r0", "once", "*r0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["op", "loc", "reg", "kind", "val", "then", "cond"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), json_values))
def test_no_record_leads_to_anything_but_a_test_or_a_refusal(change):
    with contextlib.suppress(BadTest):
        read(json.dumps(GOOD | change), "f:1")
