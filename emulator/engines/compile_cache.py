"""Where compiled kernels are kept, so that the second start is fast and none is ever stale or torn.

Numba's own cache looks only at the file of the function it keeps, not at the files of the functions that one calls,
and a writer that is killed may leave half a file. So the directory's name is a hash of everything the result depends
on, it is filled by one process under a lock, and it counts only once its marker stands in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from emulator import engine

KERNELS = ("emulator/**/*.py", "workers/host/host_loop.py")  # where kernels are written
_MARKER = "complete"
_KEPT = 24  # directories of other versions that stay


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent


def _processor() -> str:
    """Model and features of this processor: compiled code must not move to another."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.processor()


def key(sources: tuple[str, ...]) -> str:
    """A hash of the build, the sources (contents, paths, times), numba, llvmlite, Python and the processor."""
    digest = hashlib.sha256()
    for word in (str(engine.debug()), version("numba"), version("llvmlite"), platform.python_version(), _processor()):
        digest.update(word.encode())
    for source in sorted(path for pattern in sources for path in _root().glob(pattern)):
        # numba keeps an index per path and compares the time of the file, so both must be part of the name
        digest.update(f"{source} {source.stat().st_mtime_ns} ".encode() + source.read_bytes())
    return digest.hexdigest()[:20]


def directory(sources: tuple[str, ...] = KERNELS) -> Path | None:
    """The directory for what is compiled from these sources, told to numba through its environment; None if there is
    none that can be written."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for parent in (Path(home) / "ptelab", Path(tempfile.gettempdir()) / f"ptelab-cache-{os.getuid()}"):
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(parent, os.W_OK) and parent.stat().st_uid == os.getuid():
                os.environ["NUMBA_CACHE_DIR"] = str(parent / key(sources))
                return parent / key(sources)
    return None


def is_complete(cache: Path | None) -> bool:
    """True if everything was compiled into `cache` by an earlier process."""
    return cache is not None and (cache / _MARKER).exists()


@contextlib.contextmanager
def filling(cache: Path | None) -> Iterator[None]:
    """Compile inside this block. One process at a time fills; the others wait and then only load."""
    if cache is None:
        yield
        return
    with open(cache.parent / f"{cache.name}.lock", "w") as lock:
        if not is_complete(cache):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(cache):
            shutil.rmtree(cache, ignore_errors=True)  # a filler that was killed
            cache.mkdir()
        yield
        if not is_complete(cache):
            (cache / _MARKER).touch()
            _forget_old(cache)


@contextlib.contextmanager
def kept_in(cache: Path | None) -> Iterator[None]:
    """Inside this block numba keeps code in `cache`, not where the kernels are: each is complete by itself."""
    from numba.core import config

    kernels = config.CACHE_DIR
    if cache is not None:
        config.CACHE_DIR = str(cache)
    try:
        with filling(cache):
            yield
    finally:
        config.CACHE_DIR = kernels


def _forget_old(cache: Path) -> None:
    others = [d for d in cache.parent.iterdir() if d.is_dir() and d != cache]
    for old in sorted(others, key=lambda d: d.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
        (cache.parent / f"{old.name}.lock").unlink(missing_ok=True)
