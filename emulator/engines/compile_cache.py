"""Where compiled kernels are kept, so that the second start is fast and none is ever stale or torn.

Numba's own cache looks only at the file of the function it keeps, not at the files of the functions that one calls. A
writer that is killed may leave half a file. So the directory's name is a hash of everything the result depends on, and
one process fills it under a lock. It counts only once its marker stands in it, which holds a hash of what was written.
What was truncated or changed since is compiled again.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from emulator import engine

KERNELS = ("emulator/**/*.py", "workers/host/host_loop.py")  # where kernels are written
_MARKER = "complete"
_KEPT = 24  # directories of other versions that stay, those that were used last
FILLER_SECONDS = 1200.0  # how long another process may compile before nobody waits for it
_POLL = 0.1
remark = ""  # what a user should know of where the kernels are kept


def _root() -> Path:
    return Path(__file__).resolve().parent.parent.parent


def _processor() -> str:
    """Model and features of this processor: compiled code must not move to another."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.processor()


def kernel_files() -> list[Path]:
    """The files in which kernels are written."""
    return sorted(path for pattern in KERNELS for path in _root().glob(pattern))


def key(sources: tuple[str, ...]) -> str:
    """A hash of the build, the sources, numba, llvmlite, Python and the processor, wherever the sources lie."""
    apart = engine.BODIES if engine.compiles(engine.BODIES) else ""
    return _key(sources, f"{engine.debug()} {apart if engine.debug() else engine.families()}")


@functools.cache
def _key(sources: tuple[str, ...], build: str) -> str:
    from importlib.metadata import version

    digest = hashlib.sha256()
    for word in (build, version("numba"), version("llvmlite"), platform.python_version(), _processor()):
        digest.update(word.encode())
    for source in sorted(path for pattern in sources for path in _root().glob(pattern)):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(_root())} {len(content)} ".encode() + content)
    return digest.hexdigest()[:20]


def directory(sources: tuple[str, ...] = KERNELS) -> Path | None:
    """The directory for what is compiled from these sources, told to numba through its environment.

    It is loaded as code, so nobody else may write to it, nor to what it lies in. If there is no such place it is one
    for this process alone, removed at its end; None if not even that can be made.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    refused = []
    for parent in (Path(home) / "ptelab", Path(tempfile.gettempdir()) / f"ptelab-cache-{os.getuid()}"):
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (why := who_else_may_write(parent)) is not None:
                refused.append(why)
            elif os.access(parent, os.W_OK):
                return _chosen(parent / key(sources), refused)
    with contextlib.suppress(OSError):
        own = Path(tempfile.mkdtemp(prefix="ptelab-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return _chosen(own / key(sources), [*refused, "what is compiled is not kept"])
    return None


def _chosen(cache: Path, refused: list[str]) -> Path:
    """Tell numba, and keep the remark."""
    global remark
    remark = "; ".join(refused)
    os.environ["NUMBA_CACHE_DIR"] = str(cache)
    return cache


def who_else_may_write(directory: Path) -> str | None:
    """Why others could plant code in a directory: its owner or mode, or that of one it lies in; None if nobody can.

    In a directory with the sticky bit, such as /tmp, nobody can replace what is another's.
    """
    real = directory.resolve()
    for place in (real, *real.parents):
        status = place.stat()
        if status.st_uid not in ((os.getuid(),) if place == real else (os.getuid(), 0)):
            return f"{place} belongs to user {status.st_uid}: compiled kernels are not kept there"
        if status.st_mode & 0o022 and (place == real or not status.st_mode & stat.S_ISVTX):
            return f"others may write to {place}: compiled kernels are not kept there"
    return None


def digest(cache: Path) -> str:
    """A hash of all that is in a directory, but for the marker."""
    whole = hashlib.sha256()
    for file in sorted(path for path in cache.rglob("*") if path.is_file() and path.name != _MARKER):
        whole.update(f"{file.relative_to(cache)} {file.stat().st_size} ".encode() + file.read_bytes())
    return whole.hexdigest()


def is_complete(cache: Path | None) -> bool:
    """True if everything was compiled into `cache` by an earlier process, and is as that process has left it."""
    if cache is None:
        return False
    try:
        return who_else_may_write(cache) is None and (cache / _MARKER).read_text() == digest(cache)
    except (OSError, UnicodeDecodeError):
        return False


def read(cache: Path | None, name: str) -> bytes | None:
    """A file of a complete cache; None if the cache is not complete."""
    if not is_complete(cache):
        return None
    with contextlib.suppress(OSError):
        return (cache / name).read_bytes()
    return None


def filled(cache: Path | None, name: str, make: Callable[[], bytes]) -> bytes:
    """A file of a cache, made and kept if the cache is not complete. Raises TimeoutError as filling does."""
    with filling(cache):
        if (found := read(cache, name)) is None:
            found = make()
            if cache is not None:
                (cache / name).write_bytes(found)
        return found


@contextlib.contextmanager
def filling(cache: Path | None) -> Iterator[None]:
    """Compile inside this block. One process at a time fills; the others wait and then only load.

    Raises TimeoutError, which names the filler, if it does not come to its end.
    """
    if cache is None:
        yield
        return
    if is_complete(cache):
        with contextlib.suppress(OSError):
            os.utime(cache)  # the directories that nobody used for longest are the first to go
        yield
        return
    with _take(cache):
        if is_complete(cache):
            yield
            return
        shutil.rmtree(cache, ignore_errors=True)  # a filler that was killed, or what somebody has changed since
        try:
            cache.mkdir(mode=0o700)
            yield
            (cache / _MARKER).write_text(digest(cache))
        except OSError as error:
            shutil.rmtree(cache, ignore_errors=True)
            raise OSError(error.errno, error.strerror, str(cache)) from None
        _forget_old(cache)


def _take(cache: Path) -> IO[str]:
    """Become the process that fills, and leave its number: the lock, open.

    The file of a lock may be gone by the time the lock is free (_forget_old). Then it keeps nobody out any more.
    """
    began = time.monotonic()
    file = cache.parent / f"{cache.name}.lock"
    while True:
        lock = open(file, "a+")  # noqa: SIM115 - the caller closes it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = f"process {lock.read().strip() or 'unknown'}"
            lock.close()
            if time.monotonic() - began > FILLER_SECONDS:
                raise TimeoutError(f"{who} has been filling {cache} for {FILLER_SECONDS:g} s; is it stopped?") from None
            time.sleep(_POLL)
            continue
        if _is_named(lock, file):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return lock
        lock.close()


def _is_named(lock: IO[str], file: Path) -> bool:
    """True if an open file is still what stands under its name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except FileNotFoundError:
        return False


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
    """Take away what was not used for longest, unless somebody fills it just now."""
    others = [d for d in cache.parent.iterdir() if d.is_dir() and d != cache]
    for old in sorted(others, key=lambda d: d.stat().st_mtime)[:-_KEPT]:
        with open(cache.parent / f"{old.name}.lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old, ignore_errors=True)
            os.unlink(lock.name)
