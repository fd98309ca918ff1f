"""Imports stand at the top of a file; inside a function only what saves start-up time."""

import ast

import pytest
from imports import HEAVY, brought, brought_by_help, inside, scipy_and_product
from support import ROOT, in_engine

from scenarios.cli import LATER, SCENARIOS

TOPS = ("benchmarks", "scenarios", "workers", "emulator")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for top in TOPS
    for path in sorted((ROOT / top).rglob("*.py"))
    if path.name != "__init__.py"
}
LATE = {name: sorted(set(inside(ast.parse(path.read_text()), set(FILES)))) for name, path in FILES.items()}
FIRST = ("scenarios.__main__", "scenarios.cli")  # how the process ends is settled before anything is imported
LIGHT = ("workers.telling.", "workers.programs.", "scenarios.session.", "scenarios.cli", "emulator.checks")


@pytest.fixture(scope="module")
def heavy():
    names = {name for name, late in LATE.items() if late} | {module for late in LATE.values() for _, module in late}
    light = {name for name in FILES if name.startswith(LIGHT)}
    return in_engine("semaphore", brought, sorted(names | light))


def test_an_import_inside_a_function_brings_what_its_file_does_without(heavy):
    needless = {
        f"{name}:{line}": module
        for name, late in LATE.items()
        for line, module in late
        if set(heavy[module]) <= set(heavy[name]) and (name, module) != FIRST
    }

    assert needless == {}


def test_what_tells_and_what_starts_imports_no_kernel(heavy):
    assert {name: heavy[name] for name in heavy if name.startswith(LIGHT) and heavy[name]} == {}


def test_help_imports_nothing_heavy():
    lines = ["", "run", *LATER, *(f"run {name}" for name in SCENARIOS), "run race/no-flush"]

    assert {line: found for line, found in in_engine("native", brought_by_help, lines).items() if found} == {}


@pytest.mark.parametrize("engine", ["native", "explore"])
def test_an_engine_is_prepared_without_scipy_and_numba_keeps_it(engine):
    assert in_engine(engine, scipy_and_product) == [False, 11.0]


def test_a_needless_import_would_be_seen():
    text = "import os\ndef f():\n    import json\n    def g():\n        from emulator import uapi, mm_types\n"
    assert sorted(inside(ast.parse(text), set(FILES))) == [(3, "json"), (5, "emulator.mm_types"), (5, "emulator.uapi")]

    found = in_engine("semaphore", brought, ["emulator.uapi", "workers.machine", "rich.table"])
    assert found["emulator.uapi"] == []
    assert "emulator.atomic" in found["workers.machine"]
    assert found["rich.table"] == ["rich"]
    assert set(HEAVY) >= {module for brings in found.values() for module in brings}
