"""What this host's kernel does with a program: the rows of `m.record` that a machine gives, measured."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator import lazy_numpy as np
from emulator import uapi
from emulator.mm_types import PAGE_SIZE, RECORD
from emulator.pgtable_types import PGDIR_SHIFT
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
    "VALUE": ("value", 1),
}

USER_ENTRIES = 256  # of a PGD


def record_program(program: Sequence[Insn], rows: int, files: Mapping[int, int] | None = None) -> np.ndarray:
    """Follow a program on this host's kernel, in a process of its own: the rows of m.record. `files` are the pages of
    those that are there from the start, by number; the others are made where they are mapped.

    Raises HostUnavailable, MachineFailed if the process dies.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise HostUnavailable(f"this is {platform.system()} on {platform.machine()}, not Linux on x86-64")
    try:
        from workers.host import host_calls, host_trace
    except ImportError as error:
        raise HostUnavailable(f"the loop cannot be compiled: {error}") from error
    recorded: np.ndarray = in_child(lambda: _record(host_calls, host_trace.trace, program, rows, files or {}))
    return recorded


def _record(
    loop: ModuleType, follow: Callable[..., int], program: Sequence[Insn], rows: int, files: Mapping[int, int]
) -> np.ndarray:
    """The rows of a program; this process does nothing else. It stays on one processor: what has been stored to waits
    there on its way to the lists that MADV_FREE and MADV_PAGEOUT look at.
    """
    program = _avoid_own_memory(program)
    warm_up = [insn._replace(record=rows) for insn in (MARK, fork(), MARK, fork())]
    insns = assemble([*warm_up, *program])
    numbers = np.ascontiguousarray(np.stack([insns[name] for name in Insn._fields], 1), np.int64)
    words, text = _shared((loop.WORDS,), np.int64), _shared((loop.TEXT,), np.uint8)
    figures = _shared((rows + 1, loop.COLUMNS), np.int64)
    for i, name in enumerate((loop.STATUS, loop.MAPS, loop.PAGEMAP)):
        text[loop.NAMES + 64 * i :][: len(name)] = name
    source = os.memfd_create("source")
    os.write(source, bytes(range(256)))
    words[: loop.HELD] = [source, os.memfd_create("sink"), *os.pipe(), *os.pipe()]
    _open_files(loop, words, files)
    _open_pipes(loop, words, program)
    words[loop.LOCKS_ALL] = _locks_all(program)
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    follow(words, text, numbers, figures, len(warm_up))
    records = np.zeros(rows, RECORD.dtype)
    for column, (field, unit) in _FIELDS.items():
        records[field] = figures[:rows, getattr(loop, column)] * unit
    return records


def _open_files(loop: ModuleType, words: np.ndarray, files: Mapping[int, int]) -> None:
    """The files that the program maps by number."""
    for number, pages in files.items():
        words[loop.FILES + number] = os.memfd_create("file")
        os.ftruncate(int(words[loop.FILES + number]), pages * PAGE_SIZE)


def _open_pipes(loop: ModuleType, words: np.ndarray, program: Sequence[Insn]) -> None:
    """Two pipes for each child of a name: it is told by one, and answers by the other. One pipe leads back to the
    process that asks, which can rehearse that.
    """
    for name in {insn.addr for insn in program if insn.op == Op.FORK_HOLD and insn.addr}:
        told, tell = os.pipe()
        done, answer = os.pipe()
        at = loop.CHILDREN + name * loop.CHILD_WORDS
        words[at + loop.TOLD_FD : at + loop.DO_FD + 1] = [told, tell, done, answer]
    back, tell = os.pipe()
    at = loop.CHILDREN + loop.NAMELESS * loop.CHILD_WORDS
    words[at + loop.PID], words[at + loop.TELL_FD], words[at + loop.DONE_FD] = 1, tell, back


def _locks_all(program: Sequence[Insn]) -> bool:
    """True if the program locks all memory there is. Raises HostUnavailable if that is after a fork. Then this
    process's own memory is shared with a child, and locking it is no affair of the trace's.
    """
    ops = [insn.op for insn in program]
    locks = [i for i, insn in enumerate(program) if insn.op == Op.MLOCKALL and insn.arg & uapi.MCL_CURRENT]
    if locks and {Op.FORK, Op.FORK_HOLD} & set(ops[: locks[-1]]):
        raise HostUnavailable("mlockall of all memory there is cannot be recorded after a fork")
    return bool(locks)


def _shared(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory that fork does not write-protect, all of it mapped."""
    array = np.frombuffer(mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    array[...] = 0
    return array


def _ranges(insn: Insn) -> list[tuple[int, int]]:
    """The addresses that an instruction may change, each range with its length."""
    if insn.op in (Op.TRUNCATE, Op.PUNCH_HOLE, Op.FORK, Op.FORK_HOLD, Op.IN_CHILD, Op.EXIT_CHILD, Op.MLOCKALL):
        return []
    length = insn.length
    if not 0 <= length <= 1 << 47:  # the call goes as far as there is something, or fails, as where 64 bits overflow
        over_gaps = insn.op == Op.MADVISE and insn.arg not in (uapi.MADV_POPULATE_READ, uapi.MADV_POPULATE_WRITE)
        goes = (over_gaps or insn.op == Op.MLOCK) and (length > 0 or insn.addr + length < 0)
        length = (1 << 47) - insn.addr if goes else 0
    if insn.op == Op.MREMAP:
        return [(insn.addr, max(length, insn.arg))]
    if insn.op in (Op.MREMAP_FIXED, Op.UFFD_MOVE):
        return [(insn.addr, length), (insn.arg, length)]
    if insn.op == Op.MREMAP_CALL:
        new = min(max(insn.step, 0), 1 << 47)
        return [(insn.addr, max(length, new)), (insn.more, new)]
    return [(insn.addr, length)]


def _avoid_own_memory(program: Sequence[Insn]) -> Sequence[Insn]:
    """The program where it changes no memory that this process needs: as it is, or moved by whole PGD entries, which
    changes neither where its tables lie nor how many there are. Raises HostUnavailable if no move is free.
    """
    ranges = [used for insn in program for used in _ranges(insn)]
    start = np.array([addr for addr, _ in ranges], np.int64)
    end = start + np.array([length for _, length in ranges], np.int64)
    lines = Path("/proc/self/maps").read_text().splitlines()
    own = [[min(int(word, 16), 1 << 48) for word in line.split()[0].split("-")] for line in lines]
    entries = {entry for low, high in own for entry in range(low >> PGDIR_SHIFT, (high - 1 >> PGDIR_SHIFT) + 1)}
    used = {(low >> PGDIR_SHIFT, max(low, high - 1) >> PGDIR_SHIFT) for low, high in zip(start, end, strict=True)}
    for by in range(USER_ENTRIES):
        if all(_fits((first + by) % USER_ENTRIES, last - first, entries, by > 0) for first, last in used):
            return [_moved(insn, by << PGDIR_SHIFT) for insn in program] if by else program
    for line, (low, high) in zip(lines, own, strict=True):
        if ((start < high) & (low < end)).any():
            raise HostUnavailable(f"the trace uses addresses of the recording process: {line}")
    return program


def _fits(first: int, more: int, taken: set[int], moved: bool) -> bool:
    """True if PGD entries are free; to the first of all, where little may be mapped, nothing is moved."""
    return first >= moved and first + more < USER_ENTRIES and taken.isdisjoint(range(first, first + more + 1))


def _moved(insn: Insn, by: int) -> Insn:
    """The instruction at other addresses."""
    if not _ranges(insn) or insn.op in (Op.MARK, Op.REAP):
        return insn

    def moved(address: int) -> int:
        return (address + by) % (USER_ENTRIES << PGDIR_SHIFT)

    insn = insn._replace(addr=moved(insn.addr))
    if insn.op in (Op.MREMAP_FIXED, Op.UFFD_MOVE):
        return insn._replace(arg=moved(insn.arg))
    return insn._replace(more=moved(insn.more)) if insn.op == Op.MREMAP_CALL else insn
