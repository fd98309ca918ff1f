"""How fast import reads, and how much memory it takes: logs of strace and perf, made here, of several kinds.

python -m benchmarks.imports                     20 MB of each kind
python -m benchmarks.imports --megabytes 1000    memory does not grow with the log
"""

from __future__ import annotations

import os
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import multiprocess

from scenarios.imports import lines
from scenarios.imports.command import import_files
from scenarios.session import report
from scenarios.session.progress import Progress
from workers.processes import processors

_BASE, _SIZE, _PAGE = 0x7F0000000000, 1 << 30, 4096
_SHARED = "CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM"
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.M)  # of this program; ru_maxrss has what was before exec, too
_ANONYMOUS = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS"


def _released(rng: random.Random, threads: int, halves: float) -> Iterator[tuple[int, str, str]]:
    """What an allocator does all day: the task, the call, and its second half or nothing."""
    while True:
        task = rng.randrange(threads)
        start = _BASE + task * _SIZE + _PAGE * rng.randrange(_SIZE // _PAGE - 64)
        length = _PAGE * rng.randrange(1, 64)
        name, word = ("madvise", "MADV_DONTNEED") if rng.random() < 0.8 else ("mprotect", "PROT_READ|PROT_WRITE")
        split = rng.random() < halves
        end = " <unfinished ...>" if split else ") = 0"
        yield task, f"{name}({start:#x}, {length}, {word}{end}", f"<... {name} resumed>) = 0" if split else ""


def _mapped(rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """Blocks that are mapped and unmapped, and a heap that grows."""
    heap = 0x555500000000
    while True:
        length, at = _PAGE * rng.randrange(1, 64), _BASE - _SIZE + (rng.randrange(1 << 12) << 18)
        yield 0, f"mmap(NULL, {length}, {_ANONYMOUS}, -1, 0) = {at:#x}", ""
        heap += rng.randrange(2) << 17
        yield 0, f"brk({heap:#x})             = {heap:#x}", ""
        yield 0, f"munmap({at:#x}, {length}) = 0", ""


def _whole(rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """A log of all calls: one in twenty has to do with memory."""
    for task, call, _ in _released(rng, 1, 0):
        yield task, call, ""
        for _ in range(19):
            yield (
                task,
                'read(3, "\\177ELF\\2\\1\\1\\3\\0\\0\\0\\0\\0\\0\\0\\0\\3\\0>\\0\\1\\0\\0\\0"..., 832) = 832',
                "",
            )


def _traced(rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """Pages that are touched and released, as perf trace writes it."""
    yield 0, f"mmap(len: {_SIZE}, prot: READ|WRITE, flags: PRIVATE|ANONYMOUS) = {_BASE:#x}", ""
    while True:
        at = _BASE + _PAGE * rng.randrange(_SIZE // _PAGE - 16)
        fault = rng.random() < 0.7
        call = f"madvise(start: {at:#x}, len_in: 65536, behavior: MADV_DONTNEED) = 0"
        yield 0, f"minfault [f+0xce] => //anon@{at + 8:#x} (d.)" if fault else call, ""


def _scripted(rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """The same, as perf script writes it: a call is two lines."""
    call, end = "syscalls:sys_enter_mmap: len: 0x40000000, prot: 0x3, flags: 0x22, fd: 0xffffffff", f"{_BASE:#x}"
    yield 0, call, f"syscalls:sys_exit_mmap: {end}"
    while True:
        at = _BASE + _PAGE * rng.randrange(_SIZE // _PAGE - 16)
        if rng.random() < 0.7:
            yield 0, f"exceptions:page_fault_user: address={at + 8:#x} ip=0x401000 error_code=0x6", ""
        else:
            call = f"syscalls:sys_enter_madvise: start: {at:#x}, len_in: 0x10000, behavior: 0x4"
            yield 0, call, "syscalls:sys_exit_madvise: 0x0"


KINDS: dict[str, Callable[[random.Random], Iterator[tuple[int, str, str]]]] = {
    "madvise, one thread": lambda rng: _released(rng, 1, 0),
    "madvise, four threads": lambda rng: _released(rng, 4, 0),
    "the same, a third in halves": lambda rng: _released(rng, 4, 1 / 3),
    "mmap, brk, munmap": _mapped,
    "every call": _whole,
    "perf trace, with faults": _traced,
    "perf script, with faults": _scripted,
}


def _line(kind: str, task: int, now: float, text: str) -> str:
    """A line as the tool writes it."""
    if kind.startswith("perf trace"):
        return f"{1000 * (now - 1_700_000_000):10.3f} ( 0.004 ms): x/{task} {text}\n"
    if kind.startswith("perf script"):
        return f" x {task}/{task} [000] {now:.6f}: {text}\n"
    return f"{task} {now:.6f} {text}\n"


def write_log(path: Path, kind: str, size: int) -> int:
    """Write a log of so many bytes, and a line or two; how many lines it has."""
    rng, now, count = random.Random(1), 1_700_000_000.0, 0
    with path.open("w") as log:
        for task in range(4) if "perf" not in kind else ():
            log.write(f"100 {now:.6f} mmap(NULL, {_SIZE}, {_ANONYMOUS}, -1, 0) = {_BASE + task * _SIZE:#x}\n")
        if "four" in kind or "halves" in kind:
            for task in (1, 2, 3):
                log.write(f"100 {now:.6f} clone(child_stack=0x7f, flags={_SHARED}) = {100 + task}\n")
        for task, call, rest in KINDS[kind](rng):
            now += rng.random() * 1e-4
            count += 1 + bool(rest)
            log.writelines(_line(kind, 100 + task, now, text) for text in (call, rest) if text)
            if count % 64 == 0 and log.tell() >= size:
                return count
    raise AssertionError("a log never ends by itself")


def measure(path: Path, block: int = lines.BLOCK) -> tuple[float, int, float]:
    """Import a log in a new process, and say three figures.

    They are seconds of the busier of it and its reader, kB of memory at most of both, and per cent understood.
    """

    def run(found: multiprocess.Queue) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        lines.BLOCK = block
        began = time.process_time()
        imported = import_files([str(path)], str(path.with_name(f"{path.name}.trace")))
        reader = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = max(time.process_time() - began, reader.ru_utime + reader.ru_stime)
        peak = int(_PEAK.findall(Path("/proc/self/status").read_text())[0]) + reader.ru_maxrss
        found.put((seconds, peak, imported.account.percent))

    context = multiprocess.get_context("spawn")  # a child that is forked begins with the memory of its parent
    found = context.Queue()
    process = context.Process(target=run, args=(found,))  # no daemon: it has a child
    process.start()
    result: tuple[float, int, float] = found.get()
    process.join()
    return result


@click.command()
@click.option("--megabytes", default=20, type=click.IntRange(1, 10_000), help="Of each log. [20]")
def main(megabytes: int) -> None:
    """Write, import, measure."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="ptelab-") as directory, Progress("imports") as progress:
        for i, kind in enumerate(KINDS):
            progress.update(i / len(KINDS), kind)
            log = Path(directory) / "log"
            count = write_log(log, kind, megabytes << 20)
            seconds, memory, percent = measure(log)
            rate = log.stat().st_size / 1e6 / seconds
            rows.append([kind, f"{count:,}", f"{percent:.1f} %", f"{seconds:.1f}", f"{rate:.1f}", f"{memory // 1024}"])
    of = f"seconds of the busier process, of {processors()} processors"
    report.write(f"logs of {megabytes} MB; {of}; load {os.getloadavg()[0]:.1f}")
    report.table(["kind", "lines", "understood", "s", "MB/s", "MiB of memory"], rows)


if __name__ == "__main__":
    main()
