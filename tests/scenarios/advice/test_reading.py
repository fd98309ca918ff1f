"""Held and needed of real processes, to the kB: those of the emulator for the same trace, and those that were made.

Covers: workers/host/page_scan, workers/host/process_files
"""

import ast
import ctypes
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from targets import MIB, Target

from emulator.uapi import VM_ACCESS_FLAGS, VM_HUGEPAGE, VM_SHARED, Op
from scenarios.advice.reading import BOUNDS, READ, SCAN, TRIES, NoAddressSpace, read
from scenarios.traces.replay import run_replay
from scenarios.traces.trace import parse
from workers.host.kernel_facts import kernel_facts
from workers.host.page_scan import NoPagemapScan, pagemap_scan, pieces
from workers.host.process_files import ProcessGone, Vma, read_maps

GIB = 1 << 30
BASE = 16 << 40  # window 0 of a trace
NOBODY, PR_SET_DUMPABLE = 65534, 4
MAP_PRIVATE, MAP_NORESERVE = 2, 0x4000
MADV_HUGEPAGE, MADV_DONTNEED, MADV_GUARD_INSTALL = 14, 4, 102
CALLS = {Op.TOUCH: "touch", Op.READ: "read", Op.MADVISE: "madvise", Op.MUNMAP: "munmap", Op.MPROTECT: "mprotect"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="advise reads /proc")


@pytest.fixture
def target():
    with Target() as target:
        yield target


def operations_of(program):
    """The calls that a trace's instructions stand for, and those that take them back."""
    calls, undo = [], []
    for insn in program:
        if insn.op == Op.MMAP:
            flags = 1 if insn.arg & VM_SHARED else 2
            calls.append(["mmap", insn.addr, insn.length, insn.arg & VM_ACCESS_FLAGS, flags])
            if insn.arg & VM_HUGEPAGE:
                calls.append(["madvise", insn.addr, insn.length, MADV_HUGEPAGE])
            undo.append(["munmap", insn.addr, insn.length])
        elif insn.op == Op.MADVISE:
            calls.append(["madvise", insn.addr, insn.length, insn.arg, insn.step])
        elif insn.op in (Op.TOUCH, Op.READ, Op.MUNMAP):
            calls.append([CALLS[insn.op], insn.addr, insn.length, insn.step])
        elif insn.op == Op.MPROTECT:
            calls.append(["mprotect", insn.addr, insn.length, insn.arg])
    return calls, undo


def emulated(path, policy):
    """VmPTE of the emulator after a trace, in kB."""
    result = run_replay(path, policy)
    assert result.passed
    return int(result.rows[-1].split("\t")[0])


TRACES = {
    "a page here and there": ["mmap 0 1G", "touch 0 0 1G 2M"],
    "released in pieces": ["mmap 0 64M", "touch 0 0 64M", "dontneed 0 0 60M 64K"],
    "released in pages, all but one": ["mmap 0 32M", "touch 0 0 32M 64K", "dontneed 0 4K 32764K 4K"],
    "read, never written": ["mmap 0 32M", "read 0 0 32M", "touch 0 0 4K"],
    "in several GiB, of which each keeps a page": [
        *("mmap 0 4G", "touch 0 0 4G 64M"),
        *(f"dontneed 0 {gib * 1024 + 1}M 1023M 64K" for gib in range(4)),
    ],
    "protected, unmapped in the middle": [
        *("mmap 0 32M", "touch 0 0 32M", "dontneed 0 4M 8M 1M", "mprotect 0 4M 8M none", "munmap 0 17M 3M"),
    ],
    "guards": ["mmap 0 32M", "guard 0 0 8M", "touch 0 16M 4M", "dontneed 0 16M 4M 64K"],
    "shared memory": ["mmapsh 0 32M", "touch 0 0 32M", "dontneed 0 0 30M 64K"],
    "huge pages": ["mmapthp 0 32M", "touch 0 0 16M", "mmap 1 16M", "touch 1 0 16M 64K", "dontneed 1 0 15M 64K"],
    "huge pages, some split": ["mmapthp 0 32M", "touch 0 0 16M", "dontneed 0 2M 64K", "dontneed 0 6M 4K"],
}


@pytest.mark.parametrize("trace", TRACES)
def test_held_and_needed_are_the_emulators_figures_without_and_with_the_count(target, tmp_path, trace):
    if "huge" in trace and kernel_facts()["transparent_hugepage"] == "never":
        pytest.skip("this host gives no huge pages")
    path = tmp_path / "a.trace"
    path.write_text("\n".join(TRACES[trace]) + "\n")
    held, needed, _ = target.grown_by(*operations_of(parse(path).program()))

    assert held == emulated(path, "none")
    assert needed == emulated(path, "refcount")


@pytest.mark.skipif(kernel_facts()["pt_reclaim"] != "yes", reason="this kernel has no PT_RECLAIM")
@pytest.mark.parametrize("piece", ["64K", "1M", "2M", "3M", "30M"])
def test_held_is_the_emulators_figure_under_the_rule_of_this_kernel(target, tmp_path, piece):
    path = tmp_path / "a.trace"
    path.write_text(f"mmap 0 32M\ntouch 0 0 32M\ndontneed 0 0 30M {piece}\n")
    held, needed, _ = target.grown_by(*operations_of(parse(path).program()))

    assert held == emulated(path, "pt-reclaim")
    assert needed == emulated(path, "refcount")


def test_of_empty_upper_tables_the_count_lies_within_the_bounds(target, tmp_path):
    path = tmp_path / "a.trace"
    path.write_text("mmap 0 4G\ntouch 0 0 4G 16M\ndontneed 0 0 4G 64K\n")
    held, needed, reading = target.grown_by(*operations_of(parse(path).program()))

    counted = emulated(path, "refcount")
    assert held == emulated(path, "none")
    assert needed == 0
    assert needed < counted <= needed + reading.upper_empty


def test_pages_of_every_kind_keep_their_tables_and_are_told_apart(target):
    kinds = {
        "only_zero": [["mmap", BASE, 8 * MIB], ["read", BASE, 8 * MIB, 64 << 10]],
        "only_guard": [["mmap", BASE + GIB, 8 * MIB], ["madvise", BASE + GIB, 4 * MIB, MADV_GUARD_INSTALL]],
        "only_uffd_wp": [["mmap", BASE + 2 * GIB, 8 * MIB], ["uffd_wp", BASE + 2 * GIB, 6 * MIB]],
    }
    tables = {"only_zero": 4, "only_guard": 2, "only_uffd_wp": 3}
    before = read(target.pid)
    for operations in kinds.values():
        target.do(*operations)
    after = read(target.pid)

    assert {kind: getattr(after.needed, kind) for kind in kinds} == tables
    assert after.needed.pte - before.needed.pte == sum(tables.values())
    assert after.waste == before.waste


def test_a_table_full_of_zero_pages_is_counted_only_if_it_is_full(target):
    target.do(["mmap", BASE, 8 * MIB], ["read", BASE, 4 * MIB + 4096])

    needed = read(target.pid).needed
    assert (needed.only_zero, needed.full_of_zero) == (3, 2)


def test_the_words_of_pagemap_give_the_tables_that_the_scan_gives(target, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(8 * MIB))
    target.do(
        *(["mmap", BASE, 64 * MIB], ["touch", BASE, 64 * MIB, 3 * MIB], ["madvise", BASE, 4 * MIB, MADV_DONTNEED]),
        *(["mmap", BASE + GIB, 16 * MIB], ["madvise", BASE + GIB, 16 * MIB, MADV_HUGEPAGE]),
        *(["touch", BASE + GIB, 8 * MIB], ["read", BASE + GIB + 8 * MIB, 4 * MIB]),
        *(["mmap_file", BASE + 2 * GIB, 8 * MIB, str(file)], ["read", BASE + 2 * GIB, 8 * MIB, MIB]),
    )

    def old_kernel(pid, vmas):
        raise NoPagemapScan

    scanned, from_words = read(target.pid), read(target.pid, old_kernel)
    assert (scanned.method, from_words.method) == (SCAN, READ)
    assert from_words.needed.tables == scanned.needed.tables
    assert (from_words.waste, from_words.missing) == (scanned.waste, ())
    assert from_words.needed.pages == scanned.needed.pages


def test_before_linux_6_7_a_mapping_too_long_to_read_is_bounded_by_its_sizes(target):
    target.do(["mmap", BASE, 128 * GIB], ["touch", BASE, 128 * GIB, GIB])

    def old_kernel(pid, vmas):
        raise NoPagemapScan

    reading = read(target.pid, old_kernel)
    assert reading.missing == ("1 mappings of more than 64 GiB",)
    exact = read(target.pid)
    assert reading.needed_low <= exact.needed_low <= reading.needed_high
    assert reading.waste_low <= exact.waste <= reading.waste_high
    assert reading.waste == reading.waste_low
    assert all(one.may_waste_low == 0 for one in reading.mappings)  # no table is empty


@pytest.mark.skipif(len(Path("/proc/swaps").read_text().splitlines()) < 2, reason="this host has no swap")
def test_a_table_of_swap_entries_alone_is_needed(target):
    target.do(["mmap", BASE, 8 * MIB], ["touch", BASE, 8 * MIB])
    before = read(target.pid)
    target.do(["madvise", BASE, 8 * MIB, 21])  # MADV_PAGEOUT
    after = read(target.pid)

    assert after.needed.tables == before.needed.tables
    assert after.needed.only_swap > 0


def test_hugetlb_pages_need_no_pte_table_and_deposit_none(target):
    nr = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not nr.exists() or int(nr.read_text()) < 4:
        pytest.skip("this host has no free hugetlb pages")
    before = read(target.pid)
    target.do(["mmap", BASE, 8 * MIB, 3, 2 | 0x40000], ["touch", BASE, 8 * MIB, 2 * MIB])
    after = read(target.pid)

    assert (after.needed.pte, after.needed.deposited) == (before.needed.pte, before.needed.deposited)
    assert after.held == after.needed_low


def test_a_sparse_address_space_of_55_tib_is_read_exactly(target):
    size, step = 55 << 40, 64 * GIB
    target.do(["mmap", BASE, size], ["touch", BASE, size, step])

    reading = read(target.pid)
    assert (reading.waste, reading.waste_low) == (0, 0)
    assert reading.needed.pte >= size // step


def test_the_ranges_of_many_scan_calls_are_by_address_and_each_is_there_once(target):
    target.do(["mmap", BASE, GIB], ["touch", BASE, GIB, 64 << 10])  # more ranges than one call returns

    ranges = pagemap_scan(target.pid, read_maps(target.pid))
    ours = ranges[(ranges["start"] >= BASE) & (ranges["start"] < BASE + GIB)]
    assert (ranges["start"][1:] >= ranges["end"][:-1]).all()
    assert ours["start"].tolist() == list(range(BASE, BASE + GIB, 64 << 10))


def in_another_user(work):
    """The value of an expression in a child process that is nobody, and may be looked at by its own user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)
        os.write(writer, repr(work()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return ast.literal_eval(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_ones_own_process_needs_no_right_and_anothers_is_bounded(target):
    target.do(["mmap", BASE, GIB], ["touch", BASE, GIB, 2 * MIB], ["madvise", BASE, GIB // 2, MADV_DONTNEED, 64 << 10])

    def look(pid):
        reading = read(pid)
        return reading.method, reading.needed_low, reading.needed_high, reading.missing

    own, others = in_another_user(lambda: (look(os.getpid()), look(target.pid)))
    exact = read(target.pid)
    method, low, high, missing = others
    assert (own[0], own[3]) == (SCAN, ())
    assert (method, missing) == (BOUNDS, ("/proc/PID/maps: Permission denied",))
    assert low <= exact.needed_low <= high <= exact.held


def test_what_has_no_page_tables_or_is_gone_is_named_for_what_it_is():
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoAddressSpace, match=r"\(true\) has exited, its parent has not waited"):
        read(zombie.pid)
    zombie.wait()
    with pytest.raises(ProcessGone, match=f"there is no process {zombie.pid}"):
        read(zombie.pid)
    if (status := Path("/proc/2/status")).exists() and "kthreadd" in status.read_text():
        with pytest.raises(NoAddressSpace, match="is a thread of the kernel"):
            read(2)


def test_a_process_that_dies_between_two_reads_is_gone(target):
    def die(pid, vmas):
        target.end()
        return pagemap_scan(os.getpid(), read_maps(os.getpid()))

    with pytest.raises(ProcessGone):
        read(target.pid, die)


def test_a_process_that_allocates_meanwhile_is_read_again_and_the_rest_is_the_error(target):
    at = iter(range(BASE, BASE + 8 * GIB, GIB))

    def while_it_runs(pid, vmas):
        target.do(["mmap", (here := next(at)), 4 * MIB], ["touch", here, 4096])
        return pagemap_scan(pid, vmas)

    reading = read(target.pid, while_it_runs)
    assert reading.error == 8  # a PTE and a PMD table, at each try
    assert reading.held == reading.held_before
    assert next(at) == BASE + TRIES * GIB


def test_a_wide_process_is_looked_at_in_pieces_by_several_threads_and_nothing_is_seen_twice(target):
    needed = read(target.pid).needed.tables
    for at in range(20 << 40, 36 << 40, 1 << 40):
        target.do(["mmap", at, 1 << 40, 3, MAP_PRIVATE | MAP_NORESERVE], ["touch", at + GIB - 4096, 8192, 4096])
    assert len(pieces(read_maps(target.pid))) >= 16
    assert read(target.pid).needed.tables == needed + 16 * 5  # two PTE tables, two PMD tables, a PUD table each


@pytest.mark.parametrize("size", [4096, (1 << 40) - 4096, 1 << 40, (1 << 40) + 4096, 5 << 40])
def test_the_pieces_have_all_that_is_mapped(size):
    vmas = [Vma(at, at + size, "rw-p", 0, "") for at in (1 << 40, 10 << 40, (10 << 40) + size, 40 << 40)]
    found = pieces(vmas)
    assert all(end - start <= 1 << 40 for start, end in found)
    assert all(any(start <= at < end for start, end in found) for vma in vmas for at in (vma.start, vma.end - 1))
    assert all(one[1] <= two[0] for one, two in pairwise(found))


def test_a_look_does_not_wait_for_libraries_that_it_needs():
    program = """if True:
        import os, sys
        from workers.host import process_files
        from scenarios.advice import reading
        first, status = [], process_files.read_status
        process_files.read_status = lambda pid: first.append("numpy" in sys.modules) or status(pid)
        before = "numpy" in sys.modules
        reading.read(os.getpid())
        print(before, first[0])
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
