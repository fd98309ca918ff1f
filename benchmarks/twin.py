"""The C twin (benchmarks/ctwin): multi-fault of one CPU under `none` and `refcount`, written by hand in C.

It makes the same steps over the same rows with the same locked instructions. So it says what the emulator loses by
being compiled Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "ctwin" / "ctwin.c"
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-pie", "-no-pie")


class TwinUnavailable(Exception):
    """There is nothing to compare with; the text says why."""


def build_twin(folder: Path) -> Path:
    """The program, compiled into `folder`. Raises TwinUnavailable."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise TwinUnavailable("no C compiler is here (gcc)")
    program = folder / "ctwin"
    built = subprocess.run([compiler, *FLAGS, "-o", program, SOURCE], capture_output=True, text=True)
    if built.returncode != 0:
        raise TwinUnavailable(f"{compiler} failed: {(built.stderr.splitlines() or ['no word'])[0]}")
    return program


def twin_round(program: Path, policy: str, seconds: float) -> float:
    """Nanoseconds of processor time per fault in one round. Raises TwinUnavailable."""
    run = subprocess.run([program, policy, "1", str(seconds)], capture_output=True, text=True)
    if run.returncode != 0:
        raise TwinUnavailable(f"it ended with status {run.returncode}")
    return float(json.loads(run.stdout)["ns_per_fault"])
