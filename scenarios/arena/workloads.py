"""The workloads of the arena: what a program does to its page tables, at any size.

A workload of one CPU builds a tiny process, maps `chunks` pieces of 2 MiB that end where its libraries begin. It does
the same to each. At 25,600 chunks, the 50 GiB of the cover letter, the mapping needs 50 PMD tables more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from emulator import lazy_numpy as np
from emulator.mm_types import PAGE_SIZE, PCP_HIGH, PCP_ROOM, Geometry
from emulator.uapi import MADV_PAGEOUT
from workers.programs.image import BASE_KB, LIBRARIES, image
from workers.programs.program import (
    Insn,
    advise,
    assemble,
    barrier,
    dontneed,
    fork_as,
    free,
    mmap,
    mmap_file,
    munmap,
    read,
    swapout,
    touch,
    truncate,
)

CHUNKS = 25_600
CHUNK, GIB = 2 << 20, 1 << 30
PAGES = CHUNK // PAGE_SIZE
UPPER = BASE_KB // 4 + 64  # tables of the tiny process, and one PMD table per GiB of the rest
SHARED, SPACING = 0x7F00_0000_0000, 8 << 20  # where the workloads of many CPUs map, and a CPU's share of it
CHILD = 1  # what a workload calls its child


@dataclass(frozen=True)
class Job:
    """What one machine runs: a program per CPU, without its end, and the machine."""

    programs: Sequence[np.ndarray]
    geometry: Geometry


@dataclass(frozen=True)
class Workload:
    """One workload: the question it asks, and how to build it from chunks, CPUs and a seed.

    `many` if it runs on any number of CPUs; its size does not depend on the chunks then. A workload that is `lighter`
    runs on so many times fewer chunks than the others, at any scale but 1. `timed` if its costs are asked for, not only
    what it leaves.
    """

    asks: str
    build: Callable[[int, int, int], Job]
    sized: bool = True
    many: bool = False
    lighter: int = 1
    timed: bool = False

    def chunks(self, scale: int) -> int:
        """Pieces of 2 MiB at a scale; 0 if the workload has none."""
        if not self.sized:
            return 0
        return max(1, CHUNKS // scale // (self.lighter if scale > 1 else 1))


def upper_kb(chunks: int) -> int:
    """Page tables of the tiny process, and the PMD tables that a mapping of so many chunks needs beside them."""
    return BASE_KB + 4 * (LIBRARIES // GIB - (LIBRARIES - chunks * CHUNK) // GIB)


def each(chunks: int, *insns: Insn) -> np.ndarray:
    """The same instructions, whose addresses count from a chunk's first, for one chunk after another."""
    rows = np.tile(assemble(insns), chunks)
    rows["addr"] += LIBRARIES - chunks * CHUNK + np.repeat(np.arange(chunks), len(insns)) * CHUNK
    return rows


def job(chunks: int, body: Sequence[np.ndarray], frames: int, **geometry: Any) -> Job:
    """The tiny process, an anonymous mapping of so many chunks unless a file is there, and the body."""
    total = chunks * CHUNK
    start = LIBRARIES - total
    mapping = mmap_file(start, total, 0, shared=True) if geometry.get("files") else mmap(start, total)
    rows = np.concatenate([assemble([*image(), mapping]), *body])
    sizes: dict[str, Any] = {
        "insns": len(rows) + 4,
        "records": len(rows),
        "vmas": 64,
        "frames": frames + 64 + 2 * PCP_ROOM,
        "tables": 2 * chunks + UPPER + 4096,
    }
    return Job([rows], Geometry(**{**sizes, **geometry}))


def sweep(chunks: int, cpus: int, seed: int, piece: int = CHUNK, first: int = 0) -> Job:
    """Touch a chunk, release it in calls of `piece` bytes, but for what lies before `first`."""
    body = each(chunks, touch(0, CHUNK), dontneed(first, CHUNK - first, piece))
    return job(chunks, [body], PAGES + (chunks if first else 0))


def sparse(chunks: int, *then: Insn, access: Insn, swap_pages: int = 0, end: Sequence[Insn] = ()) -> Job:
    """One access to each chunk, then `then` to each, then `end` once."""
    body = [each(chunks, access), each(chunks, *then), assemble(end)]
    return job(chunks, body, chunks, swap_pages=swap_pages)


def lazyfree(chunks: int, cpus: int, seed: int, reclaimed: bool = False) -> Job:
    """MADV_FREE of all; if `reclaimed`, reclaim takes the pages."""
    end = [swapout(chunks)] if reclaimed else []
    return sparse(chunks, free(0, CHUNK), access=touch(0, PAGE_SIZE), end=end)


def pageout(chunks: int, cpus: int, seed: int) -> Job:
    """Every page goes to swap."""
    return sparse(chunks, advise(MADV_PAGEOUT, 0, CHUNK), access=touch(0, PAGE_SIZE), swap_pages=chunks)


def part_unmapped(chunks: int, cpus: int, seed: int) -> Job:
    """The first half of each chunk was touched, and is unmapped; the mapping of the other half stays."""
    body = each(chunks, touch(0, CHUNK // 2), munmap(0, CHUNK // 2))
    return job(chunks, [body], PAGES, vmas=chunks + 64)


def forked(chunks: int, cpus: int, seed: int) -> Job:
    """A process that has released all in calls of 64 KiB forks."""
    built = sweep(chunks, cpus, seed, 64 << 10)
    rows = np.concatenate([built.programs[0], assemble([fork_as(CHILD)])])
    size = len(rows) + 4
    return Job([rows], replace(built.geometry, mms=2, insns=size, records=size, tables=3 * chunks + 2 * UPPER + 4096))


def zero_pages(chunks: int, cpus: int, seed: int, length: int) -> Job:
    """Reads of memory that nobody has stored to."""
    return job(chunks, [each(chunks, read(0, length))], 1)


def truncated(chunks: int, cpus: int, seed: int) -> Job:
    """One page per 2 MiB of a mapped file in shared memory, which is then made empty."""
    body = [each(chunks, touch(0, PAGE_SIZE)), assemble([truncate(0, 0)])]
    return job(chunks, body, chunks, files=1, shmem=1, file_pages=chunks * PAGES)


def file_pageout(chunks: int, cpus: int, seed: int) -> Job:
    """One page per 2 MiB of a mapped file was read; reclaim takes them out of memory."""
    body = [each(chunks, read(0, PAGE_SIZE)), each(chunks, advise(MADV_PAGEOUT, 0, CHUNK))]
    return job(chunks, body, chunks, files=1, file_pages=chunks * PAGES)


def kept(chunks: int, cpus: int, seed: int, share: float) -> Job:
    """Each page of a chunk stays with a probability of `share`; what lies between is released, a call for each gap."""
    rng = random.Random(f"{seed} {share}")
    start, rows, survivors = LIBRARIES - chunks * CHUNK, [], 0
    for chunk in range(chunks):
        at = start + chunk * CHUNK
        rows.append(touch(at, CHUNK))
        stay = [page for page in range(PAGES) if rng.random() < share]
        survivors += len(stay)
        for before, after in zip([-1, *stay], [*stay, PAGES], strict=True):
            if after - before > 1:
                rows.append(dontneed(at + (before + 1) * PAGE_SIZE, (after - before - 1) * PAGE_SIZE))
    return job(chunks, [assemble(rows)], PAGES + survivors)


def one_slot(chunks: int, cpus: int, seed: int, length: int, release: int, rounds: int) -> Job:
    """One CPU touches and releases the same memory again and again; nothing else is in its 2 MiB."""
    return looped([[mmap(SHARED, CHUNK)]], [[touch(SHARED, length), dontneed(SHARED, release)]], rounds)


def multi_fault(chunks: int, cpus: int, seed: int) -> Job:
    """The cover letter's benchmark: each CPU touches its 2 MiB, CPU 0 releases all, between barriers."""
    slots = [SHARED + cpu * SPACING for cpu in range(cpus)]
    release = [[dontneed(slot, SPACING) for slot in slots], *[[] for _ in slots[1:]]]
    turns = [[touch(slot, CHUNK), barrier(0), *release[cpu], barrier(0)] for cpu, slot in enumerate(slots)]
    begin = [[mmap(SHARED, cpus * SPACING), barrier(1)], *[[barrier(1)] for _ in slots[1:]]]
    return looped(begin, turns, max(24, 400 // cpus))


def shared_table(chunks: int, cpus: int, seed: int) -> Job:
    """As multi_fault, but the CPUs share one 2 MiB, a part each: one table, one ptl."""
    part = CHUNK // cpus // PAGE_SIZE * PAGE_SIZE
    turns = [[touch(SHARED + cpu * part, part), barrier(0), barrier(0)] for cpu in range(cpus)]
    turns[0].insert(2, dontneed(SHARED, CHUNK))
    return looped([[mmap(SHARED, CHUNK), barrier(1)], *[[barrier(1)] for _ in turns[1:]]], turns, 400)


def disjoint_munmap(chunks: int, cpus: int, seed: int) -> Job:
    """Each CPU maps, touches and unmaps 2 MiB of its own."""
    slots = [SHARED + cpu * SPACING for cpu in range(cpus)]
    turns = [[mmap(slot, CHUNK), touch(slot, CHUNK), munmap(slot, CHUNK)] for slot in slots]
    return looped([[barrier(1)] for _ in slots], turns, max(24, 400 // cpus))


def looped(begin: Sequence[Sequence[Insn]], turns: Sequence[Sequence[Insn]], rounds: int) -> Job:
    """Each CPU does its `begin`, then its turn so many times; every instruction has a row, for it is timed."""
    programs = [
        np.concatenate([assemble(first), np.tile(assemble(turn), rounds)])
        for first, turn in zip(begin, turns, strict=True)
    ]
    cpus, rows = len(programs), sum(map(len, programs))
    geometry = Geometry(
        cpus=cpus,
        vmas=64 + cpus,
        insns=rows + 4 * cpus,
        records=rows,
        frames=1 + cpus * (PAGES + PCP_ROOM),
        tables=8192 + cpus * (8 + 2 * PCP_HIGH[1]),  # room for those that wait for a grace period
    )
    return Job(programs, geometry)


SHARES = {"0.01%": 0.0001, "0.1%": 0.001, "0.3%": 0.003, "1%": 0.01}
BUSY = partial(Workload, sized=False, timed=True)
WORKLOADS = {
    "sweep": Workload("touch 2 MiB, MADV_DONTNEED 2 MiB, and so on: the cover letter's loop", sweep, timed=True),
    "pieces-64k": Workload("the same, released in calls of 64 KiB", partial(sweep, piece=64 << 10), timed=True),
    "pieces-4k": Workload(
        "the same, released in calls of 4 KiB", partial(sweep, piece=PAGE_SIZE), lighter=4, timed=True
    ),
    "one-stays": Workload(
        "as pieces-64k, and one page of each 2 MiB stays", partial(sweep, piece=64 << 10, first=PAGE_SIZE)
    ),
    "free": Workload("MADV_FREE of everything", lazyfree),
    "free-reclaimed": Workload("the same, and reclaim takes the pages", partial(lazyfree, reclaimed=True)),
    "pageout": Workload("MADV_PAGEOUT of everything", pageout),
    "part-unmapped": Workload("munmap of the half of each 2 MiB that was touched", part_unmapped),
    "fork": Workload("a process forks after pieces-64k: the child's page tables", forked),
    "zero-pages": Workload(
        "every page was only read: the zero page, 512 times in a table", partial(zero_pages, length=CHUNK)
    ),
    "zero-sparse": Workload("one page of each 2 MiB was only read", partial(zero_pages, length=PAGE_SIZE)),
    "file-pageout": Workload("a mapped file read here and there, and its pages reclaimed", file_pageout, lighter=8),
    "truncate": Workload("a file in shared memory, mapped and touched, is made empty", truncated, lighter=8),
    **{
        f"kept-{name}": Workload(f"each page stays with a probability of {name}", partial(kept, share=share), lighter=4)
        for name, share in SHARES.items()
    },
    "one-slot": BUSY(
        "a page of the same 2 MiB touched, MADV_DONTNEED of the 2 MiB, again and again",
        partial(one_slot, length=PAGE_SIZE, release=CHUNK, rounds=20_000),
    ),
    "refault": BUSY(
        "64 KiB, alone in their 2 MiB, released and touched again at once",
        partial(one_slot, length=64 << 10, release=64 << 10, rounds=10_000),
    ),
    "multi-fault": BUSY("the cover letter's benchmark", multi_fault, many=True),
    "shared-table": BUSY("the same in one 2 MiB, a part for each CPU", shared_table, many=True),
    "disjoint-munmap": BUSY("each CPU maps, touches and unmaps 2 MiB of its own", disjoint_munmap, many=True),
}
