"""A copy of this project in which the kernel has every mutant, and an environment variable says which one is on.

The copy is compiled once. What is attacked there is what a user runs: `ptelab run stress`, the tests, the explorer.
The kernel here has neither the switches nor the word.
"""

from __future__ import annotations

import ast
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.mutants.listed import MUTANTS, NUMBERS
from benchmarks.mutants.mutant import Mutant
from benchmarks.mutants.rewrite import DoesNotApply, functions, given_the_machine, rewritten

ROOT = Path(__file__).resolve().parent.parent.parent
TREE = ROOT / "build" / "mutants"
CACHE = ROOT / "build" / "cache"  # what is compiled there: nobody else fills it
VARIABLE = "PTELAB_MUTANT"  # the number of the mutant that is on; 0 or nothing: none
COPIED = ("emulator", "workers", "scenarios", "tests", "benchmarks", "docs", "README.md", "Makefile", "pyproject.toml")
_WORD = ("emulator/mm_types.py", "CONFIG = struct(\n", 'CONFIG = struct(\n    line(mutant="which mutant is on"),\n')
_SET = (
    "workers/machine.py",
    '    instruments.apply(views)\n    zone = views["zone"]\n',
    "    instruments.apply(views)\n"
    f'    config["mutant"] = int(os.environ.get("{VARIABLE}", "0"))\n    zone = views["zone"]\n',
)


def kernel_files() -> dict[Path, str]:
    """The files of the emulated kernel and their texts, by the path below ROOT."""
    return {path.relative_to(ROOT): path.read_text() for path in sorted((ROOT / "emulator").rglob("*.py"))}


def applied(files: Mapping[Path, str], mutants: Mapping[str, Mutant] = MUTANTS) -> dict[Path, str]:
    """The texts of the kernel with a switch for each mutant. Raises DoesNotApply, which says which and why."""
    where = {name: (path, node) for path, text in files.items() for name, node in functions(text).items()}
    by_file: dict[Path, list[tuple[int, Mutant]]] = {}
    for mutant in mutants.values():
        if mutant.function not in where:
            raise DoesNotApply(f"{mutant.name}: there is no function {mutant.function}")
        path, _ = where[mutant.function]
        by_file.setdefault(path, []).append((NUMBERS.get(mutant.name, 1), mutant))
    need = machineless({name: node for name, (_, node) in where.items()}, {one.function for one in mutants.values()})
    return {path: given_the_machine(rewritten(text, by_file.get(path, [])), need) for path, text in files.items()}


def machineless(kernels: Mapping[str, ast.FunctionDef], changed: Iterable[str]) -> list[str]:
    """Those of the `changed` functions that have no `m`, and their callers that have none."""
    without = {name for name, node in kernels.items() if node.args.args and node.args.args[0].arg != "m"}
    need: set[str] = set()
    more = without & set(changed)
    while more:
        need |= more
        more = {name for name in without - need if need & set(_names(kernels[name]))}
    return sorted(need)


def _names(node: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name))


def build() -> Path:
    """Make the copy, or bring it up to date: what has not changed keeps its time, so that nothing is compiled anew."""
    texts = {path: text.encode() for path, text in applied(kernel_files()).items()}
    for top in COPIED:
        found = sorted((ROOT / top).rglob("*")) if (ROOT / top).is_dir() else [ROOT / top]
        for path in found:
            if path.is_file() and path.suffix != ".pyc":
                texts.setdefault(path.relative_to(ROOT), path.read_bytes())
    for name, old, new in (_WORD, _SET):
        text = texts[Path(name)].decode()
        if text.count(old) != 1:
            raise DoesNotApply(f"{name} has not one {old!r}")
        texts[Path(name)] = text.replace(old, new).encode()
    TREE.parent.mkdir(exist_ok=True)
    with (TREE.parent / "mutants.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes at the same time finds it made
        for path in [path for path in TREE.rglob("*") if path.is_file() and path.suffix != ".pyc"]:
            if path.relative_to(TREE) not in texts:
                path.unlink()
        for path, content in texts.items():
            to = TREE / path
            if not to.exists() or to.read_bytes() != content:
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(content)
    return TREE


def environment(name: str | None) -> dict[str, str]:
    """The environment of a process in the copy under a mutant, or none."""
    number = NUMBERS[name] if name else 0
    return {**os.environ, VARIABLE: str(number), "PYTHONPATH": str(TREE), "XDG_CACHE_HOME": str(CACHE)}


def remove() -> None:
    """Take the copy away."""
    shutil.rmtree(TREE, ignore_errors=True)
