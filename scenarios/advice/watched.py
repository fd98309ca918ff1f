"""A command that is run, and looked at until it ends: each of its processes when it wasted most, and its last look."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from scenarios.advice.reading import NoAddressSpace, Reading, read
from scenarios.session.errors import UserError
from workers.host.process_files import ProcessGone, family

_EVERY = 0.05  # seconds between two looks, at least
_SHARE = 10  # a look may take a tenth of the time
_PATIENCE = 5.0  # seconds that a command has to end when it is asked to


class Watched:
    """The processes of a command, by PID: (most waste, when), and the last look."""

    def __init__(self, command: Sequence[str], to_stderr: bool) -> None:
        try:
            self._process = subprocess.Popen(command, stdout=sys.stderr if to_stderr else None)
        except OSError as error:
            raise UserError(
                f"--command '{command[0]}' cannot be run: {error.strerror}; --name NAME is for processes that run"
            ) from None
        self._began = time.monotonic()
        self._next = 0.0
        self.pid = self._process.pid
        self.most: dict[int, tuple[Reading, float]] = {}
        self.last: dict[int, Reading] = {}

    def look(self) -> list[Reading]:
        """Look at all its processes, if the last look was long enough ago: what was read now."""
        began = time.monotonic()
        if began < self._next:
            return []
        found = []
        for pid in family(self.pid):
            with contextlib.suppress(ProcessGone, NoAddressSpace):
                found.append(read(pid))
        moment = time.monotonic()
        for reading in found:
            pid = reading.status.pid
            self.last[pid] = reading
            if pid not in self.most or _more(reading, self.most[pid][0]):
                self.most[pid] = (reading, moment - self._began)
        self._next = moment + max(_EVERY, _SHARE * (moment - began))
        return found

    def note(self) -> None:
        """Look, for what is kept of it."""
        self.look()

    def until_end(self) -> Iterator[list[Reading]]:
        """Look until the command ends: each time what was read."""
        while self._process.poll() is None:
            if found := self.look():
                yield found
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.001, self._next - time.monotonic()))

    def status(self) -> int:
        """How the command ended, as subprocess says it."""
        return self._process.wait()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _more(reading: Reading, than: Reading) -> bool:
    """True if a look shows more waste than another, or as much and more tables."""
    return (reading.waste, reading.held) > (than.waste, than.held)
