"""What the explorer proves of the protocol: a sentence, the smallest scene in which it could fail, and a broken twin.

The twin is the same scene with one knob on; it must fail, by one of the detectors named, or the proof proves nothing.
`bound` is the most preemptions of one execution; None tries all interleavings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from emulator.pgtable import pgtable_of, pmd_lookup
from scenarios.zoo.bodies import (
    CACHED,
    EMPTY,
    LAZYFREE,
    ONE_ENTRY,
    access,
    around,
    at_once,
    fault,
    read_nested,
    reclaim,
    walk,
    zap,
    zap_then_fault,
)
from scenarios.zoo.race import BASE, PAGE, SLOT, load_race
from workers.programs.program import STOP, dontneed, mincore, mmap, touch
from workers.programs.scene import Scene


@dataclass(frozen=True)
class Claim:
    """One claim. `crashes` lets the coordinator die, in turn, behind each of its steps; the twin of a claim about a
    memory model must show nothing under the models of `spared`."""

    sentence: str
    scene: Scene
    knob: str
    detectors: tuple[str, ...]
    source: str
    policy: str = "refcount"
    settings: Mapping[str, int] = field(default_factory=dict)
    memory: str = "sc"
    spared: tuple[str, ...] = ()
    bound: int | None = None
    crashes: bool = False


def freed_once(m: Any) -> None:
    """The table is gone, by one CPU's hand."""
    freed = sum(m.cpu.tables_freed[cpu] for cpu in range(m.config.n_cpu[0]))
    if m.entry[pmd_lookup(m, 0, BASE)] != 0 or freed != 1:
        raise AssertionError(f"the table's last user is gone, and it was freed {freed} times")


def counted(m: Any) -> None:
    """The table at the pmd, if any, has as many references as entries."""
    table = pgtable_of(m.entry[pmd_lookup(m, 0, BASE)])
    entries = sum(m.entry[table << 9 | i] != 0 for i in range(4)) if table else 0
    if table and (m.ptdesc.pte_refcount[table] != entries or entries == 0):
        raise AssertionError(f"table {table} has {entries} entries and count {m.ptdesc.pte_refcount[table]:#x}")


READER_SEES = ("freed-under-rcu-reader", "count-saturated", "table-use-after-free")
COUNT = ("count-underflow", "count-from-zero", "count-saturated", "claim-broken")
CLAIMS = {
    "zero-is-absorbing": Claim(
        "a count that was zero is never raised",
        at_once(ONE_ENTRY, walk, zap, end=freed_once),
        "check-then-increment",
        ("count-from-zero",),
        "patch 5: pte_get_unless_zero",
    ),
    "last-put-frees-once": Claim(
        "whoever takes the last reference away frees the table, nobody else does, and nobody does it twice",
        at_once(ONE_ENTRY, walk, zap, end=freed_once),
        "plain-count",
        (*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        "patch 5: pte_put",
    ),
    "pinned-pmd-is-stable": Claim(
        "between a visitor's get and its put the pmd names the table it pinned",
        at_once(CACHED, around, zap, end=counted),
        "count-late",
        ("pmd-changed-under-pin", "freed-table-not-empty", *COUNT),
        "patches 5 and 6; the lemma at the head of pte_ref.py",
    ),
    "install-against-dying-table": Claim(
        "a freer clears the pmd of its own table, never of the one that was installed after it",
        at_once(ONE_ENTRY, walk, zap_then_fault, end=counted),
        "pmd-recheck-only",
        ("table-double-free", "pmd-changed-under-pin"),
        "patch 5: pte_install_try_get; D10",
        settings={"any_zero_frees": 1},
        bound=2,
    ),
    "two-zappers-and-a-fault": Claim(
        "two zaps and a fault on one table leave a table with its entry, or none",
        at_once(ONE_ENTRY, zap, zap, partial(fault, page=1), end=counted),
        "plain-count",
        (*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        "patch 5: zap_pte_range",
        bound=1,
    ),
    "reclaim-puts-last": Claim(
        "reclaim that forgets the last page of a table frees it, unless a fault has come to it, with no mmap_lock",
        at_once(LAZYFREE, reclaim, partial(fault, page=1), end=counted),
        "plain-count",
        (*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        "patch 5: page_vma_mapped_walk, try_to_unmap_one",
        bound=2,
    ),
    "swap-entry-counts": Claim(
        "a page that reclaim takes while a fault wants it is mapped, or in swap, and its entry counted once",
        at_once(ONE_ENTRY, reclaim, access, end=counted, swap_pages=1),
        "swap-uncounted",
        ("freed-table-not-empty", "count-underflow", "pmd-changed-under-pin", "claim-broken"),
        "patch 5: try_to_unmap_one, do_swap_page",
        bound=2,
    ),
    "two-installs": Claim(
        "of two faults on one empty pmd one installs, the other uses that table, and both entries are counted",
        at_once(EMPTY, fault, partial(fault, page=1), end=counted),
        "publish-before-init",
        ("count-saturated", "table-use-after-free", "claim-broken", "count-underflow"),
        "patch 2: pmd_install; D1",
    ),
    "table-outlives-its-readers": Claim(
        "a table that a lockless walker has found is not freed before the walker has left its read section",
        at_once(ONE_ENTRY, walk, zap, coordinator=True),
        "no-grace-period",
        READER_SEES,
        "patch 6: pte_free_rcu",
        bound=1,
    ),
    "nested-readers": Claim(
        "a grace period waits for the outermost read section, whatever is left and whatever is reported inside of it",
        at_once(ONE_ENTRY, zap, read_nested, coordinator=True),
        "gp-ignores-reader",
        READER_SEES,
        "rcu_read_lock, QSBR; patch 6 rests on it",
        bound=1,
    ),
    "flush-before-free": Claim(
        "no CPU translates to a frame that was freed: the gather frees behind the flush",
        load_race("no-flush")[0].scene,
        "no-flush",
        ("tlb-hit-freed-frame", "stale_tlb"),
        "patch 7: tlb_remove_table, tlb_finish_mmu",
        bound=1,
    ),
    "walk-cache-flushed": Claim(
        "no CPU walks through its paging-structure cache to a table that was freed",
        load_race("leaf-only-flush")[0].scene,
        "leaf-only-flush",
        ("psc-hit-freed-table",),
        "patch 7: tlb->freed_tables",
        bound=2,
    ),
    "crash-loses-no-table": Claim(
        "a coordinator that dies at any step loses no table and leaves nobody waiting for it",
        Scene(
            (mmap(BASE - SLOT, 2 * SLOT), touch(BASE - SLOT, PAGE), touch(BASE, PAGE), STOP),
            ((dontneed(BASE - SLOT, PAGE), dontneed(BASE, PAGE), STOP), (mincore(BASE, PAGE), STOP)),
        ),
        "callbacks-in-hand",
        ("tables", "limbo"),
        "recovery.py",
        bound=0,
        crashes=True,
    ),
    "crash-while-freeing": Claim(
        "the same for one CPU that frees two tables, and one preemption",
        Scene(
            (mmap(BASE - SLOT, 2 * SLOT), touch(BASE - SLOT, PAGE), touch(BASE, PAGE), STOP),
            ((dontneed(BASE - SLOT, PAGE), dontneed(BASE, PAGE), STOP),),
        ),
        "callbacks-in-hand",
        ("tables", "limbo"),
        "recovery.py",
        bound=1,
        crashes=True,
    ),
    "publication-has-its-barrier": Claim(
        "whoever finds a table at the pmd finds its count and its zeroes, too, in whatever order stores reach memory",
        at_once(EMPTY, fault, walk),
        "no-publish-wmb",
        ("count-saturated", "table-use-after-free"),
        "patch 3: smp_wmb before pmd_populate",
        memory="pso",
        spared=("sc", "tso"),
        bound=1,
    ),
    "one-barrier-is-enough": Claim(
        "no barrier is needed where a table is allocated: fault-around and a fault publish theirs by the same one",
        at_once(CACHED, around, walk),
        "no-publish-wmb",
        ("count-saturated", "table-use-after-free"),
        "patch 3: the smp_wmb it removes from __pte_alloc and alloc_set_pte",
        memory="pso",
        spared=("sc", "tso"),
        bound=1,
    ),
}
