"""What notices a mutant: stress, then the tests of the module, then the explorer; each in the copy, within a limit."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mutants.listed import KIND_OF, MUTANTS
from benchmarks.mutants.tree import TREE, environment

STRESS, TESTS, EXPLORER = "stress", "tests", "explorer"
GRACE_SECONDS = 45.0  # beyond what a stress is given: a machine that stands still is found and told within it
TESTS_SECONDS = 120.0
NOTICED = (1, 3)  # exit statuses: a check failed, a process died


# what the explorer shows of a barrier that x86 does not need
CLAIMS = {
    "no-mb-switch": ("claim/loading-an-mm-catches-up --memory tso",),
    "no-mb-lazy": ("claim/lazy-cpus-catch-up --memory tso",),
    "no-mb-irq-off": ("claim/interrupts-off-keep-what-is-read --memory tso",),
    "no-mb-sync-one": ("claim/interrupts-off-keep-what-is-read --memory tso",),
    "no-mb-reader": ("claim/writers-and-readers-exclude",),
    "no-mb-waker": ("claim/no-wake-up-is-lost --memory pso",),
    "no-release-unlock": ("claim/what-was-done-under-a-spinlock-is-seen-under-it --memory sc",),
}


@dataclass(frozen=True)
class Kill:
    """What has noticed a mutant, what that said, and after how many seconds; `by` is empty for a survivor."""

    by: str = ""
    saw: str = ""
    seconds: float = 0.0


def _run(command: list[str], name: str | None, seconds: float) -> tuple[int | None, str, str]:
    """Exit status, None after a hang, and what was written."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=TREE,
            env=environment(name),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    return run.returncode, run.stdout, run.stderr


def _said(text: str) -> str:
    """What a stress found, in a word or two."""
    record = json.loads(text)
    checks = [name for name, count in record["checks"].items() if count]
    detectors = [violation["detector"] for violation in record["violations"]]
    return ", ".join([*detectors, *checks])


def stress(name: str | None, seconds: float, grace: float = GRACE_SECONDS) -> Kill | None:
    """`ptelab run stress` for so long; None if it notices nothing."""
    began = time.perf_counter()
    command = ["scenarios", "run", "stress", "--seconds", f"{seconds:g}", "--json", "-"]
    status, out, err = _run(command, name, seconds + grace)
    spent = time.perf_counter() - began
    if status is None:
        return Kill(STRESS, "hangs", spent)
    if status == 1:
        return Kill(STRESS, _said(out), spent)
    return Kill(STRESS, (err.strip().splitlines() or ["died"])[-1][:60], spent) if status in NOTICED else None


def module_of(function: str) -> Path:
    """The file of the copy, below it, in which a kernel is."""
    for path in sorted((TREE / "emulator").rglob("*.py")):
        if any(
            isinstance(node, ast.FunctionDef) and node.name == function for node in ast.parse(path.read_text()).body
        ):
            return path.relative_to(TREE)
    raise LookupError(function)


def tests_of(module: Path) -> list[str]:
    """The tests of a module: its own, or those that say `Covers:` it."""
    own = Path("tests") / module.parent / f"test_{module.name}"
    if (TREE / own).exists():
        return [own.as_posix()]
    named = module.with_suffix("").as_posix()
    return [
        path.relative_to(TREE).as_posix()
        for path in sorted((TREE / "tests").rglob("test_*.py"))
        if named in (ast.get_docstring(ast.parse(path.read_text())) or "")
    ]


def tests(name: str) -> Kill | None:
    """The module's tests, but for the long ones."""
    began = time.perf_counter()
    files = tests_of(module_of(MUTANTS[name].function))
    if not files:
        return None
    command = ["pytest", "-q", "-x", "-m", "not stress", *files]
    status, out, _ = _run(command, name, TESTS_SECONDS)
    spent = time.perf_counter() - began
    if status is None:
        return Kill(TESTS, "hangs", spent)
    failed = [line.split("::")[-1].split(" ")[0] for line in out.splitlines() if line.startswith("FAILED")]
    return Kill(TESTS, failed[0][:60] if failed else "fails", spent) if status == 1 else None


def explorer(name: str) -> Kill | None:
    """For a barrier: a claim of the explorer under a weak memory model, where x86 shows nothing."""
    if KIND_OF[name] != "barriers":
        return None
    began = time.perf_counter()
    for claim in CLAIMS.get(name, ()):
        status, _, _ = _run(["scenarios", "explore", *claim.split()], name, TESTS_SECONDS)
        if status == 1:
            return Kill(EXPLORER, claim.split()[0], time.perf_counter() - began)
    return None
