"""What was asked of advise, on which machine, and the files that are written of what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.advice import prometheus
from scenarios.advice.advice import Advice, advise, row_of
from scenarios.advice.reading import Reading
from scenarios.advice.remedies import shared_files
from scenarios.session.files import stdout_is_taken
from scenarios.session.record import Record
from workers.host import process_files
from workers.host.kernel_facts import kernel_facts


@dataclass
class Job:
    """What was asked for, and what the machine is like."""

    pids: list[int] = field(default_factory=list)
    name: str | None = None
    everyone: bool = False
    command: list[str] = field(default_factory=list)
    watch: float | None = None
    seconds: float | None = None
    json_file: str | None = None
    prometheus_file: str | None = None
    facts: dict[str, str] = field(default_factory=kernel_facts)
    machine: dict[str, int] = field(default_factory=process_files.system_tables)
    failed: bool = False
    looks: int = 0

    @property
    def quiet(self) -> bool:
        """True if stdout is for a file format."""
        return stdout_is_taken()

    def advise(self, reading: Reading, **more: Any) -> Advice:
        """The advice that follows from a reading on this machine."""
        return advise(reading, self.facts, self.machine.get("MemTotal", 1 << 62), **more)


def deliver(job: Job, found: list[Advice], streaming: bool = False) -> None:
    """Write the files that were asked for."""
    if job.prometheus_file is not None:
        prometheus.write(job.prometheus_file, prometheus.text_of(found, job.machine))
    record = Record("advise", 0)
    record.rows = [*map(row_of, found), _machine_row(job, found)]
    record.write(None if streaming else job.json_file)  # --html has the latest look
    if not streaming or job.json_file is None:
        return
    text = json.dumps(record.as_json()) + "\n"
    if job.json_file == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    with open(job.json_file, "w" if job.looks == 0 else "a") as stream:
        stream.write(text)
    job.looks += 1


def _machine_row(job: Job, found: Sequence[Advice]) -> dict[str, Any]:
    """The row of the machine: its page tables, and the files that many processes map."""
    files = shared_files(advice.reading for advice in found)
    return {
        "row": "machine",
        "page_tables_kb": job.machine.get("PageTables"),
        "secondary_page_tables_kb": job.machine.get("SecPageTables"),
        "memory_kb": job.machine.get("MemTotal"),
        **{name: job.facts[name] for name in ("pt_reclaim", "transparent_hugepage")},
        "shared_files": [dict(zip(("name", "processes", "tables_kb"), row, strict=True)) for row in files],
    }
