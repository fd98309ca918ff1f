"""numpy, imported when something of it is first used: names, help and sizes are shown without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import *  # noqa: F403  what a type checker sees


def __getattr__(name: str) -> Any:
    import numpy

    return globals().setdefault(name, getattr(numpy, name))
