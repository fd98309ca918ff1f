"""Where numba puts the code of our functions: in the cache's directory, by the name of their module.

Its own way is by path and time of the source, so that a second clone of the same sources would be compiled again. The
directory's name is a hash of the sources already (compile_cache.py). Reaches into numba's private parts
(numba.core.caching, versions 0.60 to 0.68).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import CacheImpl, _CacheLocator

ROOT = Path(__file__).resolve().parents[2]


class ByModule(_CacheLocator):  # type: ignore[misc]
    """The place of a function that is ours."""

    def __init__(self, function: Any, place: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._place = place

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> ByModule | None:
        """The place, or None if the function is not ours or nothing is kept."""
        path = Path(py_file)
        if not config.CACHE_DIR or not path.is_relative_to(ROOT):
            return None
        place = cls(py_func, os.path.join(config.CACHE_DIR, ".".join(path.relative_to(ROOT).with_suffix("").parts)))
        try:
            place.ensure_cache_path()
        except OSError:
            return None
        return place

    def get_cache_path(self) -> str:
        """Its directory."""
        return self._place

    def get_source_stamp(self) -> int:
        """Always the same: another source has another directory."""
        return 0

    def get_disambiguator(self) -> str:
        """What tells functions of one name apart."""
        return str(self._line)


def use() -> None:
    """Let numba ask here first."""
    if ByModule not in CacheImpl._locator_classes:
        CacheImpl._locator_classes.insert(0, ByModule)
