"""What real reports are about, in small, as a process of its own each: the second table of docs/operators.md.

python -m benchmarks.situations
"""

from __future__ import annotations

import mmap
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scenarios.advice.advice import advise
from scenarios.advice.reading import Reading, read
from scenarios.session import report
from workers.host.kernel_facts import kernel_facts
from workers.host.process_files import system_tables

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SLOT = 2 * MIB
MADV_PAGEOUT = 21


def _memory(size: int, huge: bool = False) -> mmap.mmap:
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return memory


def _fill(memory: mmap.mmap, step: int = 4096) -> mmap.mmap:
    for at in range(0, len(memory), step):
        memory[at] = 1
    return memory


def _release(memory: mmap.mmap, piece: int) -> mmap.mmap:
    for at in range(0, len(memory), piece):
        memory.madvise(mmap.MADV_DONTNEED, at, piece)
    return memory


def _unmapped() -> None:
    _fill(_memory(GIB)).close()


def _file(dropped: bool) -> mmap.mmap:
    with tempfile.TemporaryFile(dir=".") as file:
        os.truncate(file.fileno(), 4 * GIB)
        memory = mmap.mmap(file.fileno(), 4 * GIB, mmap.MAP_SHARED, mmap.PROT_READ)
    memory.madvise(mmap.MADV_RANDOM)
    for at in range(0, 4 * GIB, SLOT):
        memory[at]
    if dropped:
        memory.madvise(MADV_PAGEOUT)
    return memory


def _reader() -> mmap.mmap:
    memory = _memory(GIB)
    for at in range(0, GIB, 4096):
        memory[at]
    return memory


SITUATIONS: dict[str, Callable[[], mmap.mmap | None]] = {
    "1 GiB written": lambda: _fill(_memory(GIB)),
    "released in calls of 64 KiB": lambda: _release(_fill(_memory(GIB)), 64 * KIB),
    "released in calls of 2 MiB": lambda: _release(_fill(_memory(GIB)), SLOT),
    "released in one call": lambda: _release(_fill(_memory(GIB)), GIB),
    "unmapped": _unmapped,
    "1 GiB read, never written": _reader,
    "1 GiB of huge pages": lambda: _fill(_memory(GIB, huge=True)),
    "4 GiB file, a page per 2 MiB read": lambda: _file(dropped=False),
    "the same, its pages dropped since": lambda: _file(dropped=True),
}


@contextmanager
def process(situation: Callable[[], mmap.mmap | None]) -> Iterator[int]:
    """The PID of a child that is in a situation, and waits. Raises OSError if it cannot be brought into it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kept = situation()  # noqa: F841 it stays mapped
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        if not os.read(reader, 1):
            raise OSError("there is not enough memory for it here")
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)


def row(title: str, base: Reading, reading: Reading) -> list[str]:
    """What a situation adds to a process that is in none."""
    advice = advise(reading, kernel_facts(), system_tables().get("MemTotal", 1 << 62))
    figures = (
        reading.held - base.held,
        reading.needed_low - base.needed_low,
        reading.waste - base.waste,
    )
    return [title, *(f"{kb:,}" for kb in figures), advice.remedies[0].kind if advice.remedies else "-"]


def main() -> None:
    """Each situation, and what advise says of it."""
    for _ in range(2):  # the first look loads what it needs, and all later children are born with it
        with process(lambda: None) as pid:
            base = read(pid)
            row("", base, base)
    rows = []
    for title, situation in SITUATIONS.items():
        with process(situation) as pid:
            rows.append(row(title, base, read(pid)))
    facts = ", ".join(f"{name} {value}" for name, value in kernel_facts().items())
    report.write(facts)
    report.table(["situation", "held, kB", "needed", "waste", "cause"], rows, left=(0, 4))


if __name__ == "__main__":
    main()
