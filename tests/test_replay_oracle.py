"""Random traces, replayed and compared line by line with a naive model of the same rules.

The model knows nothing of the emulator: pages and tables are sets, VMAs a list. Units are pages.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from emulator.mm_types import GATHER_PAGES, PAGE_SIZE, PTRS_PER_TABLE
from emulator.policy import POLICIES
from emulator.vma import VM_WRITE
from scenarios.footprint import geometry_for
from scenarios.replay import run_replay
from scenarios.trace import parse
from workers.machine import Machine
from workers.program import STOP

EFAULT, ENOMEM, EINVAL = -14, -12, -22
LEVELS = (9, 18, 27)  # pages per PTE, PMD and PUD table, as powers of two
TASK_SIZE = (1 << 35) - 1
WINDOWS, WINDOW = 1 << 32, 1 << 24


class Oracle:
    """What Linux does with private anonymous memory, as simply as it can be said."""

    def __init__(self):
        self.vmas = []  # [start, end, writable, anon_vma or 0], sorted
        self.pages = {}  # page -> True if it has a frame, False for the zero page
        self.tables = {level: set() for level in LEVELS}
        self.faults = self.anon_vmas = 0

    def row(self, error):
        tables = sum(len(tables) for tables in self.tables.values())
        return f"{4 * tables}\t{4 * sum(self.pages.values())}\t{self.faults}\t{error}"

    def vma_at(self, page):
        return next((vma for vma in self.vmas if vma[0] <= page < vma[1]), None)

    def split(self, page):
        vma = self.vma_at(page)
        if vma is not None and vma[0] != page:
            self.vmas.insert(self.vmas.index(vma) + 1, [page, *vma[1:]])
            vma[1] = page

    def unmap(self, start, end):
        self.split(start)
        self.split(end)
        gone = [vma for vma in self.vmas if start <= vma[0] < end]
        self.vmas = [vma for vma in self.vmas if vma not in gone]
        self.pages = {page: has for page, has in self.pages.items() if not start <= page < end}
        for level, tables in self.tables.items():
            for table in list(tables):
                first, last = table << level, table + 1 << level
                overlapped = any(vma[0] < last and first < vma[1] for vma in gone)
                if overlapped and not any(vma[0] < last and first < vma[1] for vma in self.vmas):
                    tables.remove(table)

    def merge(self):
        """Join the first two neighbours that may be one; True if there were any."""
        for left, right in zip(self.vmas, self.vmas[1:], strict=False):
            same = left[1] == right[0] and left[2] == right[2]
            if same and (left[3] == right[3] or 0 in (left[3], right[3])):
                left[1], left[3] = right[1], left[3] or right[3]
                self.vmas.remove(right)
                return True
        return False

    def mmap(self, start, length, writable):
        if length == 0:
            return EINVAL
        end = start + -(-length // 4096)
        if end > TASK_SIZE:
            return ENOMEM
        if start % 1:
            return EINVAL
        start = int(start)
        self.unmap(start, end)
        self.vmas = sorted([*self.vmas, [start, end, writable, 0]])
        while self.merge():
            pass
        return 0

    def munmap(self, start, length):
        end = start + -(-length // 4096)
        if start % 1 or length == 0 or end > TASK_SIZE:
            return EINVAL
        self.unmap(int(start), int(end))
        return 0

    def dontneed(self, start, length):
        if start % 1:
            return EINVAL
        start, end = int(start), int(start) + -(-length // 4096)
        mapped = 0
        for vma in self.vmas:
            mapped += max(0, min(vma[1], end) - max(vma[0], start))
        self.pages = {page: has for page, has in self.pages.items() if not start <= page < end}
        return 0 if mapped == end - start else ENOMEM

    def free(self, start, length):
        kept = dict(self.pages)
        error = self.dontneed(start, length)
        self.pages = kept
        return error

    def access(self, at, end, stride, write):
        while at < end:
            page = at // 4096
            vma = self.vma_at(page)
            if vma is None or (write and not vma[2]):
                return EFAULT
            if page not in self.pages or (write and not self.pages[page]):
                self.faults += 1
                self.pages[page] = write
                for level, tables in self.tables.items():
                    tables.add(page >> level)
                if write and vma[3] == 0:
                    self.prepare_anon_vma(vma)
            at += stride
        return 0

    def prepare_anon_vma(self, vma):
        i = self.vmas.index(vma)
        behind = self.vmas[i + 1][3] if i + 1 < len(self.vmas) and self.vmas[i + 1][0] == vma[1] else 0
        before = self.vmas[i - 1][3] if i > 0 and self.vmas[i - 1][1] == vma[0] else 0
        if not behind and not before:
            self.anon_vmas += 1
        vma[3] = behind or before or self.anon_vmas

    def run(self, line):
        name, *words = line.split()
        if name == "mark":
            return 0
        number = [int(word, 0) for word in words]
        window = WINDOWS + number[0] * WINDOW
        if name in ("mmap", "mmapr"):
            return self.mmap(window + number[2] / 4096, number[1], name == "mmap")
        at, length = window + number[1] / 4096, number[2]
        if name in ("touch", "read"):
            first = window * 4096 + number[1]
            return self.access(first, first + length, number[3] if len(number) > 3 else 4096, name == "touch")
        step = number[3] if len(number) > 3 else length
        call = {"munmap": self.munmap, "dontneed": self.dontneed, "free": self.free}[name]
        errors = [call(at, min(step, length))]
        for done in range(step, length, step or 1):
            errors.append(call(at + done / 4096, min(step, length - done)))
        return next((error for error in errors if error), 0)


# Around borders of 2 MiB, 1 GiB and 512 GiB: windows and offsets in pages. The third is reached from both windows.
PLACES = ((0, 0), (0, 512), (0, 1 << 18), (7, 1 << 24), (8, 0))
LENGTHS = (1, 1, 2, 16, 255, 256, 512, 513, 1024)
NAMES = ("mmap", "mmap", "mmap", "mmapr", "touch", "touch", "touch", "read", "munmap", "dontneed", "free")
STRIDES = (4096, 4096, 4096, 8192, 100_000, 1 << 20, 2 << 20)


def random_place(rng):
    window, page = rng.choice(PLACES)
    page += rng.choice((0, 0, 0, 1, -1, 16, -256, 256, -512, 512, rng.randrange(-600, 600)))
    return (window, page) if page >= 0 else (window, 0)


def random_line(rng):
    window, page = random_place(rng)
    length = rng.choice(LENGTHS) * 4096
    if rng.random() < 0.05:
        length = rng.choice((0, 1, 4097, length - 1))
    offset = page * 4096
    name = rng.choice(NAMES)
    if name in ("mmap", "mmapr", "munmap") and rng.random() < 0.1:
        length = rng.choice((1 << 30, (1 << 30) + 4096, 3 << 29, 1 << 21))
    if name in ("touch", "read"):
        stride = rng.choice(STRIDES)
        length = min(length * (stride // 4096), 1 << 31)
        return f"{name} {window} {offset + rng.choice((0, 0, 0, 1, 4095))} {length} {stride}"
    if rng.random() < 0.03:
        offset += rng.choice((1, 2048))
    if name in ("mmap", "mmapr"):
        return f"{name} {window} {length} {offset}"
    step = f" {rng.choice((65536, 1 << 20, 100_000))}" if rng.random() < 0.2 and length < 1 << 24 else ""
    return f"{name} {window} {offset} {length}{step}"


def random_trace(seed):
    rng = random.Random(seed)
    return [random_line(rng) for _ in range(rng.randrange(20, 90))]


@pytest.mark.parametrize("seed", range(60))
def test_a_random_trace_gives_the_rows_of_the_naive_model(seed, tmp_path):
    lines = random_trace(seed)
    path = tmp_path / f"seed{seed}.trace"
    path.write_text("\n".join(lines) + "\n")
    oracle = Oracle()

    result = run_replay(path)

    for number, (line, row) in enumerate(zip(lines, result.rows, strict=True), 1):
        assert row == f"{oracle.row(oracle.run(line))}\t\t{line}", f"seed {seed}, line {number}"
    assert result.violation is None
    assert not any(result.checks.values()), result.checks


def vmas_of(path: Path):
    """The VMAs a trace leaves, in pages: [start, end, writable, anon_vma]."""
    insns = [operation.insn for operation in parse(path).operations]
    with Machine(geometry_for(insns, 8)) as machine:
        machine.load(0, [*insns, STOP])
        machine.start()
        machine.wait()
        rows = machine.views["vma"][: machine.views["mm"]["vmas"][0]]
        columns = [rows["start"] >> 12, rows["end"] >> 12, rows["flags"] & VM_WRITE != 0, rows["anon_vma"]]
        return np.stack(columns, axis=1).tolist()


@pytest.mark.parametrize("seed", range(60, 80))
def test_a_random_trace_leaves_the_vmas_of_the_naive_model(seed, tmp_path):
    lines = random_trace(seed)
    path = tmp_path / f"seed{seed}.trace"
    path.write_text("\n".join(lines) + "\n")
    oracle = Oracle()

    for line in lines:
        oracle.run(line)

    assert vmas_of(path) == oracle.vmas


@pytest.mark.parametrize("policy", POLICIES)
def test_a_gather_that_fills_up_with_the_last_page_of_a_table_is_flushed(policy, tmp_path):
    size = (GATHER_PAGES + 2 * PTRS_PER_TABLE) * PAGE_SIZE
    path = tmp_path / "a.trace"
    path.write_text(f"mmap 0 1G\ntouch 0 0 {size}\ndontneed 0 0 {size}\ntouch 0 0 {size}\nmunmap 0 0 1G\n")

    result = run_replay(path, policy)

    assert [row.split("\t")[1] for row in result.rows] == ["0", str(size // 1024), "0", str(size // 1024), "0"]
    assert result.passed, (result.violation, result.checks)


def test_a_mapping_between_two_that_were_written_apart_joins_the_one_before_it(tmp_path):
    path = tmp_path / "a.trace"
    path.write_text("mmap 0 4K 0\nmmap 0 4K 8K\ntouch 0 0 4K\ntouch 0 8K 4K\nmmap 0 4K 4K\n")

    assert vmas_of(path) == [[WINDOWS, WINDOWS + 2, True, 1], [WINDOWS + 2, WINDOWS + 3, True, 2]]
