"""The one POSIX shared-memory segment of a machine: create, map, give its views.

The name is unlinked as soon as the segment is mapped. Forked children inherit the mapping, so a run that is killed
leaves nothing in /dev/shm.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import time
from pathlib import Path

import posix_ipc

from emulator import lazy_numpy as np
from emulator.mm_types import PAGE_SIZE, VIEWS, Geometry

_LIBC = ctypes.CDLL(None)
_RESERVE = 8  # one part in so many of free memory is left to the audit and to the rest of the system


class SegmentTooLarge(Exception):
    """The segment does not fit into /dev/shm or memory. `needed` and `available` are bytes."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed, self.available = needed, available
        super().__init__(f"the machine needs {needed / 2**30:.2f} GiB of shared memory, {available / 2**30:.2f} fit")


def available_bytes() -> int:
    """What a segment may take: the least of /dev/shm's room, free memory and the control group's limit."""
    shm = os.statvfs("/dev/shm")
    limits = [shm.f_bavail * shm.f_frsize]
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    limits.append(int(meminfo["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            limits.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    memory = min(limits[1:])
    return max(0, min(limits[0], memory - memory // _RESERVE))


class Segment:
    """Memory of one machine, `words`. `views[name]` is a numpy structured array; `address` is where it is mapped.

    What is not `shared` is a process's own: a child that is forked has a copy.

    Raises SegmentTooLarge before anything is created.
    """

    def __init__(self, geometry: Geometry, shared: bool = True) -> None:
        offsets, size = geometry.offsets()
        needed, available = geometry.needs(), available_bytes()
        if needed > available:
            raise SegmentTooLarge(needed, available)
        self._map = self._shared(size) if shared else mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.geometry = geometry
        self.size = size
        whole = np.frombuffer(self._map, np.uint8)
        self.address = whole.ctypes.data
        self.words = np.frombuffer(self._map, np.int64)
        header = self.words[: len(VIEWS)]
        header[:] = [offsets[name] for name in VIEWS]
        counts = geometry.counts()
        self.views = {
            name: np.frombuffer(self._map, layout.dtype, counts[rows], offsets[name])
            for name, (layout, rows) in VIEWS.items()
        }

    def taken_bytes(self) -> int:
        """What the segment has taken of this host's memory: pages that nobody has touched are not there."""
        there = np.zeros(-(-self.size // PAGE_SIZE), np.uint8)
        _LIBC.mincore(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size), ctypes.c_void_p(there.ctypes.data))
        return int(np.count_nonzero(there & 1)) * PAGE_SIZE

    @staticmethod
    def _shared(size: int) -> mmap.mmap:
        name = f"/ptelab-{os.getpid()}-{time.monotonic_ns()}"
        try:  # whatever comes in between, no name stays
            memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size)
            try:
                return mmap.mmap(memory.fd, size)
            finally:
                memory.close_fd()
        finally:
            with contextlib.suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_shared_memory(name)
