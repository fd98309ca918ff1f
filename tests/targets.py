"""Processes that tests advise: each does what it is told, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from support import ROOT

from scenarios.advice.reading import Reading, read

MIB = 1 << 20


class Target:
    """A process of its own that does what it is told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(ROOT / "tests" / "advised.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        assert self._out.readline() == "ready\n"

    def do(self, *operations: Sequence[Any]) -> None:
        """Let it follow some operations; the test is skipped if this kernel does not know one."""
        self._in.write(json.dumps(operations) + "\n")
        self._in.flush()
        said = self._out.readline()
        if said == "cannot\n":
            pytest.skip(f"this kernel cannot do {operations[0][0]}")
        assert said == "done\n"

    def grown_by(self, operations: Sequence[Any], undo: Sequence[Any]) -> tuple[int, int, Reading]:
        """What held and needed grow by, in kB, as the operations are done once more, all else having been touched."""
        self.do(*operations)
        self.do(*undo)
        before = read(self.pid)
        self.do(*operations)
        after = read(self.pid)
        assert before.error == after.error == 0
        return after.held - before.held, after.needed_low - before.needed_low, after

    def end(self) -> None:
        """Let it exit, and wait for that."""
        self._in.close()
        self._out.close()
        self._process.wait()

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self.end()
