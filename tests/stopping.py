"""A process stopped at each named point, by the smallest programs that pass it. For the debug build: test_stops.py."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, NamedTuple

from support import BASE, SLOT, geometry_for

from emulator.mm_types import PAGE_SIZE
from emulator.uapi import MADV_COLD, MADV_COLLAPSE, MADV_GUARD_INSTALL, MADV_HUGEPAGE, MADV_POPULATE_READ
from workers.instruments import Instruments, Stop
from workers.machine import Machine
from workers.programs.program import (
    DEVICE_REMOVE,
    EXIT,
    FREE_PTES,
    STOP,
    Insn,
    advise,
    barrier,
    compute,
    dontneed,
    fork,
    gup,
    jump,
    migrate,
    mincore,
    mmap,
    mmap_device,
    mmap_file,
    mmap_hugetlb,
    mprotect,
    mremap_fixed,
    munmap,
    punch_hole,
    read,
    retract,
    smaps,
    swapout,
    touch,
    truncate,
    uffd_copy,
    uffd_move,
    uffd_register,
    writeback,
)
from workers.stops import LONGEST_STALL
from workers.telling.postmortem import MachineFailed
from workers.watchdog import process_state

LIMIT = 20.0  # seconds until a run that was not stopped is given up
FAULTS = [mmap(BASE, SLOT), barrier(), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(2)]
FAULTS_TOO = [barrier(), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1)]
MAPS = [mmap(BASE, SLOT), touch(BASE, SLOT), munmap(BASE, SLOT), jump(0)]
MAPS_TOO = [mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), munmap(BASE, SLOT), jump(0)]
READS_FILE = [mmap_file(BASE, PAGE_SIZE, 0), read(BASE, PAGE_SIZE), munmap(BASE, SLOT), jump(0)]
STORES_FILE = [mmap_file(BASE, PAGE_SIZE, 0, shared=True), touch(BASE, PAGE_SIZE), dontneed(BASE, SLOT), jump(1)]
WRITES_BACK = [mmap_file(BASE, PAGE_SIZE, 0, shared=True), touch(BASE, PAGE_SIZE), writeback(0), jump(1)]


SWAPS = [mmap(BASE, SLOT), touch(BASE, 16 * PAGE_SIZE), swapout(16), read(BASE, SLOT), jump(1)]
MIGRATES = [mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), migrate(BASE), jump(1)]
MIGRATED = [touch(BASE, PAGE_SIZE), advise(MADV_COLD, BASE, PAGE_SIZE), touch(BASE, PAGE_SIZE), jump(0)]
ELSEWHERE = [mmap(BASE + SLOT, SLOT), touch(BASE + SLOT, SLOT), munmap(BASE + SLOT, SLOT), jump(0)]
COLLAPSES = [mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), advise(MADV_COLLAPSE, BASE, SLOT), munmap(BASE, SLOT), jump(0)]
USES = [mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), gup(BASE, PAGE_SIZE, 7), munmap(BASE, SLOT), jump(0)]
HUGE = [mmap(BASE, SLOT), advise(MADV_HUGEPAGE, BASE, SLOT), touch(BASE, PAGE_SIZE), dontneed(BASE, PAGE_SIZE)]
HUGE += [munmap(BASE, SLOT), jump(0)]
SHARES = [mmap_hugetlb(7 << 30, 1 << 30), munmap(7 << 30, 1 << 30), jump(0)]
RETRACTS = [mmap_file(BASE, SLOT, 0), read(BASE, PAGE_SIZE), dontneed(BASE, SLOT), retract(0), jump(0)]
MISSES = [mmap(BASE, SLOT), uffd_register(BASE, SLOT, 1000), read(BASE, PAGE_SIZE), munmap(BASE, SLOT), jump(0)]
FILLS = [mmap(BASE, SLOT), uffd_register(BASE, SLOT), uffd_copy(BASE, PAGE_SIZE, 7), munmap(BASE, SLOT), jump(0)]
BESIDE = [mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), uffd_register(BASE + PAGE_SIZE, PAGE_SIZE)]
BESIDE += [mmap(BASE + SLOT, SLOT), touch(BASE + SLOT, PAGE_SIZE), uffd_move(BASE + SLOT, PAGE_SIZE, BASE + PAGE_SIZE)]
BESIDE += [jump(0)]
TRIES = [mmap(BASE, SLOT), touch(BASE, 2 * PAGE_SIZE), dontneed(BASE, PAGE_SIZE), jump(0)]
ASKS = [mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), dontneed(BASE, SLOT), FREE_PTES, munmap(BASE, SLOT), jump(0)]
RESTS = [mmap(BASE, 2 * SLOT), barrier(), touch(BASE, PAGE_SIZE), dontneed(BASE, SLOT), compute(20_000), jump(2)]
RESTLESS = [barrier(), touch(BASE + SLOT, PAGE_SIZE), dontneed(BASE + SLOT, SLOT), jump(1)]
POPULATES = [advise(MADV_POPULATE_READ, BASE, PAGE_SIZE), jump(0)]


def _then(insn: Insn) -> list[Insn]:
    """Do it again and again to pages that were stored to."""
    return [mmap(BASE, SLOT), touch(BASE, SLOT), insn, munmap(BASE, 2 * SLOT), jump(0)]


class Case(NamedTuple):
    """What stops CPU 0 (or the coordinator) at a point: programs, policy, knobs; and what it must be said to hold.

    Somebody must be stuck behind it, unless the others are `free` to go on.
    """

    programs: tuple[list[Insn], ...] = (FAULTS, FAULTS_TOO)
    holds: tuple[str, ...] = ("mmap_lock of mm 0 for reading",)
    policy: str = "refcount"
    knobs: tuple[str, ...] = ()
    free: bool = False
    coordinator: bool = False
    mm_of_cpu: tuple[int, ...] | None = None
    memcg_limit: int = 0
    swap_pages: int = 0
    settings: tuple[tuple[str, int], ...] = ()


_READING, _WRITING = "mmap_lock of mm 0 for reading", "mmap_lock of mm 0 for writing"
_PTL, _PMD_LOCK, _GATHER = r"ptl of table \d+ \(level 1\)", r"ptl of table \d+ \(level 2\)", "an open mmu_gather"
_MM_LOCK = r"ptl of table 1 \(level 4\)"
_PAGE_LOCK = "the page lock of page 0 of file 0"
_AGENT = Case(holds=(), coordinator=True)

CASES = {  # by point; one that others pass, too, or under another policy, has a name in front
    "fault.mmap-locked": Case((MAPS, MAPS_TOO)),
    "pte_try_get.read-pmd": Case(holds=(_READING, "rcu_read_lock")),
    "pte_try_get.locked": Case(holds=(_READING, _PMD_LOCK), policy="refcount-lock"),
    "pte_try_get.checked": Case(holds=(_READING, "rcu_read_lock"), knobs=("check-then-increment",)),
    "pte_try_get.pinned": Case(),
    "pte_ref.read": Case(knobs=("plain-count",)),
    "pmd_install.locked": Case(holds=(_READING, _PMD_LOCK)),
    "pmd_install.published": Case(holds=(_READING, _PMD_LOCK), knobs=("publish-before-init",)),
    "set_pte.locked": Case(holds=(_READING, _PTL)),
    "set_pte.done": Case(holds=(_READING, _PTL)),
    "fault.pmd-none": Case((READS_FILE, MAPS_TOO)),
    "map_pages.unpinned": Case((READS_FILE, MAPS_TOO)),
    "map_pages.counted": Case((READS_FILE, MAPS_TOO)),
    "fault.retrying": Case((STORES_FILE, STORES_FILE), ("no lock",), free=True),
    "page.locked": Case((WRITES_BACK, STORES_FILE), (_PAGE_LOCK,)),
    "page.gone": Case(([*STORES_FILE[:2], punch_hole(0, 0, 1), jump(1)], STORES_FILE), (_PAGE_LOCK, "the inode lock")),
    "finish_fault.page-locked": Case((READS_FILE, STORES_FILE), (_READING, _PAGE_LOCK)),
    "memcg.charging": Case((READS_FILE, MAPS_TOO), memcg_limit=1),
    "writeback.collected": Case((WRITES_BACK, STORES_FILE), ("under write-back",)),
    "writeback.submitting": Case((WRITES_BACK, STORES_FILE), ("under write-back",)),
    "truncate.unmapped": Case(([truncate(0, 1), truncate(0, 9), jump(0)],) * 2, ("the inode lock of file 0",)),
    "zap.locked": Case(holds=(_READING, _PTL, _GATHER)),
    "unhook.locked": Case(holds=(_READING, _PMD_LOCK, _GATHER), policy="pt-reclaim-any"),
    "async-scan@unhook.locked": Case((RESTS, RESTLESS), (_READING, _PMD_LOCK), "async-scan"),
    "zap.pmd-cleared": Case(holds=(_READING, _PTL, _GATHER), policy="pt-reclaim"),
    "pte_lock.read-pmd": Case(holds=(_READING, "rcu_read_lock"), policy="none-rcu"),
    "pte_lock.mm-locked": Case(holds=(_READING, _MM_LOCK), policy="pmap-mutex"),
    "htable.found": Case(holds=(_READING, r"htable lock \d+"), policy="htable"),
    "htable.unlinked": Case(holds=(_READING, r"htable lock \d+", _GATHER), policy="htable"),
    "htable.kept": Case(holds=(_READING, _GATHER), policy="htable"),
    "percpu_ref.mode": Case(holds=(_READING, "rcu_read_lock"), policy="percpu-ref"),
    "percpu_ref.switching": Case(holds=(_READING, _GATHER), policy="percpu-ref"),
    "percpu_ref.unpinned": Case((TRIES, TRIES), (_READING, _GATHER), "percpu-ref", settings=(("switch_back", 1),)),
    "percpu_ref.cleared": Case(holds=(_READING, _PMD_LOCK, _GATHER), policy="percpu-ref"),
    "pmap.emptied": Case(holds=(_READING, _MM_LOCK, _GATHER), policy="pmap-mutex"),
    "pmap.unhooked": Case(holds=(_READING, _MM_LOCK, _GATHER), policy="pmap-mutex"),
    "free_ptes.found": Case((ASKS, MAPS_TOO), policy="two-counter-safe"),
    "free_ptes.cleared": Case((ASKS, MAPS_TOO), policy="two-counter-safe"),
    "corten.stray": Case(holds=(_READING, _GATHER), policy="corten"),
    "xnu.unhooked": Case(holds=(_READING, "the lock of the tables of mm 0", _GATHER), policy="xnu-ptd"),
    "xnu.waiting": Case(holds=(_READING, _GATHER), policy="xnu-ptd"),
    "upper.unhooked": Case(holds=(_WRITING,), policy="scan-eager"),
    "zap.cleared": Case(holds=(_READING, _GATHER)),
    "pte_put.dropped": Case(),
    "free_pte_table.zero": Case(holds=(_READING, _GATHER)),
    "free_pte_table.checked": Case(holds=(_READING, _PMD_LOCK, _GATHER)),
    "free_pte_table.unhooked": Case(holds=(_READING, _GATHER)),
    "gather.unflushed": Case(holds=(_READING, _GATHER)),
    "gather.flushed": Case(holds=(_READING, _GATHER)),
    "table.freed": Case((MAPS, MAPS_TOO), ("mmap_lock of mm 0 for", _GATHER), policy="none"),
    "call_rcu.queued": Case(holds=(_READING, _GATHER)),
    "flush.requested": Case(holds=(_READING, _GATHER)),
    "ipi.taken": Case(holds=()),
    "ipi.flushed": Case(holds=()),
    "walk.cached": Case(holds=("no lock",)),
    "walk.tables": Case(holds=("no lock",)),
    "access.translated": Case(holds=("no lock",)),
    "mincore.walking": Case(
        ([mmap(BASE, SLOT), touch(BASE, PAGE_SIZE), mincore(BASE, SLOT), munmap(BASE, SLOT), jump(0)], MAPS_TOO)
    ),
    "mprotect.changed": Case((_then(mprotect(BASE, SLOT, "r")), MAPS_TOO), (_WRITING, _PTL, _GATHER)),
    "guard.installed": Case((_then(advise(MADV_GUARD_INSTALL, BASE, SLOT)), MAPS_TOO), (_READING, _PTL)),
    "mremap.moved": Case((_then(mremap_fixed(BASE, PAGE_SIZE, BASE + SLOT)), MAPS_TOO), (_WRITING, _PTL)),
    "mremap.unlocked": Case((_then(mremap_fixed(BASE, PAGE_SIZE, BASE + SLOT)), MAPS_TOO), (_WRITING,)),
    "fork.copied": Case((_then(fork()), MAPS_TOO), (_WRITING, _PTL)),
    "fork.unflushed": Case((_then(fork()), MAPS_TOO), (_WRITING,)),
    "mmap.locked": Case((MAPS, MAPS_TOO), (_WRITING,)),
    "munmap.detached": Case((MAPS, MAPS_TOO), (_WRITING,)),
    "munmap.zapped": Case((MAPS, MAPS_TOO), ("mmap_lock of mm 0 for", _GATHER)),
    "munmap.unlinked": Case(
        ([mmap_device(BASE), munmap(BASE, PAGE_SIZE), jump(0)], [mmap(BASE + SLOT, SLOT), jump(0)]),
        ("mmap_lock of mm 0 for", _GATHER),
    ),
    "device.freed": Case(([mmap_device(BASE), DEVICE_REMOVE, jump(0)], MAPS_TOO), ("no lock",)),
    "reclaim.unmapped": Case((SWAPS, FAULTS_TOO), ("page lock", "page of swap|of swap"), swap_pages=64, free=True),
    "swap.page-locked": Case((SWAPS, MAPS_TOO), (_READING, "the page lock of page .* of swap"), swap_pages=64),
    "migration.waiting": Case((MIGRATED, MIGRATES), ("no lock",), free=True),
    "migrate.unmapped": Case((MIGRATES, MIGRATED), ("anonymous page lock",)),
    "migrate.unflushed": Case((MIGRATES, MIGRATED), ("the anon_vma lock",), knobs=("migrate-late-flush",), free=True),
    "gup.unpinned": Case((POPULATES, MIGRATES), (_READING,), knobs=("wait-after-put",)),
    "gup.read-pud": Case((USES, ELSEWHERE), ("no lock",)),
    "gup.read-pmd": Case((USES, ELSEWHERE), ("no lock",)),
    "gup.read-pte": Case((USES, ELSEWHERE), ("no lock",)),
    "gup.pinned": Case((USES, ELSEWHERE), ("no lock",)),
    "gup.used": Case((USES, ELSEWHERE), ("no lock",)),
    "hugetlb.unshared": Case((SHARES, MAPS_TOO), ("mmap_lock of mm 0 for", _GATHER)),
    "huge.installed": Case((HUGE, ELSEWHERE)),
    "huge.split": Case((HUGE, ELSEWHERE)),
    "collapse.scanned": Case((COLLAPSES, ELSEWHERE), (_WRITING,), knobs=("collapse-stale-scan",)),
    "collapse.unhooked": Case((COLLAPSES, ELSEWHERE), (_WRITING, "the anon_vma lock")),
    "collapse.isolated": Case((COLLAPSES, ELSEWHERE), (_WRITING, "the anon_vma lock")),
    "retract.empty": Case((RETRACTS, ELSEWHERE), (_WRITING, "the anon_vma lock"), policy="none"),
    "mincore.read-pmd": Case((_then(mincore(BASE, SLOT)), MAPS_TOO)),
    "pagewalk.upper": Case((_then(smaps(BASE, SLOT)), MAPS_TOO)),
    "mremap.table": Case((_then(mremap_fixed(BASE, SLOT, BASE + SLOT)), MAPS_TOO), (_WRITING,)),
    "uffd.waiting": Case((MISSES, ELSEWHERE), ("no lock",), free=True),
    "uffd.looked": Case((MISSES, ELSEWHERE), knobs=("uffd-seq-late",)),
    "uffd.woken": Case((FILLS, ELSEWHERE), ("no lock",), free=True),
    "uffd.mapped": Case((BESIDE, MAPS_TOO), (_READING, "the anon_vma lock")),
    "alloc.zone-locked": Case(holds=(_READING, "zone lock")),
    "exit.mmap-locked": Case(
        ([mmap(BASE, SLOT), touch(BASE, SLOT), EXIT], [compute(1000), STOP]), (_WRITING,), free=True, mm_of_cpu=(0, 1)
    ),
    "barrier.arrived": Case(([barrier(), jump(0)], [barrier(), compute(200), jump(0)]), ("no lock",)),
    "coordinator.idle": _AGENT,
    "set_pte.given": Case(holds=(_READING,), policy="refcount-transfer"),
    "coordinator.refcache-gone": _AGENT._replace(programs=(RESTS, RESTLESS), policy="refcache"),
    "coordinator.callbacks": _AGENT,
    "coordinator.gp-ended": _AGENT,
    "coordinator.ipis-sent": _AGENT,
    "coordinator.acked": _AGENT,
    "coordinator@table.freed": _AGENT,
    "coordinator@call_rcu.queued": _AGENT._replace(programs=(RESTS, RESTLESS), policy="refcache"),
}


class Outcome(NamedTuple):
    """What came of a stop: the verdict (None if the run ended well), seconds since the stop, what was left behind."""

    verdict: str | None
    seconds: float
    left: list[str]
    stalls: list[str]
    missed: list[str]


def point_of(name: str) -> str:
    """The point of a case."""
    return name.rpartition("@")[2]


def stop(name: str, seconds: float | None, nth: int = 1) -> Outcome:
    """Stop CPU 0 or the coordinator at a point, for `seconds` or for ever, while the programs of its case run."""
    case = CASES[name]
    programs: Any = case.programs
    victim = len(programs) if case.coordinator else 0
    stops = (Stop(victim, point_of(name), nth, seconds),)
    instruments = Instruments(knobs=case.knobs, settings=dict(case.settings), stops=stops)
    verdict = None
    geometry = dataclasses.replace(geometry_for(programs, 2 if case.mm_of_cpu else 1), memcg_limit=case.memcg_limit)
    geometry = dataclasses.replace(geometry, swap_pages=case.swap_pages)
    with Machine(geometry, case.policy, instruments, case.mm_of_cpu) as m:
        m.load_all(programs)
        m.start()
        try:
            if seconds is not None and seconds <= LONGEST_STALL:
                m.run_for(seconds + 1)
                m.stop()
            else:
                m.wait(LIMIT)
        except MachineFailed as failure:
            verdict = str(failure)
        ended = time.monotonic() - int(m.views["cpu"]["stalled_ns"][victim]) / 1e9
    left = [f"process {pid}" for pid in m.pids if process_state(pid)[0] != "X"]
    left += [name for name in os.listdir("/dev/shm") if f"ptelab-{os.getpid()}-" in name]
    return Outcome(verdict, ended, left, m.stops.stalls(), m.stops.missed())
