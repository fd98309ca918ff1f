"""The command as a process of its own, on the sources of this tree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from support import ROOT

COMMAND = [sys.executable, "-m", "scenarios"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PTELAB_BUILD": "plain"}  # the command chooses
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # half of a start is parsing, the second time for nothing


def ptelab(*arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300
    )
