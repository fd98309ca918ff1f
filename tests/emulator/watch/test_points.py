"""The table of points: each is in the functions that its row names, and in no other."""

import ast

import pytest
from support import sources

from emulator.watch.points import POINTS, point_name, point_number


def passed():
    """Where points are passed: name of the point, then file:function."""
    for path, tree in sources():
        numbers = {
            node.targets[0].id: node.value.args[0].value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "point_number"
        }
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and node.id in numbers:
                    yield numbers[node.id], f"{path.name}:{function.name}"


PASSED = sorted(set(passed()))


@pytest.mark.parametrize("name", POINTS)
def test_a_point_is_in_the_function_that_its_row_names(name):
    assert sorted(POINTS[name].where.split(" or ")) == [where for point, where in PASSED if point == name]


def test_numbers_and_names_belong_together():
    assert [point_name(point_number(name)) for name in POINTS] == list(POINTS)
