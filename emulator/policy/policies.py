"""The policies: when an empty PTE table goes. Each is a row here and, if it needs functions of its own, one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from emulator.mm_types import CACHE_LINE, CONDITIONAL, CONFIG, Geometry

# Policy.pin: what keeps a PTE table from going under a visitor, and what is counted of it
PIN_NONE = 0  # mmap_lock or an rmap lock: nobody frees a table without both
PIN_COUNT_LOCKED = 1  # a reference, taken under pmd_lock
PIN_COUNT_RCU = 3  # a reference, taken under RCU
PIN_RCU = 4  # nothing: looks are RCU read sections, and pte_lock looks at the pmd again
PIN_MM = 12  # the one lock of the mm, in place of every ptl; behind it pte_lock looks at the pmd again
PIN_WIRED = 256  # a count of visitors, taken under the lock of the mm, shared; rmap walks are waited for
PIN_DELTAS = 2048  # a reference that each CPU counts for itself; a pmd is a weak one, which may be revived
PIN_STRAY = 20  # nothing: as RCU, but a bit of the table tells pte_lock that it has gone
COUNTED = 1  # the bit of those that count references
LOOKS_AGAIN = 4  # the bit of those whose pte_lock may say no
MM_LOCKED = 8  # the bit of those that have one lock an mm
STRAY = 16  # the bit of those that mark a table that has gone
ENTRIES = 32  # and: entries that are not none are counted, plainly, under the ptl
ZEROS = 64  # and: those that map the zero page are counted beside them
EAGER = 128  # and: a table that lost its last entry goes when its ptl is dropped
VISITORS = 512  # a reference, taken under a lock of a hash; entries are counted apart
PIN_HASHED = VISITORS
PERCPU = 1024  # a reference, in a word on each CPU or in one, under RCU; entries hold one each
PIN_PERCPU = PERCPU
WIRED = 256  # the bit of those that count visitors apart
DELTAS = 2048  # the bit of those whose CPUs count references for themselves
TRANSFER = 4096  # and: the reference of a fault becomes that of the entry it sets

WAYS = 64  # tables whose references a CPU counts for itself at once
DELTA_WORDS = 16 + 2 * WAYS  # refcache.py

# pte_table_goes: what becomes of a table that something else takes out
GOES_ALREADY, GOES_NOW, GOES_LATER = 0, 1, 2

# Policy.demand: what the instruction free_ptes does
DEMAND_NONE = 0
DEMAND_POSTED = 1  # tables go at once, under mmap_lock for writing
DEMAND_SAFE = 2  # under their ptl, and after a grace period

FAMILIES = {
    "entries": ENTRIES,
    "mm-lock": MM_LOCKED,
    "stray": STRAY,
    "visitors": VISITORS,
    "percpu": PERCPU,
    "wired": WIRED,
    "deltas": DELTAS,
    "transfer": TRANSFER,
}  # what a build may leave out (engine.py): the bit of `pin`

# Policy.reclaim: which zaps look whether they have emptied a table
RECLAIM_NONE = 0
RECLAIM_DONTNEED = 1  # MADV_DONTNEED, where it covers the 2 MiB of a table
RECLAIM_EDGES = 2  # any zap: tables it covers, and the first and last one by a scan
RECLAIM_ANY = 3  # any zap: each of its tables by a scan


@dataclass(frozen=True)
class Policy:
    """One policy: in words, where it is from, and its words in `config`.

    `pin` and `reclaim` are as above. `table_free_rcu`: a table's memory returns after a grace period.
    `table_free_gather`: a zap frees tables through its open mmu_gather. `table_free_sync`: one that finds no room there
    waits for its grace period on the spot. `tables_left`: tables may be there still when their last VMA goes.
    `scan_period`: microseconds from one scan of an mm for empty tables to the next, 0 for none. `upper`: PMD and PUD
    tables go as well when they are empty. `table_cache`: an mm keeps what went, and allocates from that first.
    `demand`: what free_ptes does, as above. `invariants` are the conditional checks of an audit (checks.py) that hold
    under it. `cpu_words`: words that it keeps on each CPU; `cpu_table_words`: and of each table, there (m.cpu_word,
    room_for). For comparison alone: `readers` is what protects a look at a table, `hole` what the design leaves open.
    `table_bytes` and `cpu_bytes` are what it keeps beside each PTE table, and on each CPU.
    """

    title: str
    source: str
    pin: int = PIN_NONE
    reclaim: int = RECLAIM_NONE
    table_free_rcu: int = 0
    table_free_gather: int = 0
    table_free_sync: int = 0
    tables_left: int = 1
    scan_period: int = 0
    upper: int = 0
    table_cache: int = 0
    demand: int = 0
    invariants: tuple[str, ...] = ()
    cpu_words: int = 0
    cpu_table_words: int = 0
    readers: str = ""
    hole: str = ""
    table_bytes: int = 0
    cpu_bytes: int = 0

    @property
    def counted(self) -> bool:
        """True if each table counts its users."""
        return self.pin & COUNTED != 0

    @property
    def has_agent(self) -> bool:
        """True if an agent in the coordinator frees tables, in its own time."""
        return self.pin & DELTAS != 0

    @property
    def sound(self) -> bool:
        """False if it is as posted with a hole that any program may fall into."""
        return self.demand != DEMAND_POSTED

    @property
    def families(self) -> tuple[str, ...]:
        """What a build needs to have for it."""
        return tuple(name for name, bit in FAMILIES.items() if self.pin & bit)

    def room_for(self, geometry: Geometry) -> Geometry:
        """The same machine, with room for what the policy keeps on each CPU: whole cache lines, for no other writes."""
        words = self.cpu_words + self.cpu_table_words * geometry.tables
        line = CACHE_LINE // 8
        return replace(geometry, cpu_words=-(-words // line) * line)

    def words(self) -> dict[str, int]:
        """The fields of `config` this policy sets, but for cpu_words: those are the geometry's."""
        words = {name: value for name, value in vars(self).items() if name in CONFIG.comments and name != "cpu_words"}
        words["one_ptl"] = int(self.pin & MM_LOCKED != 0)
        words["stray"] = int(self.pin & STRAY != 0)
        return words | {"invariants": sum(1 << CONDITIONAL.index(name) for name in self.invariants)}


_V1 = "pte_ref v1, July 2021"
_COUNTED = ("pte_refcount", "empty_tables")
_LOOKS_AGAIN, _ONE_LOCK = "RCU, and the pmd again", "one lock an mm"
_TWO_COUNTS = ("entries_counted", "zeros_counted")
POLICIES = {
    "none": Policy(
        "a PTE table goes at munmap or exit only; mmap_lock protects walkers", "Linux 2021",
        readers="mmap_lock, rmap locks", hole="empty tables stay, and fork copies them",
    ),
    "none-rcu": Policy(
        "as none; walkers look under RCU, and at the pmd again under the ptl",
        "Linux 6.5", PIN_RCU, RECLAIM_NONE, 1, 1, table_free_sync=1,
        readers=_LOOKS_AGAIN, hole="empty tables stay, and fork copies them",
    ),
    "refcount-lock": Policy(
        "counted, pinned under pmd_lock, freed at once after a flush",
        f"{_V1}, patch 5", PIN_COUNT_LOCKED, tables_left=0, invariants=_COUNTED,
        readers="a reference, by pmd_lock", hole="a flush per table; D2 to D9", table_bytes=8,
    ),
    "refcount-rcu": Policy(
        "counted, pinned under RCU, freed after a grace period",
        f"{_V1}, patches 5 and 6", PIN_COUNT_RCU, RECLAIM_NONE, 1, tables_left=0, invariants=_COUNTED,
        readers="a reference, by RCU", hole="a flush per table; D1 to D9", table_bytes=8,
    ),
    "refcount": Policy(
        "as refcount-rcu, and zap frees through mmu_gather: the whole v1",
        f"{_V1}, patches 5 to 7", PIN_COUNT_RCU, RECLAIM_NONE, 1, 1, tables_left=0, invariants=_COUNTED,
        readers="a reference, by RCU", hole="atomics in each fault; D1 to D9", table_bytes=8,
    ),
    "refcount-transfer": Policy(
        "as refcount; the reference of a fault becomes that of the entry it sets: one atomic, not three",
        "ours", PIN_COUNT_RCU | TRANSFER, RECLAIM_NONE, 1, 1, tables_left=0, invariants=_COUNTED,
        readers="a reference, by RCU", hole="an atomic in each fault; D1 to D9", table_bytes=8,
    ),
    "pt-reclaim": Policy(
        "MADV_DONTNEED that covers a table's 2 MiB frees it",
        "Linux 6.14, CONFIG_PT_RECLAIM", PIN_RCU, RECLAIM_DONTNEED, 1, 1,
        readers=_LOOKS_AGAIN, hole="sees no smaller call; H16, H23, H28 (fixed)",
    ),
    "pt-reclaim-edges": Policy(
        "as pt-reclaim, any zap; the first and last table of a zap are scanned",
        "ours", PIN_RCU, RECLAIM_EDGES, 1, 1,
        readers=_LOOKS_AGAIN, hole="a scan per small call; no reclaim, no swap",
    ),
    "pt-reclaim-any": Policy(
        "every table that a zap touched is scanned, and goes if it is empty",
        "ours; Zircon's rule", PIN_RCU, RECLAIM_ANY, 1, 1,
        readers=_LOOKS_AGAIN, hole="a scan per call; no reclaim, no swap",
    ),
    "async-scan": Policy(
        "a process scans its tables every 100 ms, on its way to user mode",
        "RFC of June 2024, 3 of 3", PIN_RCU, RECLAIM_NONE, 1, 1, scan_period=100_000,
        readers=_LOOKS_AGAIN, hole="a process that sleeps keeps all",
    ),
    "two-counter": Policy(
        "entries and zero pages counted; free_ptes frees empty and all-zero tables, as posted",
        "RFC of August 2022", PIN_NONE | ENTRIES | ZEROS, demand=DEMAND_POSTED, invariants=_TWO_COUNTS,
        readers="mmap_lock alone", hole="D13, D14, H42; nothing until asked", table_bytes=8,
    ),
    "two-counter-safe": Policy(
        "as two-counter, under RCU and the ptl, and not where somebody must be asked for zeroes",
        "ours", PIN_RCU | ENTRIES | ZEROS, RECLAIM_NONE, 1, 1, demand=DEMAND_SAFE, invariants=_TWO_COUNTS,
        readers=_LOOKS_AGAIN, hole="nothing until asked; zeros need all 512", table_bytes=8,
    ),
    "scan-eager": Policy(
        "a table that a zap covered or emptied goes at once, PMD tables too; one lock an mm",
        "Zircon, x86 page tables", PIN_MM, RECLAIM_EDGES, 0, 1, upper=1,
        readers=_ONE_LOCK, hole="a scan per call; no reclaim, no swap",
    ),
    "pmap-mutex": Policy(
        "entries counted; the last one takes its table along, PMD tables too; one lock an mm",
        "FreeBSD, amd64 pmap", PIN_MM | ENTRIES, upper=1, invariants=("entries_counted",),
        readers=_ONE_LOCK, hole="faults of a process take turns", table_bytes=8,
    ),
    "htable": Policy(
        "visitors and entries counted apart, under hashed locks; what goes waits in a cache of its process",
        "illumos, i86pc HAT", PIN_HASHED | ENTRIES, upper=1, table_cache=1,
        invariants=("empty_tables", "entries_counted", "no_visitors"),
        readers="a reference, by a hashed lock", hole="memory stays with its process", table_bytes=72,
    ),
    "percpu-ref": Policy(
        "the count is a word on each CPU; MADV_DONTNEED waits for a grace period to have it in one",
        "RFC of April 2022", PIN_PERCPU, RECLAIM_NONE, 1, cpu_table_words=1, invariants=("percpu_counted",),
        readers="a reference, on each CPU", hole="a grace period per table; reclaim; D10, D12", table_bytes=80,
    ),
    "corten": Policy(
        "a MADV_DONTNEED that covers a table unhooks it first, and empties it then; a mark tells",
        "CortenMM, SOSP 2025", PIN_STRAY | ENTRIES, RECLAIM_NONE, 1, 1, invariants=("entries_counted",),
        readers="RCU, and the table's mark", hole="sees no smaller call; no reclaim, no swap", table_bytes=8,
    ),
    "corten-eager": Policy(
        "as corten, and a table goes with its last entry, whatever took that",
        "ours", PIN_STRAY | ENTRIES | EAGER, RECLAIM_NONE, 1, 1, invariants=("entries_counted",),
        readers="RCU, and the table's mark", hole="a table that never had an entry stays", table_bytes=8,
    ),
    "xnu-ptd": Policy(
        "entries and visitors counted apart; a zap takes the table, and waits for page-outs",
        "XNU, arm64 pmap", PIN_WIRED | ENTRIES, cpu_words=1, invariants=("entries_counted", "unwired"),
        readers="a count of visitors", hole="reclaim leaves empty tables to the next zap", table_bytes=4, cpu_bytes=8,
    ),
    "refcache": Policy(
        "each CPU counts for itself; a table that was at zero for an epoch goes, unless somebody came",
        "RadixVM, sv6", PIN_DELTAS, RECLAIM_NONE, 1, cpu_words=DELTA_WORDS,
        invariants=("pte_refcount", "empty_tables", "deltas"),
        readers="a weak reference, revived", hole="two epochs late; a sleeping CPU holds up all",
        table_bytes=24, cpu_bytes=8 * DELTA_WORDS,
    ),
}  # fmt: skip


def families_of(policies: Iterable[str]) -> set[str]:
    """What a build needs to have for some policies."""
    return {family for name in policies for family in POLICIES[name].families}
