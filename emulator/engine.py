"""The engine that runs the kernels. It is chosen once per process, before the first kernel is imported.

A kernel is written once, as a plain Python function over `m`, and decorated with `@kernel`. What that means is the
engine's business; an engine is a module of `emulator/engines/` that offers

    kernel, kernel_inline, entry_point     the decorators
    attach(segment) -> m                   the first argument of every kernel
    is_prepared(), prepare()               everything that must happen before the first fork
    read_once ... wake_all                 the primitives that atomic.py lists
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

ENGINES = ("native", "semaphore")
_ENVIRONMENT = "PTELAB_ENGINE"
_loaded: ModuleType | None = None


def choose(name: str) -> None:
    """Select the engine of this process.

    Raises ValueError if the name is unknown, RuntimeError if kernels were already imported under another engine.
    """
    if name not in ENGINES:
        raise ValueError(f"unknown engine '{name}'; known: {', '.join(ENGINES)}")
    if _loaded is not None and not _loaded.__name__.endswith(f".{name}"):
        raise RuntimeError(f"this process runs {_loaded.__name__} already; an engine is chosen once per process")
    os.environ[_ENVIRONMENT] = name


def name() -> str:
    """The engine of this process."""
    return os.environ.get(_ENVIRONMENT, ENGINES[0])


def load() -> ModuleType:
    """Import the chosen engine; from here on it cannot be changed."""
    global _loaded
    if _loaded is None:
        choose(name())
        _loaded = importlib.import_module(f"emulator.engines.{name()}")
    return _loaded


def is_prepared() -> bool:
    """True if `prepare` has only to load what an earlier process compiled."""
    return bool(load().is_prepared())


def prepare() -> None:
    """Do everything that must happen before the first fork: compile the entry points, or load them."""
    load().prepare()


def attach(segment: Any) -> Any:
    """The `m` of a segment, the first argument of every kernel."""
    return load().attach(segment)
