"""A command of ptelab in a process of its own, from this tree or from another checkout."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import scenarios
from scenarios.session import errors
from workers.vigil import LOOK_SECONDS, Vigil

HERE = Path(scenarios.__file__).resolve().parent.parent


def run_ptelab(*arguments: str, tree: Path = HERE) -> tuple[str, dict[str, Any]]:
    """Run a command from the sources of a tree: what it printed, and its record.

    Raises UserError unless it passed or found a violation, MachineFailed if it stands still.
    """
    path = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-P", "-m", "scenarios", *arguments, "--json", file.name]
        status, printed, said = watched(command, environment, f"ptelab {' '.join(arguments)}")
        if status not in (errors.OK, errors.VIOLATION):
            where = "" if tree == HERE else f"{tree}: "
            raise errors.UserError(f"{where}ptelab {' '.join(arguments)}: {said.strip()}")
        record: dict[str, Any] = json.load(file)
    return printed, record


def watched(command: list[str], environment: dict[str, str], name: str) -> tuple[int, str, str]:
    """Run a command: its status, stdout and stderr. Raises MachineFailed, which names the CPU that stands still."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        vigil = Vigil({process.pid: name})
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    printed, said = process.communicate(timeout=LOOK_SECONDS)
                    return process.returncode, printed, said
                vigil.look()
        finally:
            process.kill()
