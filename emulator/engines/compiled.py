"""Programs of kernels: compiled as one object file, kept in the compile cache, loaded from there without a compiler.

Numba and the types that kernels need take most of a second to import. A process whose program is in the cache needs
neither: its kernels stay plain functions that nobody calls, and LLVM's loader takes the object file.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from llvmlite import binding

from emulator.engines import compile_cache
from emulator.engines.field_check import check_fields

_OBJECT = "kernels.o"
_loaders: list[Any] = []  # LLVM frees the code of one that is gone


class Program:
    """The kernels that Python calls, f(m, *numbers) -> number, and what those call.

    `suffix` tells programs of the same sources apart.
    """

    def __init__(self, suffix: str = "") -> None:
        place = compile_cache.directory()
        self.cache: Path | None = place and place.with_name(place.name + suffix)
        self._kernels: dict[str, Callable[..., Any]] = {}
        self._loaded: dict[str, Any] = {}

    @functools.cached_property
    def _code(self) -> bytes | None:
        """What the cache holds, read before the kernels are imported, so that nobody can take it away afterwards."""
        return compile_cache.read(self.cache, _OBJECT)

    @property
    def is_prepared(self) -> bool:
        """True if prepare() has nothing to compile."""
        return self._code is not None

    def language(self) -> Any:
        """What offers the decorators and the primitives: the compiler, or what stands for it if all is compiled."""
        return _compiler() if self._code is None else _NothingToCompile()

    def entry_point(self, function: Callable[..., Any]) -> Callable[..., int]:
        """A kernel that Python calls, once prepare() has been called. The call holds no GIL."""
        name = function.__qualname__
        self._kernels[name] = function

        def call(m: Any, *numbers: int) -> int:
            found: int = self._loaded[name](m.address, *numbers)
            return found

        return call

    def prepare(self) -> None:
        """Load what was compiled, or compile it first. Raises engine.UnknownField before that, TimeoutError."""
        if self._loaded:
            return
        if self._code is None:
            check_fields(compile_cache.kernel_files())
            self._code = compile_cache.filled(self.cache, _OBJECT, self._compile)
        address_of = _load(self._code)
        for name, kernel in self._kernels.items():
            words = [ctypes.c_int64] * (kernel.__code__.co_argcount - 1)
            self._loaded[name] = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *words)(address_of(name))

    def _compile(self) -> bytes:
        code: bytes = _compiler().compile_entry_points(self._kernels.values())
        return code


def _compiler() -> ModuleType:
    from emulator.engines import compiler

    return compiler


class _NothingToCompile:
    """Stands for the compiler: kernels stay as they are, and so does whatever they are written with."""

    @staticmethod
    def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    kernel_inline = kernel

    def __getattr__(self, name: str) -> str:
        return f"{name}, for compiled kernels only"


def _load(code: bytes) -> Callable[[str], int]:
    """Load an object file; what gives the address of a function in it."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple().create_target_machine(jit=True)
    loader = binding.create_mcjit_compiler(binding.parse_assembly(""), target)
    loader.add_object_file(binding.ObjectFileRef.from_data(code))
    loader.finalize_object()
    _loaders.append(loader)
    address_of: Callable[[str], int] = loader.get_function_address
    return address_of
