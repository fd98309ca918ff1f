"""The results of a campaign: a file with a line of JSON for each task that is over, by revision, command and seed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scenarios.campaign.verdicts import LOST
from scenarios.session import errors

Key = tuple[str, str, int | None]
KEYS = ("revision", "command", "seed", "verdict", "titles", "again", "size", "seconds", "exploration", "prefixes")


class Results:
    """An open file of results. Nobody else may have it; what a killed campaign left half written is cut off."""

    def __init__(self, file: str, resume: bool) -> None:
        self.file = file
        try:
            existed = Path(file).exists() and Path(file).stat().st_size > 0
            if existed and not resume:
                raise errors.UserError(f"{file} holds results; known: --resume goes on, --results FILE takes another")
            self._stream = open(file, "a+b", buffering=0)  # noqa: SIM115 - for as long as the campaign
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise errors.UserError(f"{file} belongs to a campaign that runs; known: --results FILE") from None
        except OSError as error:
            raise errors.UserError(f"cannot write {file}: {error.strerror}") from None

    def before(self) -> Iterator[dict[str, Any]]:
        """What it holds from before, but for tasks that were lost: those have no result. Raises UserError."""
        self._stream.seek(0)
        whole = 0
        for number, line in enumerate(self._stream, 1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if not isinstance(found, dict) or not all(key in found for key in KEYS):
                raise errors.UserError(
                    f"{self.file}, line {number}: no result of ptelab campaign; give another --results"
                )
            if found["verdict"] != LOST:
                yield found
        os.ftruncate(self._stream.fileno(), whole)

    def add(self, line: dict[str, Any]) -> None:
        """Append a line, whole: in one write."""
        self._stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Let go of the file; an empty one is taken away."""
        if os.fstat(self._stream.fileno()).st_size == 0:
            Path(self.file).unlink(missing_ok=True)
        self._stream.close()


def key_of(line: dict[str, Any]) -> Key:
    """What a line is the result of."""
    return line["revision"], line["command"], line["seed"]
