"""How a process ends, whatever happens in it: one line on stderr, a log if it should not have happened, a status.

Status 1 says that a check failed; nothing else may end in it, as Python would have an exception end.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from scenarios.session import errors, streams
from workers import interrupts

LIMITS = {
    errno.EAGAIN: "this host lets no more processes be started",
    errno.EMFILE: "this process may open no more files (ulimit -n)",
    errno.ENFILE: "this host can open no more files",
    errno.EFBIG: "a file may not become so large (ulimit -f)",
    errno.ENOMEM: "this host has no more memory",
    errno.ENOSPC: "this host has no more room",
}
SHOWN = 200  # characters of an exception's first line


def run(body: Callable[[], int]) -> NoReturn:
    """Run `body` in a process that a user started, and end the process with the status it returns."""
    interrupts.install()
    _catch_bus_errors()
    try:
        status = _status(body)
    except KeyboardInterrupt:  # another one, while the first was dealt with
        status = errors.INTERRUPTED
    if number := interrupts.pending():
        _leave_at_once(128 + number)
    sys.exit(status)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _bus_error(number: int) -> None:
    """A look at a page of a segment for which there is no room. Nothing goes on behind it."""
    with contextlib.suppress(BaseException):
        full = os.statvfs("/dev/shm").f_bavail == 0
        why = "there is no room left in /dev/shm" if full else "a page of a file that it reads is gone"
        os.write(2, f"ptelab: bus error: {why}\n".encode())
    os._exit(errors.INTERNAL)


def _catch_bus_errors() -> None:
    """Let a bus error be one line and a status. A handler of Python's would run behind the access that failed, and that
    is made again for ever; C's is called at once. Forked children do without (interrupts.reset_in_child).
    """
    ctypes.CDLL(None).signal(signal.SIGBUS, _bus_error)


def _leave_at_once(status: int) -> NoReturn:
    """End without taking the process apart. An exception in the midst of the compiler has left its objects half closed,
    and to close them again would be another fault.
    """
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
    os._exit(status)


def _status(body: Callable[[], int]) -> int:
    """What `body` returns; or says what ended it, and what that is as a status."""
    try:
        streams.guard()
        status = body()
        sys.stdout.flush()
        return status
    except interrupts.Interrupted as interrupt:
        return 128 + interrupt.number
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else errors.INTERNAL
    except streams.OutputLost as lost:
        if interrupts.pending():
            return errors.INTERRUPTED  # the terminal hung up
        return errors.PIPE if lost.errno == errno.EPIPE else say_fault(lost)
    except Exception as error:
        return say_fault(error)


def say_fault(error: Exception) -> int:
    """One line on stderr, and all that is known in a file; the exit status."""
    try:
        text = (str(error).strip().splitlines() or [""])[0][:SHOWN]
        words = str(error) if isinstance(error, streams.OutputLost) else f"{type(error).__name__}: {text}".rstrip(": ")
        if isinstance(error, OSError) and error.errno in LIMITS:
            words = f"{LIMITS[error.errno]}: {words}"
        sys.stderr.write(f"ptelab: {words}; {_log(error)}\n")
    except MemoryError:
        os.write(2, b"ptelab: this host has no more memory; no log of it\n")
    return errors.INTERNAL


def _log(error: Exception) -> str:
    """Write the command, the versions and where the exception came from into a file; where that is."""
    try:
        number, file = tempfile.mkstemp(".log", f"ptelab-{time.strftime('%Y%m%d-%H%M%S')}-")
        with open(number, "w", errors="backslashreplace") as log:
            log.write(f"command  {shlex.join(['ptelab', *sys.argv[1:]])}\n")
            log.write(f"ptelab   {_version()}, Python {sys.version.split()[0]}, {os.uname().release}\n\n")
            log.writelines(traceback.format_exception(error))
    except OSError as reason:
        return f"no log of it: {reason.strerror}"
    return f"see {file}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ptelab")
    except PackageNotFoundError:
        return "not installed"
