"""Advice in the text format of Prometheus, for the textfile collector of node_exporter."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from scenarios.advice.advice import Advice
from scenarios.session.errors import UserError

# name -> (what it is, how it is found)
METRICS = {
    "held": ("Page tables the process holds (VmPTE).", lambda reading: reading.held),
    "needed_min": ("Page tables with an entry in them, at least.", lambda reading: reading.needed_low),
    "needed_max": ("Page tables with an entry in them, at most.", lambda reading: reading.needed_high),
    "waste": ("Page tables that hold nothing.", lambda reading: reading.waste),
    "error": ("What the held page tables changed by while they were read.", lambda reading: reading.error),
}
MACHINE = {"PageTables": "page_tables", "SecPageTables": "secondary_page_tables"}


def _escaped(text: str) -> str:
    """A label's value."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def text_of(found: Sequence[Advice], machine: Mapping[str, int]) -> str:
    """The metrics, in bytes; each process is named by its PID and command."""
    lines = []
    for name, (help_text, value) in METRICS.items():
        metric = f"ptelab_page_tables_{name}_bytes"
        lines += [f"# HELP {metric} {help_text}", f"# TYPE {metric} gauge"]
        for advice in found:
            status = advice.reading.status
            labels = f'pid="{status.pid}",comm="{_escaped(status.name)}"'
            lines.append(f"{metric}{{{labels}}} {1024 * value(advice.reading)}")
    for field, name in MACHINE.items():
        if field in machine:
            metric = f"ptelab_machine_{name}_bytes"
            lines += [f"# HELP {metric} {field} of /proc/meminfo.", f"# TYPE {metric} gauge"]
            lines.append(f"{metric} {1024 * machine[field]}")
    return "\n".join(lines) + "\n"


def write(file: str, text: str) -> None:
    """Put the text in place of a file at once, as a collector may read it any time; - is stdout. Raises UserError."""
    if file == "-":
        sys.stdout.write(text)
        return
    path = Path(file)
    if path.exists() and not path.is_file():  # a pipe, /dev/stderr: there is nothing to replace
        path.write_text(text)
        return
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
