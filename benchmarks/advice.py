"""The figures of docs/operators.md: how long advise takes, and what allocators leave under which setting.

python -m benchmarks.advice speed           sparse processes of 64 GiB and 55 TiB, read again and again
python -m benchmarks.advice allocators      a churn of two threads under each allocator that is installed
"""

from __future__ import annotations

import mmap
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np

from scenarios.advice.reading import Reading, read
from scenarios.advice.sampled import Sampled, judge
from scenarios.session import report
from scenarios.session.progress import Progress, note
from workers.host.call_sample import SampleUnavailable, sample
from workers.host.page_scan import RANGE
from workers.host.process_files import threads_of

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SPARSE = {  # title -> (bytes mapped, a page is touched every so many)
    "64 GiB, a page per 64 MiB": (64 * GIB, 64 * MIB),
    "64 GiB, a page per 2 MiB": (64 * GIB, 2 * MIB),
    "55 TiB, a page per 64 GiB": (55 * TIB, 64 * GIB),
    "55 TiB, a page per 16 GiB": (55 * TIB, 16 * GIB),
    "55 TiB, a page per 2 GiB": (55 * TIB, 2 * GIB),
}
_PLACES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib")
_DECAY = "dirty_decay_ms:0,muzzy_decay_ms:0"
SETTINGS: tuple[tuple[str, str, dict[str, str]], ...] = (  # allocator, its library, environment
    ("glibc", "", {}),
    ("glibc", "", {"MALLOC_TRIM_THRESHOLD_": "0"}),
    ("jemalloc", "libjemalloc.so.2", {}),
    ("jemalloc", "libjemalloc.so.2", {"MALLOC_CONF": "retain:false"}),
    ("jemalloc", "libjemalloc.so.2", {"MALLOC_CONF": _DECAY}),
    ("jemalloc", "libjemalloc.so.2", {"MALLOC_CONF": f"{_DECAY},retain:false"}),
    ("tcmalloc", "libtcmalloc_minimal.so.4", {}),
    ("tcmalloc", "libtcmalloc_minimal.so.4", {"TCMALLOC_RELEASE_RATE": "10"}),
    ("tcmalloc", "libtcmalloc_minimal.so.4", {"TCMALLOC_AGGRESSIVE_DECOMMIT": "1"}),
    ("mimalloc", "libmimalloc.so.2.0", {}),
    ("mimalloc", "libmimalloc.so.2.0", {"MIMALLOC_DECOMMIT_DELAY": "0", "MIMALLOC_PURGE_DELAY": "0"}),  # one name each
)
CHURN = Path(__file__).with_name("churn.py")
_MAP_NORESERVE = 0x4000  # Python names it from 3.13 on
_LONGEST = 120.0  # seconds of a churn whose calls are looked at


@contextmanager
def sparse_process(size: int, step: int) -> Iterator[int]:
    """The PID of a child that has touched one page of every `step` bytes of a mapping, and waits."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            memory = _touch(size, step)  # noqa: F841 it stays mapped
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        if not os.read(reader, 1):
            raise OSError(f"no process can map {size >> 40} TiB here")
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)


def _touch(size: int, step: int) -> mmap.mmap:
    """So much memory, of which a page of every `step` bytes has been touched."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, step):
        memory[at] = 1
    return memory


def library(name: str) -> str | None:
    """Where a library is, empty if none is needed, None if it is not installed."""
    return next((f"{place}/{name}" for place in _PLACES if Path(place, name).exists()), None) if name else ""


def _environment(path: str, settings: dict[str, str]) -> dict[str, str]:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC", "TCMALLOC", "MIMALLOC"))}
    return {**known, **({"LD_PRELOAD": path} if path else {}), **settings}


def churned(path: str, settings: dict[str, str], waves: int, size: int) -> Reading:
    """What a churn holds in the end. `size` in MiB, of the smallest wave of each thread."""
    command = [sys.executable, "-I", str(CHURN), str(waves), str(size)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=_environment(path, settings), **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while len(threads_of(process.pid)) > 1:  # an allocator cleans up when a thread ends
            time.sleep(0.01)
        return read(process.pid)


def calls_of(path: str, settings: dict[str, str], waves: int, size: int) -> Sampled:
    """How a churn releases memory. Raises SampleUnavailable."""
    command = [sys.executable, "-I", str(CHURN), str(waves), str(size)]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, env=_environment(path, settings), **quiet) as process:
        calls = sample([process.pid], _LONGEST, follow=True)

    return judge(calls, {tid for tid, *_ in calls.released} | {tid for tid, _ in calls.others}, np.empty(0, RANGE))


@click.group()
def main() -> None:
    """The figures of docs/operators.md."""


@main.command()
@click.option("--repeat", default=9, help="Looks at each process; the median counts. [9]")
def speed(repeat: int) -> None:
    """How long a look takes, besides start-up."""
    rows = []
    for title, (size, step) in SPARSE.items():
        with sparse_process(size, step) as pid:
            looks = [(read(pid), time.process_time()) for _ in range(repeat + 1)]
        wall = sorted(1000 * look.seconds for look, _ in looks[1:])
        processor = sorted(1000 * (after - before) for (_, before), (_, after) in pairwise(looks))
        last = looks[-1][0]
        times = [f"{value:.1f}" for part in (wall, processor) for value in (statistics.median(part), part[0])]
        rows.append([title, f"{last.held // 4:,}", f"{last.waste:,}", *times])
    report.table(["process", "tables", "waste, kB", "ms", "best", "processor ms", "best"], rows)


@main.command()
@click.option("--waves", default=12, help="Waves of each of the two threads. [12]")
@click.option("--size", default=64, help="MiB of the smallest wave; others are twice and three times that. [64]")
def allocators(waves: int, size: int) -> None:
    """What a churn leaves under each allocator and setting, and how its releases are cut."""
    rows = []
    with Progress("allocators") as progress:
        for done, (name, file, settings) in enumerate(SETTINGS):
            progress.update(done / len(SETTINGS), name)
            path = library(file)
            said = _label(settings)
            if path is None:
                note(f"{name}: {file} is not installed")
                continue
            reading = churned(path, settings, waves, size)
            rows.append([name, said or "as it comes", *_figures(reading), *_cut(path, settings, waves, size)])
    header = ["allocator", "setting", "RSS, kB", "held", "needed", "waste", "waste", "DONTNEED", "of 2 MiB"]
    report.table(header, rows, left=(0, 1))


def _label(settings: dict[str, str]) -> str:
    """Settings without what goes without saying."""
    text = ", ".join(f"{key}={value}" for key, value in settings.items() if key != "MIMALLOC_PURGE_DELAY")
    text = text.replace(_DECAY, "decay 0")
    for prefix in ("MALLOC_CONF=", "TCMALLOC_", "MIMALLOC_"):
        text = text.removeprefix(prefix)
    return text


def _figures(reading: Reading) -> list[str]:
    part = f"{100 * reading.waste / reading.held:.0f} %"
    return [f"{kb:,}" for kb in (reading.status.rss, reading.held, reading.needed_low, reading.waste)] + [part]


def _cut(path: str, settings: dict[str, str], waves: int, size: int) -> list[str]:
    """Releases in all, and the share of those that cover a whole 2 MiB."""
    try:
        seen = calls_of(path, settings, waves, size)
    except SampleUnavailable as error:
        note(str(error))
        return ["", ""]
    return [f"{seen.calls:,}", f"{100 * seen.covering_share:.1f} %" if seen.calls else "-"]


if __name__ == "__main__":
    main()
