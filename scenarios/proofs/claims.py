"""What the explorer proves of the protocol: a sentence, the smallest scene in which it could fail, and a broken twin.

The twin is the same scene with one knob on; it must fail, by one of the detectors named, or the proof proves nothing.
`bound` is the most preemptions of one execution; None tries all interleavings. What is claimed of barriers alone is in
orderings.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from emulator.pgtable import entry_at, pgtable_of, pmd_lookup
from emulator.pgtable_types import FILE, PAGE_SHIFT, PRESENT
from scenarios.proofs.orderings import ORDERINGS
from scenarios.races.review_early import RACE as EARLY
from scenarios.zoo.bodies import (
    CACHED,
    EMPTY,
    LAZYFREE,
    ONE_ENTRY,
    TWO_ENTRIES,
    ZERO,
    access,
    around,
    at_once,
    fault,
    read_nested,
    reclaim,
    release,
    walk,
    walk_then_fault,
    zap,
    zap_slot,
    zap_then_ask,
    zap_then_fault,
)
from scenarios.zoo.race import BASE, PAGE, SLOT, Subject, load_race
from workers.programs.program import STOP, dontneed, mincore, mmap, touch
from workers.programs.scene import Scene


def freed_once(m: Any) -> None:
    """The table is gone, by one CPU's hand."""
    freed = sum(m.cpu.tables_freed[cpu] for cpu in range(m.config.n_cpu[0]))
    if m.entry[pmd_lookup(m, 0, BASE)] != 0 or freed != 1:
        raise AssertionError(f"the table's last user is gone, and it was freed {freed} times")


def counted(m: Any) -> None:
    """The table at the pmd, if any, has as many references as entries."""
    table = pgtable_of(m.entry[pmd_lookup(m, 0, BASE)])
    entries = sum(m.entry[entry_at(table, i)] != 0 for i in range(4)) if table else 0
    if table and (m.ptdesc.pte_refcount[table] != entries or entries == 0):
        raise AssertionError(f"table {table} has {entries} entries and count {m.ptdesc.pte_refcount[table]:#x}")


def counted_plainly(m: Any) -> None:
    """The table at the pmd, if any, has its entries counted, and one at least."""
    pmd = pmd_lookup(m, 0, BASE)
    table = pgtable_of(m.entry[pmd]) if pmd else 0
    entries = sum(m.entry[entry_at(table, i)] != 0 for i in range(4)) if table else 0
    if table and m.ptnote.nr_entries[table] != entries:
        raise AssertionError(f"table {table} has {entries} entries and count {m.ptnote.nr_entries[table]}")


def counted_twice(m: Any) -> None:
    """As counted_plainly, and the second count is of the entries that map the zero page."""
    counted_plainly(m)
    pmd = pmd_lookup(m, 0, BASE)
    table = pgtable_of(m.entry[pmd]) if pmd else 0
    words = [m.entry[entry_at(table, i)] for i in range(4)] if table else []
    zeros = sum(word & PRESENT != 0 and word & FILE == 0 and word >> PAGE_SHIFT == 0 for word in words)
    if table and m.ptnote.policy_word[table] != zeros:
        raise AssertionError(f"table {table} has {zeros} zero pages and count {m.ptnote.policy_word[table]}")


def counted_apart(m: Any) -> None:
    """As counted_plainly, and it has no visitor."""
    counted_plainly(m)
    pmd = pmd_lookup(m, 0, BASE)
    table = pgtable_of(m.entry[pmd]) if pmd else 0
    if table and m.ptdesc.pte_refcount[table] != 0:
        raise AssertionError(f"table {table} has {m.ptdesc.pte_refcount[table]} visitors, and no CPU is there")


def counted_on_cpus(m: Any) -> None:
    """The table at the pmd, if any, has an entry, and as many references on the CPUs."""
    table = pgtable_of(m.entry[pmd_lookup(m, 0, BASE)])
    entries = sum(m.entry[entry_at(table, i)] != 0 for i in range(4)) if table else 0
    words = sum(m.cpu_word[cpu * m.config.cpu_words[0] + table] for cpu in range(m.config.n_cpu[0]))
    if table and (words != entries or entries == 0):
        raise AssertionError(f"table {table} has {entries} entries and {words} references")


READER_SEES = ("freed-under-rcu-reader", "count-saturated", "table-use-after-free")
COUNT = ("count-underflow", "count-from-zero", "count-saturated", "claim-broken")
_CLAIMS = (
    Subject(
        name="claim/zero-is-absorbing",
        text="a count that was zero is never raised",
        scene=at_once(ONE_ENTRY, walk, zap, end=freed_once),
        knob="check-then-increment",
        detectors=("count-from-zero",),
        source="patch 5: pte_get_unless_zero",
    ),
    Subject(
        name="claim/last-put-frees-once",
        text="the CPU that takes the last reference away frees the table, no other does, and it is done once",
        scene=at_once(ONE_ENTRY, walk, zap, end=freed_once),
        knob="plain-count",
        detectors=(*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        source="patch 5: pte_put",
    ),
    Subject(
        name="claim/pinned-pmd-is-stable",
        text="the pmd names the pinned table from a visitor's get to its put",
        scene=at_once(CACHED, around, zap, end=counted),
        knob="count-late",
        detectors=("pmd-changed-under-pin", "freed-table-not-empty", *COUNT),
        source="patches 5 and 6; the lemma at the head of pte_ref.py",
    ),
    Subject(
        name="claim/install-against-dying-table",
        text="a freer clears the pmd of its own table, never of the one that was installed after it",
        scene=at_once(ONE_ENTRY, walk, zap_then_fault, end=counted),
        knob="pmd-recheck-only",
        detectors=("table-double-free", "pmd-changed-under-pin"),
        source="patch 5: pte_install_try_get; D10",
        settings={"any_zero_frees": 1},
        bound=2,
    ),
    Subject(
        name="claim/two-zappers-and-a-fault",
        text="two zaps and a fault on one table leave a table with its entry, or none",
        scene=at_once(ONE_ENTRY, zap, zap, partial(fault, page=1), end=counted),
        knob="plain-count",
        detectors=(*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        source="patch 5: zap_pte_range",
        bound=1,
    ),
    Subject(
        name="claim/reclaim-puts-last",
        text="reclaim that forgets the last page of a table frees it without mmap_lock, unless a fault has come",
        scene=at_once(LAZYFREE, reclaim, partial(fault, page=1), end=counted),
        knob="plain-count",
        detectors=(*COUNT, "pmd-changed-under-pin", "freed-table-not-empty", "table-use-after-free"),
        source="patch 5: page_vma_mapped_walk, try_to_unmap_one",
        bound=2,
    ),
    Subject(
        name="claim/swap-entry-counts",
        text="a page that reclaim takes while a fault wants it is mapped, or in swap, and its entry counted once",
        scene=at_once(ONE_ENTRY, reclaim, access, end=counted, swap_pages=1),
        knob="swap-uncounted",
        detectors=("freed-table-not-empty", "count-underflow", "pmd-changed-under-pin", "claim-broken"),
        source="patch 5: try_to_unmap_one, do_swap_page",
        bound=2,
    ),
    Subject(
        name="claim/two-installs",
        text="of two faults on one empty pmd one installs, the other uses that table, and both entries are counted",
        scene=at_once(EMPTY, fault, partial(fault, page=1), end=counted),
        knob="publish-before-init",
        detectors=("count-saturated", "table-use-after-free", "claim-broken", "count-underflow"),
        source="patch 2: pmd_install; D1",
    ),
    Subject(
        name="claim/one-lock-no-grace-period",
        text="where one lock serves an mm, a table is freed right behind its flush: nobody enters it with an old pmd",
        scene=at_once(ONE_ENTRY, walk, zap, partial(fault, page=1), end=counted_plainly),
        knob="lock-no-pmd-recheck",
        detectors=("table-use-after-free", "pmd-changed-under-pin", "claim-broken", "unlock-not-owner"),
        source="PMAP_LOCK, sys/amd64/amd64/pmap.c",
        policy="pmap-mutex",
        bound=2,
    ),
    Subject(
        name="claim/visitors-keep-their-table",
        text="the last one out sees each visitor that was counted under the lock of the hash",
        scene=at_once(ONE_ENTRY, walk, zap, partial(fault, page=1), end=counted_apart),
        knob="lookup-unlocked",
        detectors=("freed-table-not-empty", "table-use-after-free", "pmd-changed-under-pin", *COUNT),
        source="htable_lookup, uts/i86pc/vm/htable.c",
        policy="htable",
        bound=2,
    ),
    Subject(
        name="claim/switched-count-is-whole",
        text="a count that goes from each CPU to one word is never taken for zero, and is exact then",
        scene=at_once(TWO_ENTRIES, release, walk, coordinator=True),
        knob="percpu-no-bias",
        detectors=("freed-table-not-empty",),
        source="percpu_ref, 13 of 18",
        policy="percpu-ref",
        bound=1,
    ),
    Subject(
        name="claim/zero-frees-its-own-table",
        text="a visitor that meets a count of zero frees that table, never its successor",
        scene=at_once(ZERO, walk, walk_then_fault, end=counted_on_cpus),
        knob="pmd-recheck-only",
        detectors=("freed-table-not-empty", "table-double-free", "table-use-after-free"),
        source="D10; percpu_ref, 13 of 18",
        policy="percpu-ref",
        bound=2,
    ),
    Subject(
        name="claim/two-counts-under-the-lock",
        text="both counts of a table, changed under its ptl alone, are its entries and its zero pages",
        scene=at_once(CACHED, around, zap, end=counted_twice),
        knob="count-late",
        detectors=(*COUNT, "freed-table-not-empty", "pmd-changed-under-pin", "table-use-after-free"),
        source="two counters, 4 and 5 of 7",
        policy="two-counter",
        bound=2,
    ),
    Subject(
        name="claim/asked-for-tables-outlive-their-readers",
        text="a table freed on demand is not freed under a walk by the reverse map",
        scene=at_once(LAZYFREE, reclaim, zap_then_ask, end=counted_plainly),
        knob="free-ptes-at-once",
        detectors=("table-use-after-free", "ptlock-dead", "freed-under-rcu-reader"),
        source="D14; two counters, 6 of 7",
        policy="two-counter-safe",
        bound=1,
    ),
    Subject(
        name="claim/stray-table-stays-empty",
        text="a table that was unhooked and marked gets no entry any more, however long it takes to empty it",
        scene=at_once(ONE_ENTRY, zap_slot, partial(fault, page=1), end=counted_plainly),
        knob="stray-forgotten",
        detectors=("freed-table-not-empty", "table-use-after-free", "claim-broken"),
        source="CortenMM; H36",
        policy="corten",
        bound=1,
    ),
    Subject(
        name="claim/a-last-entry-leaves-a-mark",
        text="a table that goes with its last entry is marked: a fault that waits for it begins again",
        scene=at_once(ONE_ENTRY, zap, partial(fault, page=1), end=counted_plainly),
        knob="stray-forgotten",
        detectors=("freed-table-not-empty", "table-use-after-free", "claim-broken"),
        source="ours, on CortenMM's lock; H36",
        policy="corten-eager",
        bound=2,
    ),
    Subject(
        name="claim/a-scanned-table-stays-empty",
        text="a table that a scan has taken gets no entry: a fault that had found it begins again",
        scene=load_race("scan-without-a-look").scene,
        knob="lock-no-pmd-recheck",
        detectors=("table-use-after-free", "freed-table-not-empty"),
        source="RFC of 2024-06-13, 3 of 3",
        policy="async-scan",
        bound=2,
    ),
    Subject(
        name="claim/upper-tables-go-empty",
        text="a PMD table goes only if none of its 512 entries names a table",
        scene=load_race("upper-first-entry").scene,
        knob="upper-first-entry",
        detectors=("freed-table-not-empty",),
        source="Zircon, x86 page tables; D15",
        policy="scan-eager",
        bound=1,
    ),
    Subject(
        name="claim/walks-that-wire-nothing-are-waited-for",
        text="a table is freed when no rmap walk that could have come to it is under way",
        scene=at_once(LAZYFREE, reclaim, zap, end=counted_plainly),
        knob="free-without-wait",
        detectors=("table-use-after-free", "freed-under-rcu-reader"),
        source="XNU, arm64 pmap; H31",
        policy="xnu-ptd",
        bound=2,
    ),
    Subject(
        name="claim/a-wired-table-stays",
        text="a table that a fault has wired, or set an entry in, stays, though a zap has emptied it",
        scene=at_once(ONE_ENTRY, partial(fault, page=1), zap, walk, end=counted_plainly),
        knob="wired-ignored",
        detectors=("table-use-after-free", "pmd-changed-under-pin", "freed-table-not-empty", *COUNT),
        source="XNU, arm64 pmap",
        policy="xnu-ptd",
        bound=1,
    ),
    Subject(
        name="claim/at-zero-for-an-epoch",
        text="no CPU holds back a reference to a table that was at zero since all added up",
        scene=EARLY.scene,
        knob="review-early",
        detectors=EARLY.detectors,
        source="RadixVM, EuroSys 2013; H35",
        policy="refcache",
        bound=2,
    ),
    Subject(
        name="claim/a-visitor-revives",
        text="a table that somebody has come to since it was seen at zero does not go by that review",
        scene=EARLY.scene,
        knob="revive-ignored",
        detectors=EARLY.detectors,
        source="RadixVM, EuroSys 2013",
        policy="refcache",
        bound=2,
    ),
    Subject(
        name="claim/the-entry-has-the-reference",
        text="a fault whose reference becomes its entry's leaves as many references as entries, and zero stays zero",
        scene=at_once(ONE_ENTRY, partial(fault, page=1), partial(fault, page=1), zap, end=counted),
        knob="transfer-though-lost",
        detectors=COUNT,
        source="ours",
        policy="refcount-transfer",
        bound=2,
    ),
    Subject(
        name="claim/plain-count-under-the-lock",
        text="a plain count that changes under the lock alone is the number of entries",
        scene=at_once(CACHED, around, zap, end=counted_plainly),
        knob="count-late",
        detectors=(*COUNT, "freed-table-not-empty", "pmd-changed-under-pin", "table-use-after-free"),
        source="pmap_unwire_ptp, sys/amd64/amd64/pmap.c; two counters, 4 of 7",
        policy="pmap-mutex",
        bound=2,
    ),
    Subject(
        name="claim/table-outlives-its-readers",
        text="a table that a lockless walker has found is not freed before the walker has left its read section",
        scene=at_once(ONE_ENTRY, walk, zap, coordinator=True),
        knob="no-grace-period",
        detectors=READER_SEES,
        source="patch 6: pte_free_rcu",
        bound=1,
    ),
    Subject(
        name="claim/nested-readers",
        text="a grace period waits for the outermost read section, whatever is left or reported inside of it",
        scene=at_once(ONE_ENTRY, zap, read_nested, coordinator=True),
        knob="gp-ignores-reader",
        detectors=READER_SEES,
        source="rcu_read_lock, QSBR; patch 6 rests on it",
        bound=1,
    ),
    Subject(
        name="claim/flush-before-free",
        text="no CPU translates to a frame that was freed: the gather frees behind the flush",
        scene=load_race("no-flush").scene,
        knob="no-flush",
        detectors=("tlb-hit-freed-frame", "stale_tlb"),
        source="patch 7: tlb_remove_table, tlb_finish_mmu",
        bound=1,
    ),
    Subject(
        name="claim/walk-cache-flushed",
        text="no CPU walks through its paging-structure cache to a table that was freed",
        scene=load_race("leaf-only-flush").scene,
        knob="leaf-only-flush",
        detectors=("psc-hit-freed-table",),
        source="patch 7: tlb->freed_tables",
        bound=2,
    ),
    Subject(
        name="claim/crash-loses-no-table",
        text="a coordinator that dies at any step loses no table and leaves nobody waiting for it",
        scene=Scene(
            (mmap(BASE - SLOT, 2 * SLOT), touch(BASE - SLOT, PAGE), touch(BASE, PAGE), STOP),
            ((dontneed(BASE - SLOT, PAGE), dontneed(BASE, PAGE), STOP), (mincore(BASE, PAGE), STOP)),
        ),
        knob="callbacks-in-hand",
        detectors=("tables", "limbo"),
        source="recovery.py",
        bound=0,
        crashes=True,
    ),
    Subject(
        name="claim/crash-while-freeing",
        text="the same for one CPU that frees two tables, and one preemption",
        scene=Scene(
            (mmap(BASE - SLOT, 2 * SLOT), touch(BASE - SLOT, PAGE), touch(BASE, PAGE), STOP),
            ((dontneed(BASE - SLOT, PAGE), dontneed(BASE, PAGE), STOP),),
        ),
        knob="callbacks-in-hand",
        detectors=("tables", "limbo"),
        source="recovery.py",
        bound=1,
        crashes=True,
    ),
    Subject(
        name="claim/publication-has-its-barrier",
        text="a table found at the pmd has its count and its zeroes, too, in whatever order stores reach memory",
        scene=at_once(EMPTY, walk, fault),  # CPU 1 takes the table that was used before
        knob="no-publish-wmb",
        detectors=("count-saturated", "table-use-after-free"),
        source="patch 3: smp_wmb before pmd_populate",
        memory="pso",
        spared=("sc", "tso"),
        bound=1,
    ),
    Subject(
        name="claim/one-barrier-is-enough",
        text="a new table needs no barrier: fault-around and a fault have the same one",
        scene=at_once(CACHED, walk, around),
        knob="no-publish-wmb",
        detectors=("count-saturated", "table-use-after-free"),
        source="patch 3: the smp_wmb it removes from __pte_alloc and alloc_set_pte",
        memory="pso",
        spared=("sc", "tso"),
        bound=1,
    ),
)
CLAIMS = {claim.name.partition("/")[2]: claim for claim in _CLAIMS} | ORDERINGS
