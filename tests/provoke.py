"""Provoke one detector after the other, each in a process of its own, under the semaphore engine: kernels are Python.

For in_engine: `provoke_all()` gives the detector that fired for each provocation.
"""

from __future__ import annotations

import time
from typing import Any

import support

from emulator.checks import audit
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.tlb import psc_fill, tlb_fill
from emulator.fault import file_fault
from emulator.huge.huge_memory import pgtable_trans_huge_withdraw
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.locking.spinlock import PMD_LOCK, PTE_LOCK, ZONE_LOCK, pmd_lock, spin_lock, spin_unlock
from emulator.mm_types import TABLES, Geometry
from emulator.pages.page_alloc import alloc_slowpath, free_table, put_page
from emulator.pages.pagemap import delete_from_page_cache, lock_page
from emulator.pages.swap_state import swap_free
from emulator.pages.vma import vmas_lock
from emulator.pgtable import entry_at, mm_inc_nr_tables
from emulator.pgtable_types import PRESENT, RW
from emulator.policy import pte_alloc
from emulator.syscalls.mmap import check_mm
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import account_rcu_age, rcu_read_lock
from emulator.walks.gup_fast import gup_pte_range
from emulator.walks.pagewalk import walk_pte
from emulator.walks.task_mmu import clear_pte_bits
from emulator.watch.bugs import Bug
from emulator.watch.shadow import (
    check_psc,
    check_tlb,
    shadow_load,
    shadow_move,
    shadow_moved,
    shadow_release,
    shadow_share,
    shadow_store,
)
from workers.instruments import Instruments
from workers.machine import Machine
from workers.processes import fork
from workers.programs.program import STOP, mmap_file, touch

ADDR, OTHER = 0x40_0000, 0x80_0000
CPU, MM, TABLE, FRAME = 0, 0, 9, 7


def entry(frame: int) -> int:
    """A present, writable PTE."""
    return frame << 12 | PRESENT | RW


def lock_order(m: Any) -> None:
    """PTE lock inside the zone lock, then the other way round."""
    for outer, inner in ((PTE_LOCK, ZONE_LOCK), (ZONE_LOCK, PTE_LOCK)):
        spin_lock(m, CPU, m.ptdesc.ptl, 3, outer)
        spin_lock(m, CPU, m.ptdesc.ptl, 4, inner)
        spin_unlock(m, CPU, m.ptdesc.ptl, 4, inner)
        spin_unlock(m, CPU, m.ptdesc.ptl, 3, outer)


def longer_lock_order(m: Any) -> None:
    """PMD inside PTE, zone inside PMD, PTE inside zone: no two alone are wrong."""
    for outer, inner in ((PTE_LOCK, PMD_LOCK), (PMD_LOCK, ZONE_LOCK), (ZONE_LOCK, PTE_LOCK)):
        spin_lock(m, CPU, m.ptdesc.ptl, 3, outer)
        spin_lock(m, CPU, m.ptdesc.ptl, 4, inner)
        spin_unlock(m, CPU, m.ptdesc.ptl, 4, inner)
        spin_unlock(m, CPU, m.ptdesc.ptl, 3, outer)


def bad_mm_at_exit(m: Any) -> None:
    """A table too many in VmPTE."""
    mm_inc_nr_tables(m, MM)
    check_mm(m, CPU, MM)


def mmap_lock_held_for_reading(m: Any) -> None:
    """VMAs are changed under mmap_lock for reading."""
    mmap_read_lock(m, CPU, MM)
    vmas_lock(m, CPU, MM)


def sleep_under_ptl(m: Any) -> None:
    """A page lock is taken under a spinlock."""
    spin_lock(m, CPU, m.ptdesc.ptl, 3, PTE_LOCK)
    lock_page(m, CPU, 0)


def sleep_in_read_section(m: Any) -> None:
    """Memory is allocated inside of rcu_read_lock."""
    rcu_read_lock(m, CPU)
    alloc_slowpath(m, CPU, TABLES)


def flush_in_read_section(m: Any) -> None:
    """A flush waits for others inside of rcu_read_lock."""
    rcu_read_lock(m, CPU)
    flush_tlb_mm_range(m, CPU, MM, ADDR, OTHER, 0)


def lock_recursion(m: Any) -> None:
    """Two locks of one class."""
    spin_lock(m, CPU, m.ptdesc.ptl, 3, PTE_LOCK)
    spin_lock(m, CPU, m.ptdesc.ptl, 4, PTE_LOCK)


def foreign_contents(m: Any) -> None:
    """One frame serves two addresses."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 1)
    shadow_load(m, CPU, MM, OTHER, entry(FRAME), 1)


def foreign_store(m: Any) -> None:
    """A store into a frame of another address."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 1)
    shadow_store(m, CPU, MM, OTHER, entry(FRAME), 1)


def lost_store(m: Any) -> None:
    """A word reads zero that was stored, and nobody released it."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME + 1), 0)


def changed_word(m: Any) -> None:
    """A private word reads what this CPU stored before the last time."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 6)
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 6)


def value_never_stored(m: Any) -> None:
    """Two CPUs have stored to a page; it reads a third value."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_store(m, CPU + 1, MM, ADDR, entry(FRAME), 6)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 6)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 9)


def store_to_shared(m: Any) -> None:
    """A store into a frame that fork has shared."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_share(m, FRAME, ADDR)
    shadow_load(m, CPU, MM + 1, ADDR, entry(FRAME), 5)
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 6)


def shared_elsewhere(m: Any) -> None:
    """A shared frame is read at another address than it was shared at."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_share(m, FRAME, ADDR)
    shadow_load(m, CPU, MM + 1, OTHER, entry(FRAME), 5)


def moved_away(m: Any) -> None:
    """A frame that was moved, through its old address: lawful until the flush."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_move(m, FRAME)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_load(m, CPU, MM, OTHER, entry(FRAME), 5)
    shadow_moved(m, MM, FRAME, OTHER)
    shadow_load(m, CPU, MM, OTHER, entry(FRAME), 5)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 5)


def stale_after_dontneed(m: Any) -> None:
    """The old contents after this CPU's own release."""
    shadow_store(m, CPU, MM, ADDR, entry(FRAME), 5)
    shadow_release(m, CPU, MM, ADDR, ADDR + 4096)
    shadow_load(m, CPU, MM, ADDR, entry(FRAME), 5)


def tlb_hit_freed_frame(m: Any) -> None:
    """The frame goes after the translation was cached."""
    tlb_fill(m, CPU, ADDR, entry(FRAME))
    m.page.generation[FRAME] += 1
    check_tlb(m, CPU, ADDR, entry(FRAME))


def freed_walk(m: Any, cached: bool) -> None:
    """The table goes after its pmd was read."""
    m.ptdesc.state[TABLE] = 2
    psc_fill(m, CPU, ADDR, TABLE)
    m.ptdesc.generation[TABLE] += 1
    check_psc(m, CPU, ADDR, TABLE, cached)


def retry_bound(m: Any) -> None:
    """A pmd that names a dying table for ever."""
    pte_alloc._RETRIES_BUG = 50
    m.config.pin[0] = 3
    m.entry[512 * TABLE] = entry(TABLE + 1)
    pte_alloc.pte_alloc_try_get_slow(m, CPU, MM, 512 * TABLE)


def freed_under_reader(m: Any) -> None:
    """A table's memory came back during the section."""
    rcu_read_lock(m, CPU)
    m.ptdesc.generation[TABLE] += 1
    account_rcu_age(m, CPU, TABLE, 0)


def old_under_reader(m: Any) -> None:
    """Two grace periods have ended since the removal."""
    rcu_read_lock(m, CPU)
    m.ptdesc.state[TABLE] = 4
    m.rcu.gp_completed[0] = 2
    account_rcu_age(m, CPU, TABLE, 0)


def frame_double_free(m: Any) -> None:
    """The last put of a frame that is mapped."""
    m.page.refcount[FRAME] = m.page.mapcount[FRAME] = 1
    put_page(m, CPU, FRAME)


def clear_without_gather(m: Any) -> None:
    """Bits of an entry are cleared, and nobody will flush."""
    spin_lock(m, CPU, m.ptdesc.ptl, TABLE, PTE_LOCK)
    clear_pte_bits(m, CPU, entry_at(TABLE, 0), ADDR, RW)


def deposit_missing(m: Any) -> None:
    """A table is withdrawn that nobody deposited."""
    pmd_lock(m, CPU, entry_at(TABLE, 0))
    pgtable_trans_huge_withdraw(m, CPU, entry_at(TABLE, 0))


def swap_count(m: Any) -> None:
    """A slot that nothing names is freed."""
    swap_free(m, CPU, 0)


PROVOCATIONS = {
    "swap_count": swap_count,
    "unlock": lambda m: spin_unlock(m, CPU, m.ptdesc.ptl, 3, PTE_LOCK),
    "mmap_unlock": lambda m: mmap_read_unlock(m, CPU, MM),
    "lock_order": lock_order,
    "longer_lock_order": longer_lock_order,
    "lock_recursion": lock_recursion,
    "mmap_lock_not_held": lambda m: pmd_alloc(m, CPU, MM, ADDR),
    "mmap_lock_held_for_reading": mmap_lock_held_for_reading,
    "ptl_not_held": lambda m: walk_pte(m, CPU, 0, entry_at(TABLE, 0), ADDR),
    "pmd_lock_not_held": lambda m: pgtable_trans_huge_withdraw(m, CPU, entry_at(TABLE, 0)),
    "page_lock_not_held": lambda m: delete_from_page_cache(m, CPU, 0),
    "sleep_under_ptl": sleep_under_ptl,
    "sleep_in_read_section": sleep_in_read_section,
    "flush_in_read_section": flush_in_read_section,
    "age_outside_of_read_section": lambda m: account_rcu_age(m, CPU, TABLE, 0),
    "walk_with_interrupts_on": lambda m: gup_pte_range(m, CPU, entry_at(TABLE, 0), entry(FRAME), ADDR, 0),
    "clear_without_gather": clear_without_gather,
    "frame_count": lambda m: put_page(m, CPU, FRAME),
    "frame_double_free": frame_double_free,
    "table_double_free": lambda m: free_table(m, CPU, TABLE),
    "bad_mm_at_exit": bad_mm_at_exit,
    "deposit_missing": deposit_missing,
    "foreign_contents": foreign_contents,
    "foreign_store": foreign_store,
    "lost_store": lost_store,
    "changed_word": changed_word,
    "value_never_stored": value_never_stored,
    "store_to_shared": store_to_shared,
    "shared_elsewhere": shared_elsewhere,
    "moved_away": moved_away,
    "stale_after_dontneed": stale_after_dontneed,
    "tlb_hit_freed_frame": tlb_hit_freed_frame,
    "psc_hit_freed_table": lambda m: freed_walk(m, True),
    "walk_freed_table": lambda m: freed_walk(m, False),
    "retry_bound": retry_bound,
    "freed_under_reader": freed_under_reader,
    "old_under_reader": old_under_reader,
}


def provoke(action: Any, online: bool = True) -> str:
    """Run one provocation in a process of its own: the detector that fired, or `none`."""
    with Machine(Geometry(cpus=2, swap_pages=1), "none", Instruments(online=online)) as machine:
        process = fork().Process(target=action, args=(machine.m,), daemon=True)
        process.start()
        deadline = time.monotonic() + 20
        while machine.views["run"]["bug"][0] == 0 and process.is_alive() and time.monotonic() < deadline:
            process.join(0.005)
        process.kill()
        process.join()
        return Bug(int(machine.views["run"]["bug"][0])).detector


def provoke_all() -> dict[str, str]:
    """Every provocation: its name -> the detector that fired."""
    return {name: provoke(action) for name, action in PROVOCATIONS.items()}


def leaked() -> dict[str, int]:
    """The audit after a fault that left its table behind."""
    programs = [[mmap_file(support.BASE, 4096, 0), touch(support.BASE, 4096), STOP]]
    geometry = support.geometry_for(programs)
    with Machine(geometry, "refcount") as machine:
        file_fault.free_table = lambda m, cpu, table: None
        machine.m.file.size[0] = 0  # a bus error: what was preallocated is not needed
        support.run_programs(machine, programs)
        return {name: count for name, count in audit(machine.views, geometry).items() if count}
