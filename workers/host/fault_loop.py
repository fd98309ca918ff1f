"""This host's real kernel under the same loops: the measure of what an emulated figure means.

The loops are compiled whatever engine emulates, and loaded once, in the parent. Each measurement runs in a child
process of its own, so that its address space, threads and page tables disturb no other. The variant `processes` is
processes that this child forks, the others are threads of it. All of them die with the parent. Nothing is pinned, as
the emulated CPUs are not; the mapping is never made of huge pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import Geometry
from emulator.segment import Segment, SegmentTooLarge
from workers.processes import child_main, fork, spin_for, wait_for
from workers.telling.postmortem import MachineFailed, how_it_ended
from workers.vigil import Vigil
from workers.watchdog import process_seconds

VARIANTS = ("barrier", "arrive", "self", "processes")
_ALIGN = 2 << 20  # what one PTE table covers
_MAP_NORESERVE = 0x4000  # more than there is memory may be mapped; Python names it from 3.13 on
_POLL = 0.2  # seconds between two looks at the progress
_STATUS = {"virt_kb": "VmSize", "res_kb": "VmRSS", "vmpte_kb": "VmPTE"}


class HostUnavailable(Exception):
    """This host's kernel cannot be measured; the text says why."""


@dataclass(frozen=True)
class HostResult:
    """multi-fault on the real kernel, over one window of `seconds`."""

    pf_per_min: float
    ns_per_fault: float  # processor time of all threads, madvise and barriers included
    faults: int  # pages touched, as the loops count them
    minor_faults_counted: int  # the same as the kernel counts it
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class _Sample:
    """Counters at one moment, summed over all threads."""

    wall: float
    faults: int
    minor_faults: int
    cpu_seconds: float


def measure_multi_fault(cpus: int, variant: str, seconds: float, warmup: float = 0.1) -> HostResult:
    """Run multi-fault on the real kernel with `cpus` threads or processes.

    Raises HostUnavailable, MachineFailed if a process dies, ValueError.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant '{variant}'; known: {', '.join(VARIANTS)}")
    if cpus < 1:
        raise ValueError(f"cpus must be at least 1, not {cpus}")

    loops, segment, m = prepare(cpus)

    def body() -> HostResult:
        before, after = _multi_fault(loops, segment, m, variant, seconds, warmup)
        faults, wall = after.faults - before.faults, after.wall - before.wall
        cpu_seconds = after.cpu_seconds - before.cpu_seconds
        return HostResult(
            pf_per_min=60 * faults / wall,
            ns_per_fault=1e9 * cpu_seconds / max(1, faults),
            faults=faults,
            minor_faults_counted=after.minor_faults - before.minor_faults,
            seconds=wall,
            cpu_seconds=cpu_seconds,
        )

    result: HostResult = in_child(body)
    return result


def measure_madvise_loop(
    total_bytes: int, piece_bytes: int = _ALIGN, progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Touch and release `total_bytes` piece by piece on the real kernel; `progress` is told fractions meanwhile.

    Returns virt_kb, res_kb and vmpte_kb afterwards, the same three under "before", faults, minor_faults, seconds,
    cpu_seconds.
    Raises HostUnavailable, MachineFailed if the process dies, ValueError.
    """
    if min(total_bytes, piece_bytes) <= 0 or total_bytes % piece_bytes or piece_bytes % mmap.PAGESIZE:
        raise ValueError(f"{total_bytes} bytes are not whole pieces of {piece_bytes}, or those are not whole pages")

    loops, segment, m = prepare(1)

    def body() -> dict[str, Any]:
        address, memory = _map(total_bytes)
        before, first = _footprint(), _sample(segment, [os.getpid()])
        loops.madvise_loop(m, address, total_bytes, piece_bytes)
        last, after = _sample(segment, [os.getpid()]), _footprint()
        del memory
        return {
            **after,
            "before": before,
            "faults": last.faults,
            "minor_faults": last.minor_faults - first.minor_faults,
            "seconds": last.wall - first.wall,
            "cpu_seconds": last.cpu_seconds - first.cpu_seconds,
        }

    def look() -> None:
        if progress is not None:
            progress(min(1.0, int(segment.views["cpu"]["faults"][0]) * mmap.PAGESIZE / total_bytes))

    result: dict[str, Any] = in_child(body, look)
    return result


# --- the parent's side ----------------------------------------------------------------------------------------------


def prepare(cpus: int) -> tuple[ModuleType, Segment, Any]:
    """The compiled loops, shared words for them, and the `m` that stands for those. Raises HostUnavailable."""
    if sys.platform != "linux":
        raise HostUnavailable(f"this is {platform.system()}, not Linux")
    try:
        segment = Segment(Geometry(cpus=cpus, frames=1, tables=1))
    except (SegmentTooLarge, OSError) as error:
        raise HostUnavailable(str(error)) from error
    try:
        from emulator.engines import native
        from workers.host import host_loop
    except ImportError as error:
        raise HostUnavailable(f"the loops cannot be compiled: {error}") from error
    segment.views["barrier"]["parties"] = cpus
    segment.views["config"]["spin"] = spin_for(cpus)
    return host_loop, segment, native.attach(segment)


def in_child(body: Callable[[], Any], look: Callable[[], None] | None = None) -> Any:
    """What `body` returns or raises in a forked child, which never outlives this call; `look` is called meanwhile."""
    receiver, sender = fork().Pipe(duplex=False)

    def run(_m: Any, _cpu: int) -> None:
        receiver.close()
        try:
            answer = body()
        except (HostUnavailable, MachineFailed) as error:
            answer = error
        sender.send(answer)

    leader = fork().Process(target=child_main, args=(os.getpid(), run, None, 0), name="host")
    try:
        leader.start()
        sender.close()  # so that its death is an end of file
        vigil = Vigil({leader.pid: "the measurement of the real kernel"})
        while not receiver.poll(_POLL):
            vigil.look()
            if look is not None:
                look()
        answer = receiver.recv()
    except EOFError:
        leader.join()
        raise MachineFailed(f"the measurement of the real kernel {how_it_ended(leader.exitcode)}") from None
    except OSError as error:
        raise HostUnavailable(f"no process for it: {error.strerror}") from error
    finally:
        if leader.pid is not None:
            leader.kill()
            leader.join()
        sender.close()
        with contextlib.suppress(EOFError, OSError):
            while receiver.poll(1.0):  # the end of file comes when the last process it forked is gone
                receiver.recv()
        receiver.close()
    if isinstance(answer, Exception):
        raise answer
    if look is not None:
        look()
    return answer


# --- the child's side -----------------------------------------------------------------------------------------------


def _map(size: int) -> tuple[int, mmap.mmap]:
    """Map private memory of small pages whose start one PTE table covers from its first entry on: address, mapping."""
    try:
        memory = mmap.mmap(-1, size + _ALIGN, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.madvise(mmap.MADV_DONTNEED)
    except OSError as error:
        raise HostUnavailable(f"mmap and madvise of {size / 2**30:.2f} GiB: {error.strerror}") from None
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return -(-address // _ALIGN) * _ALIGN, memory


def _multi_fault(
    loops: ModuleType, segment: Segment, m: Any, variant: str, seconds: float, warmup: float
) -> tuple[_Sample, _Sample]:
    """Start all threads or processes, let them run, stop them: the counters at both ends of the window."""
    cpus = segment.geometry.cpus
    processes: list[Any] = []
    threads: list[threading.Thread] = []
    memory = None  # stays mapped until all have stopped
    if variant == "processes":
        for i in range(cpus):
            processes.append(fork().Process(target=child_main, args=(os.getpid(), _own_slot(loops), m, i), daemon=True))
    else:
        base, memory = _map(cpus * loops.SLOT)
        for i in range(cpus):
            own = base + i * loops.SLOT
            meet = 2 if variant == "arrive" else 1
            released = (own, 1, 0) if variant == "self" else (base, cpus if i == 0 else 0, meet)
            threads.append(threading.Thread(target=loops.multi_fault, args=(m, i, own, *released), daemon=True))
    for worker in (*processes, *threads):
        worker.start()
    pids = [process.pid for process in processes] or [os.getpid()]
    while segment.views["barrier"]["generation"][0] == 0:  # somebody has yet to arrive
        _watch(segment, processes, 0.001)
    _watch(segment, processes, warmup)
    before = _sample(segment, pids)
    _watch(segment, processes, seconds)
    after = _sample(segment, pids)
    segment.views["run"]["stop"] = 1
    for worker in (*processes, *threads):
        worker.join()
    _watch(segment, processes, 0)
    del memory
    return before, after


def _own_slot(loops: ModuleType) -> Callable[[Any, int], None]:
    """The body of a process that has its one slot in an address space of its own."""

    def run(m: Any, me: int) -> None:
        own, memory = _map(loops.SLOT)
        loops.multi_fault(m, me, own, own, 1, 0)
        del memory

    return run


def _watch(segment: Segment, processes: list[Any], seconds: float) -> None:
    """Sleep until a process ends or the time is over. Raises MachineFailed on a death, HostUnavailable."""
    wait_for([process.sentinel for process in processes if process.exitcode is None], seconds)
    for number, process in enumerate(processes):
        if process.exitcode not in (None, 0):
            how = how_it_ended(process.exitcode)
            raise MachineFailed(f"process {number} of the measurement of the real kernel {how}")
    if segment.views["cpu"]["errors"].any():
        raise HostUnavailable("madvise(MADV_DONTNEED) failed")


def _sample(segment: Segment, pids: list[int]) -> _Sample:
    return _Sample(
        time.perf_counter(),
        int(np.sum(segment.views["cpu"]["faults"])),
        sum(_minor_faults(pid) for pid in pids),
        sum(process_seconds(pid) for pid in pids),
    )


def _minor_faults(pid: int) -> int:
    """Minor faults of all threads of a process, as the kernel counts them."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])


def _footprint() -> dict[str, int]:
    """virt_kb, res_kb and vmpte_kb of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(status[field].split()[0]) for key, field in _STATUS.items()}
