"""What a worker of the cluster does: it says what it is, and runs one task as a process group of its own.

A task ends with its limit, with its worker, and when the campaign does not want it any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from scenarios.campaign.revision import revision
from scenarios.session.record import processor_model

GUARD = "scenarios.campaign.guarded"
LOOK_SECONDS = 0.2  # between looks whether the task is still wanted
GRACE_SECONDS = 5.0  # from SIGTERM to SIGKILL
KEPT = 4000  # characters of what a task wrote on stderr
OUTPUT = ("--json", "-")


class NotThisWorker(Exception):
    """The task was meant for a worker that is gone: it is lost with it, and not run again unasked."""


def greeting(dask_worker: Any) -> dict[str, Any]:
    """What a worker is: its id, where it runs, with which revision, and on which processors."""
    return {
        "id": dask_worker.id,
        "revision": revision(),
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "machine": processor_model(),
        "processors": sorted(os.sched_getaffinity(0)),
    }


def is_busy(dask_worker: Any) -> bool:
    """True if the worker still has a task."""
    return bool(dask_worker.state.all_running_tasks)


def run_task(worker_id: str, module: str, words: Sequence[str], limit: float, processors: Sequence[int]) -> Any:
    """Run one task on these processors; what `run_process` says. Raises NotThisWorker."""
    from distributed import get_worker

    worker = get_worker()
    if worker.id != worker_id:
        raise NotThisWorker
    key = worker.get_current_task()

    def wanted() -> bool:
        state = worker.state.tasks.get(key)
        return state is not None and state.state == "executing"

    return run_process(module, words, limit, processors, wanted)


def run_process(
    module: str, words: Sequence[str], limit: float, processors: Sequence[int], wanted: Callable[[], bool]
) -> dict[str, Any]:
    """Run a module's command with these words: its exit status (None: it was ended), record, stderr, and seconds."""
    command = [sys.executable, "-m", GUARD, str(os.getpid()), ",".join(map(str, processors)), module, *words, *OUTPUT]
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            ended = _wait(process.pid, began + limit, wanted)
            if not ended:
                process.terminate()
                _wait(process.pid, time.monotonic() + GRACE_SECONDS, lambda: True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(
                    process.pid, signal.SIGKILL
                )  # whatever it left behind; its number is taken until it is reaped
            process.wait()
        return {
            "status": process.returncode if ended else None,
            "record": _object(_text(out)),
            "stderr": _text(err)[-KEPT:],
            "seconds": time.monotonic() - began,
        }


def _wait(pid: int, until: float, wanted: Callable[[], bool]) -> bool:
    """Wait for the end of a child; False if it has not come by then, or is not wanted any more."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while wanted() and (left := until - time.monotonic()) > 0:
            if poll.poll(1000 * min(left, LOOK_SECONDS)):
                return True
        return False
    finally:
        os.close(descriptor)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


def _object(text: str) -> dict[str, Any] | None:
    """What a command wrote with --json, or None if it did not come to that."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
