"""The results of a campaign: a file with a line of JSON for each task that is over, by revision, command and seed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenarios.campaign.verdicts import LOST
from scenarios.session import errors
from workers.telling.postmortem import MachineFailed

Key = tuple[str, str, int | None]
NONE = type(None)
KEYS: dict[str, tuple[type, ...]] = {
    "revision": (str,), "command": (str,), "seed": (int, NONE), "verdict": (str,), "titles": (list,), "again": (str,),
    "size": (int, NONE), "seconds": (int, float, NONE), "exploration": (str,), "prefixes": (list,),
}  # fmt: skip
START = b'{"revision":"'  # of each line


class Results:
    """An open file of results. Nobody else may have it; what a killed campaign left half written is cut off."""

    def __init__(self, file: str, resume: bool) -> None:
        self.file = file
        try:
            self._existed = Path(file).exists()
            if self._existed and not Path(file).is_file():  # a device, a pipe: nothing can be taken up there
                raise errors.UserError(f"{file} is no regular file; known: --results FILE, or a new one")
            if self._existed and Path(file).stat().st_size > 0 and not resume:
                raise errors.UserError(f"{file} holds results; known: --resume goes on, --results FILE takes another")
            self._stream = open(file, "a+b", buffering=0)  # noqa: SIM115 - for as long as the campaign
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise errors.UserError(f"{file} belongs to a campaign that runs; known: --results FILE") from None
        except OSError as error:
            raise errors.UserError(f"cannot write {file}: {error.strerror}") from None

    def before(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and line of each result from before; tasks that were lost have none. Raises UserError."""
        self._stream.seek(0)
        whole = 0
        for number, line in enumerate(self._stream, 1):
            if not line.endswith(b"\n"):
                if not START.startswith(line[: len(START)]) and line.strip(b"\0"):
                    raise self.refused(number)  # cutting it off would harm a file that is no campaign's
                break
            whole += len(line)
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not _is_result(found):
                raise self.refused(number)
            if found["verdict"] != LOST:
                yield number, found
        os.ftruncate(self._stream.fileno(), whole)

    def add(self, line: dict[str, Any]) -> None:
        """Append a line, whole: in one write. Raises MachineFailed if it does not fit."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if self._stream.write(text) == len(text):
                return
            why = os.strerror(errno.ENOSPC)
        except OSError as error:
            why = str(error.strerror)
        raise MachineFailed(f"cannot write {self.file}: {why}; --resume goes on from there")

    def refused(self, number: int) -> errors.UserError:
        """The error of a line that a campaign did not write."""
        return errors.UserError(f"{self.file}, line {number}: no result of ptelab campaign; known: another --results")

    def close(self) -> None:
        """Let go of the file; if it was not there before, and is empty, it is taken away."""
        if not self._existed and os.fstat(self._stream.fileno()).st_size == 0:
            Path(self.file).unlink(missing_ok=True)
        self._stream.close()


def _is_result(line: Any) -> bool:
    """True of an object with all keys, each of a type that fits."""
    return isinstance(line, dict) and all(key in line and isinstance(line[key], types) for key, types in KEYS.items())


def key_of(line: dict[str, Any]) -> Key:
    """What a line is the result of."""
    return line["revision"], line["command"], line["seed"]
