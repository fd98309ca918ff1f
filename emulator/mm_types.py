"""Every structure in the shared segment: its fields, who may write them, and under which lock.

All fields are int64, so the atomics have one width. Each `line(...)` is one group of cache lines; fields with
different writers stand on different lines. Layout is decided here and nowhere else: the compiled engine derives its
typed pointer from `VIEWS`, plain Python its record views, the checks their numpy arrays.

Lock order, outermost first (a CPU may take a lock only while it holds none further in):

    mmap_lock                  one per mm; faults and madvise read, mmap and munmap write
      ptl of an upper table    pmd_lock: guards which tables the entries of that table name
        ptl of a PTE table     guards the entries of that table
          zone lock            page_alloc's own, innermost
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

CACHE_LINE = 64
PAGE_SIZE = 4096
PTRS_PER_TABLE = 512
TLB_ENTRIES = 1024  # per CPU, direct mapped; the size of a second-level TLB
PSC_ENTRIES = 32  # per CPU: cached PMD entries, the paging-structure cache
GATHER_PAGES = 4096  # frames one mmu_gather collects before it must flush
GATHER_TABLES = 512  # tables one mmu_gather collects before it must flush
PCP_BATCH = 63  # frames or tables moved between a CPU and the zone at once, Linux's pcp->batch
PCP_HIGH = (2048, 2 * PCP_BATCH)  # most frames and tables that a CPU keeps for itself
PCP_ROOM = max(PCP_HIGH) + PCP_BATCH + 1
GP_BUCKETS = 40  # grace-period latencies, log2 of nanoseconds
NR_BARRIERS = 8

Line = dict[str, str]


def line(**fields: str) -> Line:
    """Fields that share a group of cache lines: name = what it is; who may write it."""
    return fields


@dataclass(frozen=True)
class Struct:
    """One structure: its dtype and the comment of each field."""

    dtype: np.dtype
    comments: dict[str, str]


def struct(*lines: Line, align: int = CACHE_LINE) -> Struct:
    """Lay out `lines` one after another, each from a fresh multiple of `align` bytes."""
    names: list[str] = []
    offsets: list[int] = []
    at = 0
    for fields in lines:
        for i, name in enumerate(fields):
            names.append(name)
            offsets.append(at + 8 * i)
        at += -(-8 * len(fields) // align) * align
    layout: Any = {"names": names, "formats": ["i8"] * len(names), "offsets": offsets, "itemsize": at}
    return Struct(np.dtype(layout), {name: text for fields in lines for name, text in fields.items()})


CONFIG = struct(
    line(
        n_cpu="CPUs of this machine; before the start",
        n_mm="address spaces; before the start",
        frame_words="int64 words of contents per frame, a power of two; before the start",
        vma_per_mm="room in each mm's VMA array; before the start",
        spin="pauses before a waiting CPU goes to sleep; before the start",
        tick_us="how often the coordinator looks for grace periods to end, microseconds; before the start",
    ),
    line(  # the policy, see policy.py
        pte_counted="PTE tables count their users and go at the last put (patch 5); before the start",
        try_get_rcu="pte_try_get pins without pmd_lock, under RCU (patch 6); before the start",
        table_free_rcu="a table's memory returns after a grace period (patch 6); before the start",
        table_free_gather="zap frees tables through its open mmu_gather (patch 7); before the start",
    ),
    line(  # knobs: one removed or reordered piece of the protocol each, see policy.py
        publish_before_init="pmd_populate before pte_ref_init, as in v1; before the start",
        plain_count="pte_get and pte_put read, add and write; before the start",
        missing_pte_put="a read fault keeps its reference on the table; before the start",
        no_flush="a gather that unhooked a table is not flushed; before the start",
    ),
)

RUN = struct(
    line(start="1 once the CPUs may run; parent"),
    line(stop="1 when every CPU must stop at its next boundary; parent, or BUG"),
    line(ready="CPUs that wait for the start; atomic"),
    line(
        bug="0, or the Bug that BUG saw first; cmpxchg",
        bug_cpu="CPU that saw it; the winner of bug",
        bug_subject="table, frame or address it is about; the winner of bug",
        bug_seen="the value that was seen; the winner of bug",
    ),
)

CPU = struct(
    line(  # read by the flush agent and by CPUs that flush
        mm="the mm whose tables this CPU has loaded, or -1; this CPU",
        lazy="1 in lazy-TLB mode: no IPI is needed, it catches up when it leaves; this CPU",
        idle="1 in an extended quiescent state: no grace period waits for it; this CPU",
        irq_off="depth of interrupt disabling; this CPU",
    ),
    line(  # an interrupt: flush this range
        ipi_request="number of the latest TLB-flush IPI; flush agent, last of this line",
        ipi_start="first address to flush; flush agent",
        ipi_end="end of the range to flush; flush agent",
        ipi_freed="1 if page tables were freed; flush agent",
        ipi_gen="the mm's tlb_gen of this flush; flush agent",
    ),
    line(
        ipi_ack="number of the latest IPI that was handled; this CPU",
        tlb_gen="the mm's tlb_gen up to which this TLB is flushed; this CPU",
        tlb_epoch="part of every valid tag: counting it up empties the TLB; this CPU",
        psc_epoch="part of every valid tag: counting it up empties the paging-structure cache; this CPU",
    ),
    line(
        wake="bumped to wake this CPU from a flush it waits for; flush agent",
        wake_sleepers="1 while this CPU sleeps on wake; this CPU",
    ),
    line(
        rcu_qs="rcu.gp_seq seen at the latest quiescent state; this CPU",
        rcu_nesting="depth of rcu_read_lock; this CPU",
    ),
    line(
        cb_head="first table of the callbacks queued by call_rcu, 0 if none; this CPU pushes, coordinator takes all",
    ),
    line(  # a flush that needs other CPUs, handed to the flush agent
        flush_state="0 none, 1 requested, 2 done; this CPU 0->1 and 2->0, flush agent 1->2",
        flush_start="first address; this CPU",
        flush_end="end of the range; this CPU",
        flush_freed="1 if page tables were freed; this CPU",
        flush_gen="tlb_gen of this flush; this CPU",
    ),
    line(  # the mmu_gather of this CPU; one is open at a time
        gather_mm="mm + 1 while a gather is open, else 0; this CPU",
        gather_pages="frames collected in gather_page; this CPU",
        gather_tables="tables collected in gather_table; this CPU",
        gather_start="lowest address that lost a translation; this CPU",
        gather_end="end of the range that lost translations; this CPU",
        gather_freed="1 if page tables were unhooked; this CPU",
        gather_full="1 if everything must go: exit, or a nested gather; this CPU",
    ),
    line(
        insn_base="index of the first instruction of this CPU's program; parent",
        insn_end="index behind its last instruction; parent",
        pc="index of the current instruction; this CPU",
        loaded="the word that the latest load read; this CPU",
        mmap_lock_held="0, or 2 * mm + 1 for read, 2 * mm + 2 for write; this CPU",
        waits_for="a Wait while this CPU waits, else 0; this CPU",
        waits_index="which lock, barrier or table it waits for; this CPU",
        finished="1 once the program has ended; this CPU",
        rss_cache="frames mapped and not yet in mm.rss_anon; this CPU",
    ),
    line(
        started_ns="when the program began; this CPU",
        finished_ns="when it ended; this CPU",
    ),
    line(time_sec="scratch for the clock; this CPU", time_nsec="scratch; this CPU"),
    line(timeout_sec="scratch for timed waits; this CPU", timeout_nsec="scratch; this CPU"),
    line(  # statistics, all counted up by this CPU alone
        insns="instructions completed",
        errors="instructions that ended with -errno",
        faults="page faults resolved",
        zapped="entries cleared",
        tables_installed="PTE tables installed at a pmd",
        tables_freed="PTE tables unhooked and handed to be freed",
        tables_reused="PTE tables allocated that had been freed before",
        try_get_failed="pte_try_get met a dying table and the fault retried",
        install_lost="PTE tables allocated and not needed: another CPU installed first",
        flushes_local="TLB flushes that needed no other CPU",
        flushes_remote="TLB flushes handed to the flush agent",
        flushes_full="of the flushes this CPU carried out: the whole TLB",
        ipis="TLB-flush IPIs handled",
        flushes_late="flushes caught up with when leaving lazy-TLB mode",
        tlb_misses="hardware walks",
        lock_spins="pauses while a spinlock was taken",
        sleeps="times this CPU slept",
        alloc_stalls="allocations that waited for a grace period",
        oom="allocations that failed",
    ),
)

RCU = struct(
    line(gp_seq="number of the latest grace period that started; coordinator"),
    line(gp_completed="number of the latest grace period that ended; coordinator"),
    line(
        gp_start_ns="when the current grace period started; coordinator",
        gp_sum_ns="sum of the latencies of all grace periods; coordinator",
        gp_max_ns="longest grace period; coordinator",
        freed="tables freed after a grace period; coordinator",
        done="tables whose grace period is under way, first of a list; coordinator",
        ipis="TLB-flush IPIs sent; coordinator",
        remote_flushes="flush requests served; coordinator",
    ),
    line(wake="bumped to wake the coordinator; anyone, atomically"),
    line(asleep="1 while the coordinator sleeps, 2 if it has nothing to do and call_rcu must wake it; coordinator"),
    line(hurry="1 when an allocation waits for memory; anyone"),
)

GP_HISTOGRAM = struct(line(count="grace periods of 2**index nanoseconds; coordinator"), align=8)

MM = struct(
    line(
        mmap_lock="readers + WRITER while write-locked; atomic",
        mmap_writer="0 or owner + 1 of the writer; cmpxchg",
    ),
    line(
        mmap_lock_seq="bumped when a waiter may try again; whoever releases",
        mmap_lock_sleepers="CPUs asleep on mmap_lock_seq; atomic",
    ),
    line(rss_anon="anonymous frames mapped, less the rss_cache of CPUs; atomic"),
    line(pgtables_bytes="PTE, PMD and PUD tables, bytes; atomic"),
    line(tlb_gen="bumped before each flush of this mm; atomic"),
    line(tlb_flush_pending="gathers open on this mm; atomic"),
    line(
        pgd="its top-level table; parent",
        mm_users="CPUs that run it; atomic",
        vmas="VMAs in use; holder of mmap_lock for write",
        anon_vmas="anon_vma numbers handed out; atomic",
        total_vm="pages in its VMAs; holder of mmap_lock for write",
    ),
)

VMA = struct(
    line(
        start="first address; holder of mmap_lock for write",
        end="address behind the last; holder of mmap_lock for write",
        flags="VM_READ | VM_WRITE; holder of mmap_lock for write",
        anon_vma="0 until the first write fault, then its number; cmpxchg under mmap_lock for read",
    ),
    align=32,
)

PTDESC = struct(
    line(
        pte_refcount="PTE table: entries that are not none + visitors; atomic",
        ptl="0 or owner + 1; spin_lock and spin_unlock",
        pmd="index of the entry that names this table; holder of that entry's pmd_lock",
        mm="mm + 1 it belongs to; whoever installs it",
    ),
    line(
        state="a TableState; whoever moves it along",
        level="1 PTE, 2 PMD, 3 PUD, 4 PGD; whoever allocates it",
        generation="times it was freed; whoever frees it",
        next="next table of a callback list, 0 ends it; the list's owner",
    ),
)

PAGE = struct(
    line(
        refcount="users of the frame; atomic",
        mapcount="PTEs that map it; atomic",
        generation="times it was freed; whoever frees it",
    ),
    align=32,
)

ZONE = struct(
    line(
        lock="0 or owner + 1; spin_lock and spin_unlock",
        fresh="first index never handed out; holder of lock",
        count="recycled ones in zone_slot; holder of lock",
    ),
    line(
        limit="index behind the last; before the start",
        slots="first of this zone's zone_slot; before the start",
        pcp_high="most that a CPU keeps for itself; before the start",
    ),
)

PCP = struct(line(count="free ones in this CPU's pcp_slot; that CPU"))

TLB = struct(
    line(
        tag="virtual page number << 20 | tlb_epoch, 0 if empty; its CPU",
        entry="the PTE as it was read; its CPU",
    ),
    align=16,
)

PSC = struct(
    line(
        tag="address >> 21 << 20 | psc_epoch, 0 if empty; its CPU",
        table="the PTE table the pmd named; its CPU",
    ),
    align=16,
)

BARRIER = struct(
    line(arrived="CPUs waiting in this round; atomic", parties="CPUs that take part; parent"),
    line(generation="rounds completed; the last to arrive", sleepers="CPUs asleep on generation; atomic"),
)

INSN = struct(
    line(
        op="an Op",
        addr="virtual address, barrier, or index of the instruction to jump to",
        length="bytes",
        step="bytes between touched pages, or bytes per call; 0 is one call",
        arg="value stored, protection, advice, or how often to jump (0 for ever)",
        record="row of `record` to fill when done, or -1",
        left="jumps left; its CPU",
    )
)

RECORD = struct(
    line(
        pgtables_bytes="VmPTE in bytes; the recording CPU",
        rss_anon="frames; the recording CPU",
        minflt="page faults that the recording CPU has resolved; the recording CPU",
        error="0 or -errno; the recording CPU",
    ),
    align=32,
)

WORD = struct(line(word="one int64"), align=8)

WAITQ = struct(line(sleepers="processes asleep on this stripe; semaphore engine"), align=8)

# name -> (structure, number of rows as a name of Geometry.counts()). A view of WORD is indexed directly: m.entry[i].
VIEWS: dict[str, tuple[Struct, str]] = {
    "config": (CONFIG, "one"),
    "run": (RUN, "one"),
    "rcu": (RCU, "one"),
    "gp_histogram": (GP_HISTOGRAM, "gp_buckets"),
    "waitq": (WAITQ, "waitqs"),
    "zone": (ZONE, "zones"),
    "barrier": (BARRIER, "barriers"),
    "cpu": (CPU, "agents"),
    "pcp": (PCP, "pcps"),
    "pcp_slot": (WORD, "pcp_slots"),
    "zone_slot": (WORD, "zone_slots"),
    "tlb": (TLB, "tlbs"),
    "psc": (PSC, "pscs"),
    "gather_page": (WORD, "gather_pages"),
    "gather_table": (WORD, "gather_tables"),
    "mm": (MM, "mms"),
    "vma": (VMA, "vmas"),
    "insn": (INSN, "insns"),
    "record": (RECORD, "records"),
    "page": (PAGE, "frames"),
    "frame": (WORD, "frame_words"),
    "ptdesc": (PTDESC, "tables"),
    "entry": (WORD, "entries"),
}
HEADER_BYTES = PAGE_SIZE  # word k of the header is the offset of view k

FRAMES, TABLES = 0, 1  # the two zones


@dataclass(frozen=True)
class Geometry:
    """How large a machine is; everything the layout of its segment depends on.

    cpus, mms, vmas per mm, insns and records over all CPUs; frames (frame 0 is the zero page) and tables (table 0 is
    never used) that exist; words of contents per frame.
    """

    cpus: int = 1
    mms: int = 1
    vmas: int = 64
    insns: int = 64
    records: int = 1
    frames: int = 4096
    tables: int = 1024
    frame_words: int = 8

    def counts(self) -> dict[str, int]:
        """Rows of each view. The coordinator has a row of `cpu` too, the last: it takes locks and reads the clock."""
        agents = self.cpus + 1
        return {
            "one": 1,
            "gp_buckets": GP_BUCKETS,
            "waitqs": 64,
            "zones": 2,
            "barriers": NR_BARRIERS,
            "agents": agents,
            "pcps": 2 * agents,
            "pcp_slots": 2 * agents * PCP_ROOM,
            "zone_slots": self.frames + self.tables,
            "tlbs": self.cpus * TLB_ENTRIES,
            "pscs": self.cpus * PSC_ENTRIES,
            "gather_pages": self.cpus * GATHER_PAGES,
            "gather_tables": self.cpus * GATHER_TABLES,
            "mms": self.mms,
            "vmas": self.mms * self.vmas,
            "insns": self.insns,
            "records": self.records,
            "frames": self.frames,
            "frame_words": self.frames * self.frame_words,
            "tables": self.tables,
            "entries": self.tables * PTRS_PER_TABLE,
        }

    def offsets(self) -> tuple[dict[str, int], int]:
        """Offset of each view in the segment, and the segment's size, in bytes. Every view starts on a page."""
        counts, at, offsets = self.counts(), HEADER_BYTES, {}
        for name, (layout, rows) in VIEWS.items():
            offsets[name] = at
            at += -(-counts[rows] * layout.dtype.itemsize // PAGE_SIZE) * PAGE_SIZE
        return offsets, at
