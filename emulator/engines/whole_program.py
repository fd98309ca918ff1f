"""Compile all kernels as one program.

Numba makes a finished library of every function: it links everything the function calls, optimizes all of it and emits
machine code. For a hundred small kernels that call each other that is five minutes. Linked and optimized once, in the
entry point, it is seconds, and the optimizer sees the same program. This is the one place that reaches into numba's
private parts (numba.core.codegen, versions 0.60 to 0.68).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target


class _KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A library that is finished only if its function is an entry point."""

    entry_points: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    def add_llvm_module(self, module: Any) -> None:
        self._final_module.link_in(module)  # the entry point optimizes it

    def finalize(self) -> None:
        if self.name in self.entry_points:
            self._linking_libraries = _everything_below(self)
            super().finalize()
            return
        self._raise_if_finalized()
        if self.name in self.calls:
            for function in self._final_module.functions:
                if not function.is_declaration:
                    function.add_function_attribute("noinline")
        self._finalized = True  # what it calls is linked by the entry point

    def get_pointer_to_function(self, name: str) -> int:
        return super().get_pointer_to_function(name) if self.name in self.entry_points else 0


def _everything_below(library: Any) -> list[Any]:
    """The libraries that `library` needs, directly or not, callers first: LLVM links only what is already called."""
    found: dict[Any, None] = {}

    def visit(one: Any) -> None:
        if one not in found:
            for needed in one._linking_libraries:
                visit(needed)
            found[one] = None

    visit(library)
    return list(found)[-2::-1]


@contextlib.contextmanager
def whole_program(entry_points: frozenset[str], calls: frozenset[str]) -> Iterator[None]:
    """Inside this block numba links and optimizes only `entry_points`; functions named in `calls` stay calls."""
    codegen = cpu_target.target_context.codegen()
    library_class, set_env = codegen._library_class, codegen.set_env

    def set_env_if_linked(name: str, environment: Any) -> None:
        if codegen._engine.is_symbol_defined(name):
            set_env(name, environment)

    _KernelLibrary.entry_points, _KernelLibrary.calls = entry_points, calls
    codegen._library_class, codegen.set_env = _KernelLibrary, set_env_if_linked
    try:
        yield
    finally:
        codegen._library_class = library_class
        del codegen.set_env
