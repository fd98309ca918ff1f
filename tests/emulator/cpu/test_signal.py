"""A wrong access is a signal for its thread, with its address; machine and accounting go on.

Covers: emulator/program/mmu, workers/signals
"""

import pytest
from support import BASE, FAMILIES, SLOT, geometry_for, run_programs

from emulator.checks import audit
from emulator.mm_types import PAGE_SIZE, Geometry
from emulator.syscalls import madvise
from workers.instruments import Instruments
from workers.machine import Machine
from workers.programs.program import (
    EXIT,
    STOP,
    advise,
    fork,
    load,
    mmap,
    mmap_file,
    mprotect,
    munmap,
    read,
    store,
    touch,
    truncate,
)
from workers.signals import signals_of

PAGE = PAGE_SIZE


def signal_of(program, policy="refcount", fatal=False, **sizes):
    """What one CPU got: its first signal as (signal, code, addr, insn), how many, and the machine's views."""
    geometry = Geometry(**{"mms": 3, "insns": len(program), "frames": 8192, "tables": 256, "files": 1, **sizes})
    with Machine(geometry, policy, Instruments(online=True), fatal_signals=fatal) as machine:
        run_programs(machine, [program])
        assert not any(audit(machine.views, geometry).values())
        found = signals_of(machine.views, geometry)
        if not found:
            return None, 0, machine.views
        first, of = found[0].first, found[0]
        seen = (first.signal, first.code, first.addr, first.insn)
        return seen, of.sigsegv + of.sigbus + of.oom_kills, machine.views


BAD = {
    "no VMA": ([mmap(BASE, PAGE), load(BASE + PAGE + 8)], ("SIGSEGV", "SEGV_MAPERR", BASE + PAGE + 8, 1)),
    "below a VMA": ([mmap(BASE, PAGE), store(BASE - 8, 1)], ("SIGSEGV", "SEGV_MAPERR", BASE - 8, 1)),
    "kernel": ([store(1 << 60, 1)], ("SIGSEGV", "SEGV_MAPERR", 1 << 60, 0)),
    "unmapped": ([mmap(BASE, PAGE), touch(BASE, PAGE), munmap(BASE, PAGE), load(BASE)],
                 ("SIGSEGV", "SEGV_MAPERR", BASE, 3)),
    "read-only": ([mmap(BASE, PAGE, writable=False), load(BASE), store(BASE + 8, 1)],
                  ("SIGSEGV", "SEGV_ACCERR", BASE + 8, 2)),
    "none": ([mmap(BASE, PAGE), store(BASE, 1), mprotect(BASE, PAGE, "none"), load(BASE)],
             ("SIGSEGV", "SEGV_ACCERR", BASE, 3)),
    "guard": ([mmap(BASE, PAGE), advise(madvise.MADV_GUARD_INSTALL, BASE, PAGE), load(BASE)],
              ("SIGSEGV", "SEGV_MAPERR", BASE, 2)),
    "past the end": ([mmap_file(BASE, 4 * PAGE, 0, page=62), read(BASE, 4 * PAGE)],
                     ("SIGBUS", "BUS_ADRERR", BASE + 2 * PAGE, 1)),
    "truncated": ([mmap_file(BASE, PAGE, 0, shared=True), store(BASE, 1), truncate(0, 0), store(BASE, 1)],
                  ("SIGBUS", "BUS_ADRERR", BASE, 3)),
}  # fmt: skip


@pytest.mark.parametrize("policy", ["none", "refcount"])
@pytest.mark.parametrize("case", BAD)
def test_a_wrong_access_is_a_signal_with_its_address_and_instruction(case, policy):
    program, due = BAD[case]

    assert signal_of([*program, STOP], policy)[:2] == (due, 1)


@pytest.mark.parametrize("policy", FAMILIES)
def test_who_gets_no_memory_is_killed_by_name_and_all_of_it_comes_back(policy):
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), munmap(BASE, SLOT), mmap(BASE, PAGE), store(BASE, 7), STOP]

    seen, count, views = signal_of(program, policy, frames=200)

    assert (seen[:2], seen[3], count) == (("SIGKILL", "out of memory"), 1, 1)
    assert views["mm"]["rss_anon"][0] == 1


def test_a_fatal_signal_ends_the_program_and_leaves_nothing_behind():
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), load(BASE - 8), store(BASE, 9), STOP]

    _, count, views = signal_of(program, fatal=True)

    assert (count, int(views["cpu"]["insns"][0])) == (1, 3)
    assert (views["mm"]["pgtables_bytes"][0], views["mm"]["rss_anon"][0]) == (0, 0)


def test_a_fatal_signal_of_a_child_ends_the_child():
    program = [mmap(BASE, PAGE), store(BASE, 7), fork(2), load(BASE - 8), store(BASE, 9), load(BASE), STOP]

    seen, count, views = signal_of(program, fatal=True)

    assert (seen, count) == (("SIGSEGV", "SEGV_MAPERR", BASE - 8, 3), 1)
    assert views["cpu"]["loaded"][0] == 7
    assert views["mm"]["vmas"][0] == 1


def test_signals_of_several_cpus_are_told_apart_and_the_latest_is_kept():
    programs = [[mmap(BASE, PAGE), load(BASE - 8), load(BASE - 16), EXIT], [mmap(BASE + SLOT, PAGE), STOP]]
    geometry = geometry_for(programs, 2)
    with Machine(geometry, "refcount", mm_of_cpu=(0, 1)) as machine:
        run_programs(machine, programs)
        lines = [str(of) for of in signals_of(machine.views, geometry)]

    assert lines == [
        f"CPU 0: SIGSEGV (SEGV_MAPERR) at {BASE - 8:#x} in insn 1 load {BASE - 8:#x}; 2 in all, "
        f"the last: SIGSEGV (SEGV_MAPERR) at {BASE - 16:#x} in insn 2 load {BASE - 16:#x}"
    ]
