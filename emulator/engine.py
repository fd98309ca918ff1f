"""The engine that runs the kernels. It is chosen once per process, before the first kernel is imported.

A kernel is written once, as a plain Python function over `m`, and decorated with `@kernel`. What that means is the
engine's business; an engine is a module of `emulator/engines/` that offers

    kernel, kernel_inline, entry_point     the decorators
    attach(segment) -> m                   the first argument of every kernel
    is_prepared(), prepare(), remark()     everything that must happen before the first fork, and what to say of it
    read_once ... wake_all                 the primitives that atomic.py lists

Beside the engine a process chooses its build, like a kernel's configuration: the plain one is the protocol and nothing
else. The debug build has the detectors, the named points, the perturbation and the knobs compiled in. Families of
policies that a run does not name are left out of the plain build. What they would ask at each fault costs the others.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from types import ModuleType
from typing import Any

ENGINES = ("native", "semaphore")  # those a scenario may run on
ALL_ENGINES = (*ENGINES, "explore")
BODIES = "bodies"  # beside the families: the entries of tables lie apart from the tables, see engines/bodies.py
_ENTRY_POINTS = "emulator.program.insn"  # the kernels that Python calls
_ENVIRONMENT, _BUILD, _FAMILIES = "PTELAB_ENGINE", "PTELAB_BUILD", "PTELAB_FAMILIES"
_loaded: ModuleType | None = None
_loaded_debug = False


class UnknownField(Exception):
    """A kernel names a field that no struct has; the text says where, in one line."""


def choose(name: str, debug: bool | None = None, families: Iterable[str] | None = None) -> None:
    """Select the engine of this process and, unless they are None, its build and the families of policies in it.

    Raises ValueError if the name is unknown, RuntimeError if kernels were already imported under another choice.
    """
    if name not in ALL_ENGINES:
        raise ValueError(f"unknown engine '{name}'; known: {', '.join(ENGINES)}")
    if _loaded is not None:
        fits = debug in (None, _loaded_debug) and all(compiles(family) for family in families or ())
        if not _loaded.__name__.endswith(f".{name}") or not fits:
            build = "debug" if _loaded_debug else "plain"
            raise RuntimeError(f"this process runs {_loaded.__name__}, {build} build; both are chosen once per process")
        return
    os.environ[_ENVIRONMENT] = name
    if debug is not None:
        os.environ[_BUILD] = "debug" if debug else "plain"
    if families is not None:
        os.environ[_FAMILIES] = " ".join(sorted(families))


def debug() -> bool:
    """True in the debug build."""
    return os.environ.get(_BUILD, "plain") == "debug"


def families() -> str:
    """The families of policies that this process compiles beside Linux's own, by name."""
    return os.environ.get(_FAMILIES, "")


def compiles(family: str) -> bool:
    """True if a family of policies is part of this build: of the plain one only if it was named, as bodies are."""
    return family in families().split() or (family != BODIES and (debug() or name() != "native"))


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
