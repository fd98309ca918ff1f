"""The house: imports only go down its storeys, nothing imports its importer, tests mirror it, documents name what is.

Covers: emulator/engines/compile_cache
"""

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from support import ROOT, kernels

from emulator.engines import compile_cache
from emulator.policy.policies import POLICIES

TOPS = ("benchmarks", "ptelab", "scenarios", "workers", "emulator")
STOREYS = re.findall(r"^    ((?:\w+/)+)  +\S", (ROOT / "README.md").read_text(), re.MULTILINE)
# the engine is chosen by name when a process starts; an engine knows the struct layouts and the cache the engine's name
ENGINES = {"emulator/", "emulator/engines/"}
FILES = {path.relative_to(ROOT).as_posix(): path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))}


def storey(file):
    """The folder of a file as the map has it."""
    return f"{Path(file).parent.as_posix()}/"


def imports(path):
    """The files of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        for name in names:
            of_module, of_name = f"{name.replace('.', '/')}.py", f"{name.rpartition('.')[0].replace('.', '/')}.py"
            yield from (file for file in (of_module, of_name) if file in FILES)


IMPORTS = {file: set(imports(path)) for file, path in FILES.items()}


def is_kernel(node):
    """True if an engine compiles the function."""
    names = {decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)}
    return bool(names & {"kernel", "kernel_inline", "entry_point"})


def test_the_map_lists_every_folder_once():
    assert sorted(STOREYS) == sorted({storey(file) for file in FILES})


@pytest.mark.parametrize("folder", STOREYS)
def test_imports_go_down_the_storeys(folder):
    below = set(STOREYS[STOREYS.index(folder) :]) | (ENGINES if folder in ENGINES else set())
    for file in (file for file in FILES if storey(file) == folder):
        assert {to for to in IMPORTS[file] if storey(to) not in below} == set(), file


def circles():
    """Sets of files that import each other: those that remain when every file that leads nowhere else is taken away."""
    left = {file: set(to) - {file} for file, to in IMPORTS.items()}
    while gone := {file for file, to in left.items() if not to & set(left)}:
        left = {file: to - gone for file, to in left.items() if file not in gone}
    return left


def test_no_file_imports_its_importer():
    assert circles() == {}


def test_the_size_of_the_house_is_printed():
    rooms = {(storey(file), storey(to)) for file, to in IMPORTS.items() for to in to}
    print(f"\nthe house: {len(FILES)} files, {len(STOREYS)} storeys, {len(rooms)} imports between them, no circle")

    assert len(STOREYS) > 1


def test_every_file_with_a_kernel_is_part_of_the_key_of_the_compile_cache():
    hashed = {path.resolve() for pattern in compile_cache.KERNELS for path in ROOT.glob(pattern)}
    for file, path in FILES.items():
        if any(isinstance(node, ast.FunctionDef) and is_kernel(node) for node in ast.walk(ast.parse(path.read_text()))):
            assert path.resolve() in hashed, file


def test_bare_names_of_kernels_are_unique():
    """The compiled engine keeps functions apart by bare name."""
    seen = {}
    for file, path in FILES.items():
        if file.startswith("emulator/engines/"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and is_kernel(node):
                assert node.name not in seen, f"{node.name} is in {seen[node.name]} and in {file}"
                seen[node.name] = file


def covered(test):
    """The modules a test file covers: the one it mirrors, and those its docstring lists after `Covers:`."""
    yield test.relative_to(ROOT / "tests").with_name(test.name.removeprefix("test_")).as_posix()
    _, _, listed = (ast.get_docstring(ast.parse(test.read_text())) or "").partition("Covers: ")
    yield from (f"{pattern}.py" for pattern in listed.replace(",", " ").split())


COVERED = {test: list(covered(test)) for test in sorted((ROOT / "tests").rglob("test_*.py"))}


def has_logic(path):
    """True if a file defines a function; a table of constants has none."""
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text())))


@pytest.mark.parametrize("folder", STOREYS)
def test_a_module_finds_its_tests_by_name(folder):
    patterns = [pattern for patterns in COVERED.values() for pattern in patterns]
    for file in (file for file, path in FILES.items() if storey(file) == folder and has_logic(path)):
        assert any(fnmatchcase(file, pattern) for pattern in patterns), f"no test mirrors or covers {file}"


def test_what_a_test_file_covers_exists():
    for test, (mirrored, *listed) in COVERED.items():
        assert [pattern for pattern in listed if not any(fnmatchcase(file, pattern) for file in FILES)] == [], test
        assert mirrored in FILES or listed or test.parent == ROOT / "tests", f"{test} mirrors and covers no module"


def test_every_function_the_documents_name_exists():
    defined = {(file, node.name) for file, node in kernels()}
    for document in sorted((ROOT / "docs").glob("*.md")):
        text = document.read_text()
        named = set(re.findall(r"`(\w+\.py):(\w+)`", text))
        assert named - defined == set(), document


def test_one_fault_is_followed_through_at_most_five_files():
    _, *tables = re.split(r"^## ", (ROOT / "docs" / "one-fault.md").read_text(), flags=re.MULTILINE)
    for table in tables[:2]:  # the fault, the zap
        steps = re.findall(r"^\| \d+ \| `(\w+\.py)", table, re.MULTILINE)
        assert 1 <= len(set(steps)) <= 5


def test_nothing_outside_of_the_policies_names_one_or_asks_how_it_works():
    names = "|".join(name for name in POLICIES if "-" in name)  # "none" and "refcount" are other words as well
    named = re.compile(rf"[\"'](?:{names})[\"']|policy=[\"']|config\.(?:pin|reclaim)\b")
    for file, path in FILES.items():
        if file.startswith(("emulator/", "workers/")) and not file.startswith("emulator/policy/"):
            assert named.findall(path.read_text()) == [], file


def test_only_the_report_prints():
    for file, path in FILES.items():
        if file.startswith("benchmarks/"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), path
