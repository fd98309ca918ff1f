"""Measure how cost grows: nanoseconds per operation against the size of what it works on, and the exponent.

Each figure is of two machines, one of which has done all but the operations, and the difference of the processor time
of their CPU. An exponent of 1 says that n operations on a size of n cost n times as much, 2 that they are quadratic.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click

from benchmarks.command import end, json_option, names
from emulator.mm_types import MAX_MAP_COUNT, PAGE_SIZE, PTRS_PER_TABLE, Geometry
from emulator.policy.policies import POLICIES
from emulator.segment import SegmentTooLarge
from scenarios import multi_fault
from scenarios.session import report
from scenarios.session.options import Lab
from scenarios.session.progress import Progress, note
from scenarios.session.record import Record
from workers import interrupts
from workers.programs.program import (
    REAP,
    STOP,
    Insn,
    barrier,
    dontneed,
    fork,
    jump,
    mmap,
    mmap_file,
    mprotect,
    munmap,
    touch,
)

BOUND = 1.1
PAGE, SLOT, GIB = PAGE_SIZE, PTRS_PER_TABLE * PAGE_SIZE, 1 << 30
BASE = 1 << 40
OPERATIONS = 200_000  # of those that take less than a microsecond: enough for the difference of two machines to tell
WHOLE = 55 << 40  # bytes of the server's mapping


@dataclass(frozen=True)
class Job:
    """What one CPU does to be ready, then `operations` times what is measured; the machine it needs."""

    ready: list[Insn]
    measured: list[Insn]
    operations: int
    geometry: Geometry


def every_other(number: int) -> int:
    """The address of one of many VMAs of a page, which touch no other."""
    return BASE + 2 * number * PAGE


def again(insns: list[Insn], first: int, operations: int) -> tuple[list[Insn], int]:
    """The same over and over, about so many times together, as a program from row `first` on; how many it does."""
    rounds = max(1, operations // len(insns))
    return [*insns, jump(first, rounds - 1)] if rounds > 1 else insns, rounds * len(insns)


def of_vmas(count: int, calls: Callable[[int], list[Insn]], which: Sequence[int]) -> Job:
    """An mm that has `count` VMAs, and calls on some of them that leave them as they were."""
    ready = [mmap(every_other(number), PAGE) for number in range(count)]
    measured, operations = again([call for number in which for call in calls(number)], count, OPERATIONS)
    return Job(ready, measured, operations, Geometry(vmas=count + 8))


def lowest(count: int) -> Job:
    """The lowest VMA goes and comes, as Linux places maps."""
    return of_vmas(count, lambda number: [munmap(every_other(number), PAGE), mmap(every_other(number), PAGE)], [0])


def anywhere(count: int) -> Job:
    """VMAs go and come, all over the mm."""
    which = random.Random(count).sample(range(count), min(count, 1000))
    return of_vmas(count, lambda number: [munmap(every_other(number), PAGE), mmap(every_other(number), PAGE)], which)


def splits(count: int) -> Job:
    """mprotect splits a VMA of three pages, and makes it one again; `count` VMAs lie above it."""
    low = BASE - 4 * PAGE
    job = of_vmas(count, lambda number: [mprotect(low + PAGE, PAGE, "r"), mprotect(low + PAGE, PAGE, "rw")], [0])
    ready = [mmap(low, 3 * PAGE), *job.ready[1:]]
    return replace(job, ready=ready)


def faults(count: int) -> Job:
    """Pages of all VMAs that may be written are touched, from the lowest on, and go."""
    ready = [mmap(BASE + number * PAGE, PAGE, writable=number % 2 == 0) for number in range(count)]
    once = [touch(BASE, count * PAGE, 2 * PAGE), dontneed(BASE, count * PAGE)]
    rounds = max(2, OPERATIONS // count)
    geometry = Geometry(vmas=count + 8, frames=count + 4096, tables=count // PTRS_PER_TABLE + 1024)
    return Job(ready, [*once, jump(count, rounds - 1)], rounds * count // 2, geometry)


def range_of(gib: int) -> Job:
    """Every page of a range is touched for the first time, and goes."""
    pages = gib * GIB // PAGE
    geometry = Geometry(frames=pages + 4096, tables=gib * 512 + gib + 64, frame_words=1)
    ready = [mmap(BASE, gib * GIB)]
    return Job(ready, [touch(BASE, gib * GIB), dontneed(BASE, gib * GIB)], pages, geometry)


def sparse(pages: int) -> Job:
    """One madvise over the server's 55 TiB, in which so many pages lie, each with tables of its own."""
    step = WHOLE // pages & -SLOT
    rounds = max(2, OPERATIONS // 20 // pages)
    measured = [touch(BASE, step * pages, step), dontneed(BASE, WHOLE), jump(1, rounds - 1)]
    geometry = Geometry(frames=pages + 4096, tables=4 * pages + 4096, frame_words=1)
    return Job([mmap(BASE, WHOLE)], measured, rounds * pages, geometry)


def of_mms(count: int) -> Job:
    """A CPU maps a page of a file, touches it and unmaps it, on a machine of so many mms."""
    once = [mmap_file(BASE, PAGE, 0), touch(BASE, PAGE), munmap(BASE, PAGE)]
    measured, operations = again(once, 0, OPERATIONS)
    return Job([], measured, operations // 3, Geometry(mms=count, files=1, file_pages=1, tables=count + 1024))


def of_files(count: int) -> Job:
    """Each file is mapped and unmapped, on a machine of so many."""
    once = [call for file in range(count) for call in (mmap_file(BASE, PAGE, file), munmap(BASE, PAGE))]
    measured, operations = again(once, 0, OPERATIONS)
    return Job([], measured, operations, Geometry(files=count, file_pages=1))


def of_children(count: int) -> Job:
    """So many children come and stay, each with 16 pages of its parent, and go together, as they did once before."""
    once = [*[fork(hold=True)] * count, REAP]
    ready = [mmap(BASE, 16 * PAGE), touch(BASE, 16 * PAGE), *once]
    rounds = max(2, OPERATIONS // 100 // count)
    geometry = Geometry(mms=count + 1, frames=32 * count + 4096, tables=8 * count + 1024)
    return Job(ready, [*once, jump(len(ready), rounds - 1)], rounds * count, geometry)


def processor_ns(program: Sequence[Insn], geometry: Geometry, policy: str) -> float:
    """Processor time that a CPU has used when it has done a program. Raises SegmentTooLarge."""
    from workers.machine import Machine

    rows = [*program, barrier(), STOP]  # there it waits for a CPU that does not exist, and is looked at
    with Machine(replace(geometry, insns=len(rows)), policy) as machine:
        machine.views["barrier"]["parties"] = geometry.cpus + 1
        machine.load(0, rows)
        machine.start()
        while not machine.views["barrier"]["arrived"][0]:
            machine.run_for(0.002)
        used = float(machine.sample().cpu_time[0])
        failed = int(machine.views["cpu"]["errors"][0])
        machine.stop()
    if failed:
        raise SystemExit(f"bench-scale: {failed} operations failed")
    return used * 1e9


def ns_per_operation(job: Job, policy: str, repeats: int) -> float:
    """The median over some pairs of machines. Raises SegmentTooLarge."""
    costs = []
    for _ in range(repeats):
        ready, all_ = (processor_ns(rows, job.geometry, policy) for rows in (job.ready, [*job.ready, *job.measured]))
        costs.append((all_ - ready) / job.operations)
    return statistics.median(costs)


@dataclass
class Growth:
    """One thing that grows: what its sizes count, what is done, the sizes, and what each cost."""

    name: str
    unit: str
    operation: str
    sizes: tuple[int, ...]
    job: Callable[[int], Job] | None = None  # None: CPUs, each with an mm
    ns: dict[int, float] = field(default_factory=dict)

    def measure(self, size: int, policy: str, quick: bool) -> None:
        """Measure one size. Raises SegmentTooLarge."""
        if self.job is not None:
            job = self.job(size)
            once = job.operations * 100 > 1e9 or quick  # a second or more needs no median
            self.ns[size] = ns_per_operation(job, policy, 1 if once else 5)
            return
        record = Record("bench-scale", 0)
        seconds = 0.1 if quick else 1 + size / 16  # each CPU touches all of its memory within a tenth of that
        figures = multi_fault.measure(policy, size, "processes", seconds, 0, Lab(), record)
        if figures is None:
            raise SystemExit("bench-scale: a violation stopped the machine")
        self.ns[size] = figures["ns_per_fault"]

    @property
    def exponent(self) -> float | None:
        """Of the cost of as many operations as the size, by least squares; None of a single size."""
        if len(self.ns) < 2:
            return None
        logs = [(math.log(size), math.log(max(ns, 0.1) * size)) for size, ns in self.ns.items()]
        return statistics.linear_regression(*zip(*logs, strict=True)).slope

    @property
    def met(self) -> bool:
        """True unless the exponent is above the bound."""
        return self.exponent is None or self.exponent <= BOUND

    def as_json(self) -> dict[str, Any]:
        """The record of it."""
        sizes, ns = list(self.ns), list(self.ns.values())
        said = {"unit": self.unit, "operation": self.operation, "sizes": sizes, "ns": ns}
        return {**said, "exponent": self.exponent, "bound": BOUND, "met": self.met}


def growths() -> dict[str, Growth]:
    """Everything that is measured, without figures yet."""
    # of children and of tables no size is so small that all of it fits into a cache
    vmas = (1000, 4000, 16_000, MAX_MAP_COUNT - 1000)
    found = (
        Growth("range", "GiB", "fault and zap of a page", (1, 4, 16, 50, 130), range_of),
        Growth("cpus", "CPUs, an mm each", "fault and zap of a page", (1, 2, 4, 8, 16, 32, 64)),
        Growth("mms", "mms", "mmap, fault, munmap of a file", (1, 16, 256, 1024), of_mms),
        Growth("vmas-lowest", "VMAs", "munmap or mmap of the lowest", vmas, lowest),
        Growth("vmas-anywhere", "VMAs", "munmap or mmap of any", vmas, anywhere),
        Growth("vmas-split", "VMAs", "mprotect that splits or merges", vmas, splits),
        Growth("vmas-fault", "VMAs", "fault and zap of a page", vmas, faults),
        Growth("files", "files", "mmap or munmap", (1, 16, 64, 250), of_files),
        Growth("children", "held children", "fork and exit", (256, 1024, 4096), of_children),
        Growth("sparse", "pages in 55 TiB", "fault and zap of a page", (3520, 14_080, 56_320), sparse),
    )
    return {growth.name: growth for growth in found}


def measure(chosen: Sequence[Growth], policy: str, quick: bool) -> None:
    """Measure every size, and leave out what does not fit into memory, which is said."""
    processor_ns([mmap(BASE, PAGE)], Geometry(), policy)  # what must be compiled is, before the time left is told
    steps = [(growth, size) for growth in chosen for size in growth.sizes[: 1 if quick else None]]
    with Progress("bench-scale") as progress:
        for done, (growth, size) in enumerate(steps):
            progress.update(done / len(steps), f"{growth.name} {size}")
            try:
                growth.measure(size, policy, quick)
            except SegmentTooLarge as error:
                note(f"bench-scale: {growth.name} {size} is left out: {error}")


def show(chosen: Sequence[Growth]) -> None:
    """One line per growth: what each size costs, and the exponent."""
    rows = []
    for growth in chosen:
        costs = ", ".join(f"{size:,}: {ns:,.0f}" for size, ns in growth.ns.items())
        exponent = "-" if growth.exponent is None else f"{growth.exponent:.2f}"
        rows.append([growth.unit, growth.operation, costs, exponent, "ok" if growth.met else f"ABOVE {BOUND}"])
    report.table(["what grows", "operation", "size: ns per operation", "exponent", ""], rows, left=(0, 1, 2))


def too_steep(chosen: Sequence[Growth]) -> list[str]:
    """The growths whose exponent is above the bound."""
    return [f"{one.name}: exponent {one.exponent:.2f} is above {BOUND}" for one in chosen if not one.met]


@click.command()
@json_option("scale.json")
@click.option("--only", default="", metavar="NAME,...", callback=names("growth", growths()), help="Some of it. [all]")
@click.option("--policy", default="refcount", callback=names("policy", POLICIES), help="Of all machines. [refcount]")
@click.option("--quick", is_flag=True, help="The smallest size of each, once, without exponents.")
def main(target: str, only: list[str], policy: list[str], quick: bool) -> None:
    """Measure how the cost of an operation grows; the exit status is 1 if an exponent is above 1.1."""
    interrupts.install()
    record = Record("bench-scale", 0)
    chosen = [growth for name, growth in growths().items() if not only or name in only]
    try:
        measure(chosen, policy[0], quick)
    except interrupts.Interrupted as interrupt:
        record.interrupted = 128 + interrupt.number
    record.found += too_steep(chosen)
    measured = {growth.name: growth.as_json() for growth in chosen if growth.ns}
    end(record, target, {"policy": policy[0], "growths": measured}, lambda: show(chosen))


if __name__ == "__main__":
    main()
