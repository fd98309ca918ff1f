"""What this host's kernel does with a program: the rows of `m.record` that a machine gives, measured."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from emulator.mm_types import PAGE_SIZE, RECORD
from emulator.uapi import Op
from workers.host.fault_loop import HostUnavailable, in_child
from workers.programs.program import MARK, Insn, assemble, fork

# a column of a row measured -> the field of m.record, and what its unit is there
_FIELDS = {
    "VMPTE": ("pgtables_bytes", 1024),
    "RSS": ("rss_anon", 1024 / PAGE_SIZE),
    "MINFLT": ("minflt", 1),
    "ERROR": ("error", 1),
    "CHILD": ("child", 1),
    "CHILD_VMPTE": ("child_pgtables_bytes", 1024),
    "CHILD_RSS": ("child_rss_anon", 1024 / PAGE_SIZE),
    "CHILD_MINFLT": ("child_minflt", 1),
}


def record_program(program: Sequence[Insn], rows: int) -> np.ndarray:
    """Follow a program on this host's kernel, in a process of its own: the rows of m.record.

    Raises HostUnavailable, MachineFailed if the process dies.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise HostUnavailable(f"this is {platform.system()} on {platform.machine()}, not Linux on x86-64")
    try:
        from workers.host import host_trace
    except ImportError as error:
        raise HostUnavailable(f"the loop cannot be compiled: {error}") from error
    recorded: np.ndarray = in_child(lambda: _record(host_trace, program, rows))
    return recorded


def _record(loop: ModuleType, program: Sequence[Insn], rows: int) -> np.ndarray:
    """The rows of a program; this process does nothing else. It stays on one processor: what has been stored to waits
    there on its way to the lists that MADV_FREE and MADV_PAGEOUT look at.
    """
    warm_up = [insn._replace(record=rows) for insn in (MARK, fork(), MARK, fork())]
    insns = assemble([*warm_up, *program])
    numbers = np.ascontiguousarray(np.stack([insns[name] for name in Insn._fields], 1), np.int64)
    words, text = _shared((loop.WORDS,), np.int64), _shared((loop.TEXT,), np.uint8)
    figures = _shared((rows + 1, loop.COLUMNS), np.int64)
    text[loop.TEXT - loop.NAME :][: len(loop.STATUS)] = loop.STATUS
    source = os.memfd_create("source")
    os.write(source, b"\1")
    words[: loop.HELD] = [source, os.memfd_create("sink"), *os.pipe(), *os.pipe()]
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    _avoid_own_memory(program)
    loop.trace(words, text, numbers, figures, len(warm_up))
    records = np.zeros(rows, RECORD.dtype)
    for column, (field, unit) in _FIELDS.items():
        records[field] = figures[:rows, getattr(loop, column)] * unit
    return records


def _shared(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory that fork does not write-protect, all of it mapped."""
    array = np.frombuffer(mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    array[...] = 0
    return array


def _avoid_own_memory(program: Sequence[Insn]) -> None:
    """Raises HostUnavailable if a program would change memory that this process needs."""
    moved = [insn for insn in program if insn.op == Op.MREMAP_FIXED]
    start = np.array([*(insn.addr for insn in program), *(insn.arg for insn in moved)])
    resized = (max(insn.length, insn.arg) if insn.op == Op.MREMAP else insn.length for insn in program)
    end = start + np.array([*resized, *(insn.length for insn in moved)])
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (min(int(word, 16), 1 << 48) for word in line.split()[0].split("-"))
        if ((start < high) & (low < end)).any():
            raise HostUnavailable(f"the trace uses addresses of the recording process: {line}")
