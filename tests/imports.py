"""What an import brings along, and the imports that stand inside functions. A module for in_engine."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click  # noqa: F401  what is light is imported once, before the processes part

# the kernels, their compiler, arrays, processes, the terminal, pages, plans: what start-up time is made of
HEAVY = {"emulator.atomic", "numba", "numpy", "multiprocess", "importlib.metadata", "rich", "jinja2", "html.parser"}


def brought(names: Sequence[str]) -> dict[str, list[str]]:
    """Which of the heavy ones each module brings when it is imported, in a process of its own that had none."""
    return _brought(importlib.import_module, names)


def brought_by_help(lines: Sequence[str]) -> dict[str, list[str]]:
    """Which of the heavy ones the help of each command brings, in a process of its own that had none."""
    return _brought(_show_help, lines)


def scipy_and_product() -> list[Any]:
    """Whether scipy.linalg is loaded once an engine is prepared, and a product of numba's, which needs it."""
    from numba import njit
    from numpy import array, dot

    from emulator import engine

    engine.prepare()
    loaded = "scipy.linalg" in sys.modules
    return [loaded, float(njit(lambda a, b: dot(a, b))(array([1.0, 2.0]), array([3.0, 4.0])))]


def _show_help(line: str) -> None:
    from scenarios.cli import command_line

    with open(os.devnull, "w") as sys.stdout:
        assert command_line([*line.split(), "--help"]) == 0


def _brought(act: Callable[[str], Any], names: Sequence[str]) -> dict[str, list[str]]:
    found = {}
    for name in names:
        ours, theirs = os.pipe()
        if (child := os.fork()) == 0:
            status = 1
            try:
                act(name)
                os.write(theirs, json.dumps(sorted(HEAVY & set(sys.modules))).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)
        with open(ours) as answer:
            text = answer.read()
        if os.waitpid(child, 0)[1] != 0:
            raise ImportError(name)
        found[name] = json.loads(text)
    return found


def inside(tree: ast.Module, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of each import inside a function; `modules` are those of ours."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in {node for function in functions for node in ast.walk(function)}:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                yield node.lineno, submodule if submodule in modules else node.module
