"""The engine that runs the kernels. It is chosen once per process, before the first kernel is imported.

A kernel is written once, as a plain Python function over `m`, and decorated with `@kernel`. What that means is the
engine's business; an engine is a module of `emulator/engines/` that offers

    kernel, kernel_inline, entry_point     the decorators
    attach(segment) -> m                   the first argument of every kernel
    is_prepared(), prepare(), remark()     everything that must happen before the first fork, and what to say of it
    read_once ... wake_all                 the primitives that atomic.py lists

Beside the engine a process chooses its build, like a kernel's configuration: the plain one is the protocol and nothing
else; the debug build has the detectors, the named points, the perturbation and the knobs compiled in.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

ENGINES = ("native", "semaphore")  # those a scenario may run on
ALL_ENGINES = (*ENGINES, "explore")
_ENTRY_POINTS = "emulator.program.insn"  # the kernels that Python calls
_ENVIRONMENT, _BUILD = "PTELAB_ENGINE", "PTELAB_BUILD"
_loaded: ModuleType | None = None
_loaded_debug = False


class UnknownField(Exception):
    """A kernel names a field that no struct has; the text says where, in one line."""


def choose(name: str, debug: bool | None = None) -> None:
    """Select the engine of this process and, unless `debug` is None, its build.

    Raises ValueError if the name is unknown, RuntimeError if kernels were already imported under another choice.
    """
    if name not in ALL_ENGINES:
        raise ValueError(f"unknown engine '{name}'; known: {', '.join(ENGINES)}")
    if _loaded is not None:
        if not _loaded.__name__.endswith(f".{name}") or debug not in (None, _loaded_debug):
            build = "debug" if _loaded_debug else "plain"
            raise RuntimeError(f"this process runs {_loaded.__name__}, {build} build; both are chosen once per process")
        return
    os.environ[_ENVIRONMENT] = name
    if debug is not None:
        os.environ[_BUILD] = "debug" if debug else "plain"


def debug() -> bool:
    """True in the debug build."""
    return os.environ.get(_BUILD, "plain") == "debug"


def name() -> str:
    """The engine of this process."""
    return os.environ.get(_ENVIRONMENT, ENGINES[0])


def load() -> ModuleType:
    """Import the chosen engine; from here on it cannot be changed."""
    global _loaded, _loaded_debug
    if _loaded is None:
        choose(name())
        _loaded_debug = debug()
        _loaded = importlib.import_module(f"emulator.engines.{name()}")
    return _loaded


def is_prepared() -> bool:
    """True if `prepare` has only to load what an earlier process compiled."""
    return bool(load().is_prepared())


def prepare() -> None:
    """Do everything that must happen before the first fork: compile the entry points, or load them.

    They are imported here: a cache that was filled before they are known would be complete and hold nothing.
    """
    importlib.import_module(_ENTRY_POINTS)
    load().prepare()


def remark() -> str:
    """What a user should know of where compiled kernels are kept; empty if it is as usual."""
    return str(load().remark())


def attach(segment: Any) -> Any:
    """The `m` of a segment, the first argument of every kernel."""
    return load().attach(segment)
