"""The barriers of the kernels, one by one: where they stand, which of them an execution passes, and runs without one.

A barrier that is left out is nothing; a release is a WRITE_ONCE then, an acquire a READ_ONCE.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from emulator.engines import explore

ROOT = Path(__file__).resolve().parents[2]
INSTEAD: dict[str, Callable[..., Any]] = {
    "smp_mb": lambda: None,
    "smp_wmb": lambda: None,
    "smp_rmb": lambda: None,
    "smp_mb__before_atomic": lambda: None,
    "smp_mb__after_atomic": lambda: None,
    "smp_store_release": explore.write_once,
    "smp_load_acquire": explore.read_once,
}
NOT_KERNELS = ("emulator/engines/", "emulator/atomic.py")


@dataclass(frozen=True)
class Site:
    """One barrier: file, line and column, function, primitive, which one of those there is, and what is said of it."""

    file: str
    place: tuple[int, int]
    function: str
    primitive: str
    nth: int
    says: str

    @property
    def name(self) -> str:
        """FILE:FUNCTION and the primitive; # and a number if the function has several."""
        short = self.file.rpartition("/")[2]
        return f"{short}:{self.function} {self.primitive}" + (f" #{self.nth}" if self.nth > 1 else "")

    @property
    def module(self) -> Any:
        """The module it stands in."""
        return importlib.import_module(self.file.removesuffix(".py").replace("/", "."))


@functools.cache
def sites() -> list[Site]:
    """All barriers of the kernels."""
    found: list[Site] = []
    for path in sorted((ROOT / "emulator").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        if not file.startswith(NOT_KERNELS):
            found += _sites_of(file, path.read_text())
    return found


def _sites_of(file: str, text: str) -> Iterator[Site]:
    lines = text.splitlines()
    for function in (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)):
        seen: dict[str, int] = {}
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name in INSTEAD:
                seen[name] = seen.get(name, 0) + 1
                end = call.end_lineno or call.lineno
                says = lines[end - 1].partition("#")[2].strip()
                yield Site(file, (call.lineno, call.col_offset), function.name, name, seen[name], says)


@functools.cache
def _places(code: CodeType) -> list[tuple[int, int]]:
    """Line and column of each instruction."""
    return [(line or 0, column or 0) for line, _, column, _ in code.co_positions()]


def _place(frame: FrameType) -> tuple[int, int]:
    """Line and column of the call that a frame is in."""
    return _places(frame.f_code)[frame.f_lasti // 2]


def site_of(name: str) -> Site:
    """The barrier of that name. Raises KeyError."""
    return {site.name: site for site in sites()}[name]


@contextlib.contextmanager
def left_out(*without: Site) -> Iterator[None]:
    """Run the kernels without some barriers."""
    with contextlib.ExitStack() as stack:
        for module, primitive in {(site.module, site.primitive) for site in without}:
            places = {site.place for site in without if (site.module, site.primitive) == (module, primitive)}
            stack.enter_context(_left_out(module, primitive, places))
        yield


@contextlib.contextmanager
def _left_out(module: Any, primitive: str, places: set[tuple[int, int]]) -> Iterator[None]:
    before, instead = getattr(module, primitive), INSTEAD[primitive]

    def barrier(*operands: Any) -> Any:
        return (instead if _place(sys._getframe(1)) in places else before)(*operands)

    setattr(module, primitive, barrier)
    try:
        yield
    finally:
        setattr(module, primitive, before)


@contextlib.contextmanager
def counting(of: Sequence[Site]) -> Iterator[set[Site]]:
    """The barriers that the kernels pass meanwhile."""
    passed: set[Site] = set()
    places = {(one.file, one.primitive, one.place): one for one in of}
    with contextlib.ExitStack() as stack:
        for file, primitive in sorted({(one.file, one.primitive) for one in of}):
            stack.enter_context(_counted(file, primitive, places, passed))
        yield passed


@contextlib.contextmanager
def _counted(
    file: str, primitive: str, places: dict[tuple[str, str, tuple[int, int]], Site], passed: set[Site]
) -> Iterator[None]:
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    before = getattr(module, primitive)

    def barrier(*operands: Any) -> Any:
        site = places.get((file, primitive, _place(sys._getframe(1))))
        if site is not None:
            passed.add(site)
        return before(*operands)

    setattr(module, primitive, barrier)
    try:
        yield
    finally:
        setattr(module, primitive, before)
