"""Scenes whose CPUs call kernels directly, with mmap_lock held notionally: the less happens, the more can be tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from emulator.atomic import read_once, smp_store_release
from emulator.engines.explore import world
from emulator.fault.filemap import map_cached_range
from emulator.fault.memory import handle_mm_fault, handle_pte_fault
from emulator.fault.zap import zap_page_range
from emulator.huge.khugepaged import collapse_one
from emulator.pages.vma import find_vma
from emulator.pgtable import pgtable_of, pmd_lookup
from emulator.policy.async_scan import scan_mm
from emulator.policy.pte_alloc import pte_alloc_try_get
from emulator.policy.pte_ref import policy_boundary, policy_demand, pte_put
from emulator.rmap_walks.anon_reclaim import pageout_page
from emulator.tables.mmu_gather import ZAP_RECLAIM
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import account_rcu_age, cond_resched, rcu_read_lock, rcu_read_unlock
from emulator.uapi import MADV_COLLAPSE
from emulator.walks.gup_fast import use_page
from emulator.walks.mincore import mincore_pmd
from scenarios.zoo.race import BASE, PAGE, SLOT
from workers.programs.program import STOP, advise, dontneed, free, mmap, mmap_file, read, swapout, touch
from workers.programs.scene import Scene

Body = Callable[[Any, int], Any]  # of m and the CPU
EMPTY = (mmap(BASE, SLOT), touch(BASE, PAGE), dontneed(BASE, PAGE), STOP)  # leaves an empty pmd, and a poisoned table
CACHED = (mmap_file(BASE, SLOT, 0), read(BASE, 2 * PAGE), dontneed(BASE, 2 * PAGE), STOP)  # the same, of a file
ONE_ENTRY = (mmap(BASE, SLOT), touch(BASE, PAGE), STOP)
TWO_ENTRIES = (mmap(BASE, SLOT), touch(BASE, 2 * PAGE), STOP)
# A table without an entry, whose count reclaim left at zero where a zero frees nothing (percpu_ref).
ZERO = (*TWO_ENTRIES[:-1], dontneed(BASE, PAGE), free(BASE + PAGE, PAGE), swapout(8), STOP)
# One page, and a free block of frames.
BLOCK = (
    mmap(BASE, SLOT),
    touch(BASE, PAGE),
    advise(MADV_COLLAPSE, BASE, SLOT),
    dontneed(BASE, SLOT),
    touch(BASE, PAGE),
    STOP,
)
LAZYFREE = (*ONE_ENTRY[:-1], free(BASE, PAGE), STOP)  # reclaim may forget the page, and the table with it


def always(field: Any, i: int, value: int) -> None:
    """Let a word hold a value when an execution begins: it always did, and this is no store of the execution."""
    world.mem[field.base + i] = value


def at_once(
    setup: tuple[Any, ...],
    *bodies: Body,
    coordinator: bool = False,
    end: Callable[[Any], None] | None = None,
    frames: int = 128,
    swap_pages: int = 0,
    begin: Callable[[Any], None] | None = None,
) -> Scene:
    """Kernels that run at once, each on a CPU of its own, as kernel threads do: lazy, so that no flush needs them.

    Without a coordinator no grace period ends: what is freed stays in limbo. `begin` puts more words as they are then.
    """

    def tasks(m: Any) -> list[Callable[[], Any]]:
        for cpu in range(len(bodies)):
            always(m.cpu.lazy, cpu, 1)
        if begin is not None:
            begin(m)
        return [partial(body, m, cpu) for cpu, body in enumerate(bodies)]

    return Scene(
        setup,
        bodies=tasks,
        cpus=len(bodies),
        coordinator=coordinator,
        end=end,
        frames=frames,
        swap_pages=swap_pages,
    )


def zap(m: Any, cpu: int) -> None:
    """MADV_DONTNEED of the first page."""
    zap_page_range(m, cpu, 0, BASE, BASE + PAGE, 0)


def fault(m: Any, cpu: int, page: int = 0) -> None:
    """A read fault on a page."""
    addr = BASE + page * PAGE
    handle_pte_fault(m, cpu, 0, find_vma(m, 0, addr), pmd_alloc(m, cpu, 0, addr), addr, 0)


def access(m: Any, cpu: int) -> None:
    """A read fault on the first page that takes mmap_lock, and drops it where it has to wait."""
    handle_mm_fault(m, cpu, 0, BASE, 0)


def reclaim(m: Any, cpu: int) -> None:
    """Reclaim of the first page."""
    pageout_page(m, cpu, 0, BASE, BASE + PAGE)


def walk(m: Any, cpu: int) -> None:
    """A walker that pins the table, looks at the first entry and puts."""
    mincore_pmd(m, cpu, 0, find_vma(m, 0, BASE), pmd_lookup(m, 0, BASE), BASE, BASE + PAGE)


def around(m: Any, cpu: int) -> None:
    """Fault-around of two pages of a file."""
    pmd = pmd_alloc(m, cpu, 0, BASE)
    table = pte_alloc_try_get(m, cpu, 0, pmd)
    map_cached_range(m, cpu, 0, find_vma(m, 0, BASE), pmd, table, BASE, BASE + 2 * PAGE)
    pte_put(m, cpu, 0, pmd, BASE)


def walk_then_fault(m: Any, cpu: int) -> None:
    """A walker, then a fault on the page it has looked at."""
    walk(m, cpu)
    fault(m, cpu)


def zap_then_fault(m: Any, cpu: int) -> None:
    """MADV_DONTNEED, then a fault in the same slot."""
    zap(m, cpu)
    fault(m, cpu, 1)


def rest_then_fault(m: Any, cpu: int) -> None:
    """Two moments between instructions, in no table, then a fault beside the first page."""
    policy_boundary(m, cpu)
    policy_boundary(m, cpu)
    fault(m, cpu, 1)


def zap_slot(m: Any, cpu: int) -> None:
    """MADV_DONTNEED of the whole slot."""
    zap_page_range(m, cpu, 0, BASE, BASE + SLOT, ZAP_RECLAIM)


def release(m: Any, cpu: int) -> None:
    """MADV_DONTNEED of the first page, as the system call has it."""
    zap_page_range(m, cpu, 0, BASE, BASE + PAGE, ZAP_RECLAIM)


def zap_then_ask(m: Any, cpu: int) -> None:
    """MADV_DONTNEED, then somebody asks for empty tables."""
    zap(m, cpu)
    policy_demand(m, cpu, 0)


def scan(m: Any, cpu: int) -> None:
    """The asynchronous scan of the mm."""
    scan_mm(m, cpu, 0)


def use(m: Any, cpu: int) -> None:
    """A device pins the first page and stores to it. Nobody need flush this CPU, also after it has slept."""
    smp_store_release(m.cpu.mm, cpu, -1)
    use_page(m, cpu, 0, BASE, 7)


def collapse(m: Any, cpu: int) -> None:
    """MADV_COLLAPSE; this one takes mmap_lock."""
    collapse_one(m, cpu, 0, BASE)


def collapse_then_zap(m: Any, cpu: int) -> None:
    """MADV_COLLAPSE, then MADV_DONTNEED of the huge page."""
    collapse(m, cpu)
    zap_page_range(m, cpu, 0, BASE, BASE + SLOT, 0)


def read_nested(m: Any, cpu: int) -> None:
    """A read section inside another: it finds the table, and it is left in the middle."""
    pmd = pmd_lookup(m, 0, BASE)
    rcu_read_lock(m, cpu)
    rcu_read_lock(m, cpu)
    table = pgtable_of(read_once(m.entry, pmd))
    generation = m.ptdesc.generation[table]
    rcu_read_unlock(m, cpu)
    cond_resched(m, cpu)  # no quiescent state: the outer section is open
    if table != 0:
        account_rcu_age(m, cpu, table, generation)
    rcu_read_unlock(m, cpu)
