"""Which pages of a process have an entry in its page tables: PAGEMAP_SCAN, or /proc/PID/pagemap before Linux 6.7.

Both take the mmap_lock of the process for reading, piece by piece, as a reader of its smaps does. Nothing is written
and nothing is stopped. Both need the right to ptrace-read the process: one's own processes, or CAP_SYS_PTRACE.

Source: Linux 6.18, fs/proc/task_mmu.c (pagemap_scan_*, pagemap_read), Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from emulator import lazy_numpy as np
from workers.host.process_files import NotReadable, Vma, reading

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT

# categories of PAGEMAP_SCAN
WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO, HUGE, GUARD = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 8
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_ARG = struct.Struct("=12Q")  # struct pm_scan_arg
_BASE = FILE | PRESENT | SWAPPED | PFNZERO | HUGE
_WANTED = (_BASE | WRITTEN | GUARD, _BASE | WRITTEN)  # guard markers have a bit of their own since Linux 6.15
_REGIONS = 1 << 13  # of one call: 192 kB
_PIECE = 1 << 40  # bytes of addresses: a piece of a wide process
_FEW, _MOST_THREADS = 8, 8  # pieces that one thread looks at; threads for more

RANGE = [("start", "i8"), ("end", "i8"), ("categories", "i8")]  # struct page_region

# bits of a word of /proc/PID/pagemap
_PM_PRESENT, _PM_SWAP, _PM_FILE, _PM_GUARD, _PM_WP = 63, 62, 61, 58, 57
_READ_PAGES = 1 << 20  # words of one read: 8 MB
READ_LIMIT = 64 << 30  # bytes of one mapping that are read word by word: a second of it


class NoPagemapScan(Exception):
    """This kernel has no PAGEMAP_SCAN: it is older than Linux 6.7."""


def pagemap_scan(pid: int, vmas: Sequence[Vma]) -> np.ndarray:
    """The ranges with an entry that is not none, by address, RANGE each.

    Raises ProcessGone, NotReadable, NoPagemapScan.
    """
    with reading(pid, "pagemap"):
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    found = pieces(vmas)
    try:
        if len(found) < _FEW:
            parts = [_scan(fd, start, end) for start, end in found]
        else:  # the kernel does not need the interpreter's lock
            with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
                parts = list(pool.map(lambda piece: _scan(fd, *piece), found))
        return np.concatenate(parts) if parts else np.empty(0, RANGE)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            raise NoPagemapScan from None
        raise NotReadable("pagemap", error) from None
    finally:
        os.close(fd)


def pieces(vmas: Sequence[Vma]) -> list[tuple[int, int]]:
    """What is mapped, in pieces for each of which the mmap_lock is held for a moment; small mappings are one piece."""
    found: list[tuple[int, int]] = []
    for vma in vmas:
        for start in range(vma.start, vma.end, _PIECE):
            end = min(start + _PIECE, vma.end)
            if found and end - found[-1][0] <= _PIECE:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found


def _scan(fd: int, start: int, end: int) -> np.ndarray:
    """All ranges between two addresses, call by call."""
    regions = np.empty(_REGIONS, RANGE)
    parts = []
    wanted = _WANTED[0]
    while start < end:
        words = (_ARG.size, 0, start, end, 0, regions.ctypes.data, _REGIONS, 0, 0, 0, PRESENT | SWAPPED, wanted)
        arg = bytearray(_ARG.pack(*words))
        try:
            found = fcntl.ioctl(fd, _PAGEMAP_SCAN, arg, True)
        except OSError as error:
            if error.errno != errno.EINVAL or wanted == _WANTED[-1]:
                raise
            wanted = _WANTED[-1]
            continue
        parts.append(regions[:found].copy())
        if found < _REGIONS:
            break
        start = int(regions[-1]["end"])  # `walk_end` lies before it where all was walked: the kernel's buffer was full
    return np.concatenate(parts) if parts else np.empty(0, RANGE)


def read_pagemap(pid: int, vmas: Iterable[Vma], limit: int = READ_LIMIT) -> tuple[np.ndarray, list[Vma]]:
    """The same from the words of /proc/PID/pagemap, and the mappings that are too long for that: `limit` bytes.

    A word says neither whether a page is huge nor, without a right, whether it is the zero page. Raises ProcessGone,
    NotReadable.
    """
    with reading(pid, "pagemap"):
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    parts, skipped = [np.empty(0, RANGE)], []
    try:
        for vma in vmas:
            if vma.end - vma.start > limit:
                skipped.append(vma)
                continue
            for page in range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT, _READ_PAGES):
                count = min(_READ_PAGES, (vma.end >> PAGE_SHIFT) - page)
                words = np.frombuffer(os.pread(fd, 8 * count, 8 * page), np.int64)
                parts.append(_ranges(words, page))
    except OSError as error:
        raise NotReadable("pagemap", error) from None
    finally:
        os.close(fd)
    return np.concatenate(parts), skipped


def _ranges(words: np.ndarray, first_page: int) -> np.ndarray:
    """Neighbouring words of pagemap of the same kind as ranges."""
    bits = {_PM_PRESENT: PRESENT, _PM_SWAP: SWAPPED, _PM_FILE: FILE, _PM_GUARD: SWAPPED | GUARD}
    categories = np.zeros(len(words), np.int64)
    for bit, category in bits.items():
        categories |= (words >> bit & 1) * category
    markers = (words >> _PM_WP & 1 == 1) & (categories & (PRESENT | SWAPPED) == 0)
    categories[markers] = SWAPPED  # a uffd-wp marker is an entry, too
    edges = np.flatnonzero(np.diff(categories, prepend=-1, append=-1))
    found = np.empty(len(edges) - 1 if len(edges) else 0, RANGE)
    found["start"], found["end"] = first_page + edges[:-1] << PAGE_SHIFT, first_page + edges[1:] << PAGE_SHIFT
    found["categories"] = categories[edges[:-1]]
    return found[found["categories"] & (PRESENT | SWAPPED) != 0]
