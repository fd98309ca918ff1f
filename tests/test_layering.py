"""The layers and the documents: imports go down only, and what the documents name exists."""

import ast
import re

import pytest
from support import ROOT

ALLOWED = {
    "emulator": {"emulator"},
    "workers": {"emulator", "workers"},
    "scenarios": {"emulator", "workers", "scenarios"},
}
OURS = set(ALLOWED) | {"tests", "benchmarks"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_from_scenarios_to_workers_to_emulator(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        assert set(imports(path)) & OURS <= ALLOWED[package], path


def kernels():
    for path in sorted((ROOT / "emulator").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                yield path.name, node


def test_every_function_the_documents_name_exists():
    names = {node.name for _, node in kernels()}
    for document in ("protocol.md", "one-fault.md", "races.md", "engines.md"):
        text = (ROOT / "docs" / document).read_text()
        for file, function in re.findall(r"`(\w+\.py):(\w+)`", text):
            assert function in names, f"{document}: {file}:{function}"
            assert any(node.name == function and name == file for name, node in kernels()), (
                f"{document}: {file}:{function}"
            )


def test_one_fault_is_followed_through_at_most_five_files():
    text = (ROOT / "docs" / "one-fault.md").read_text()
    steps = re.findall(r"^\| \d+ \| `(\w+\.py)", text, re.MULTILINE)

    assert 1 <= len(set(steps)) <= 5


def test_only_the_report_prints():
    for package in ALLOWED:
        for path in sorted((ROOT / package).rglob("*.py")):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), path
