"""Every structure in the shared segment: its fields, the CPU that may write each, and under which lock.

All fields are int64, so the atomics have one width. Each `line(...)` is one group of cache lines; fields with different
writers stand on different lines. Layout is decided here and nowhere else. From `VIEWS` the compiled engine derives its
typed pointer, plain Python its record views, the checks their numpy arrays.

Lock order, outermost first (a CPU may take a lock only while it holds none further in):

    inode lock                     one per file; truncate and hole punch
    mmap_lock                      one per mm; faults and madvise read, mmap and munmap write
      page lock                    one per page of a file; sleeps
        i_mmap_lock                one per file, the device's too: which VMAs map it; sleeps
          anon_vma lock            one per family of mms: their VMAs, against rmap walkers; sleeps
            htable lock            one per hash of a pmd: guards visits to its table; one per mm: tables it keeps
            pmap_lock              one per mm, where a policy has it: to wire a table, or to take one out
            ptl of an upper table  pmd_lock: guards which tables the entries of that table name
              ptl of a PTE table   guards the entries of that table
                zone lock          page_alloc's own, innermost
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from emulator import engine
from emulator import lazy_numpy as np
from emulator.knobs import KNOBS, SETTINGS

CACHE_LINE = 64
PAGE_SIZE = 4096
PTRS_PER_TABLE = 512
NR_POINTS = 128
NR_LOCK_CLASSES = 16
NR_PATHS = 96
TRACE_ENTRIES = 256  # per CPU: the latest points it passed, debug build
SHADOW_ENTRIES = 1024  # per CPU: the latest words it stored, direct mapped, debug build
RCU_AGES = 8  # grace periods a reader's table can be old, last one "and more"
TLB_ENTRIES = 1024  # per CPU, direct mapped; the size of a second-level TLB
PSC_ENTRIES = 32  # per CPU: cached PMD entries, the paging-structure cache
GATHER_PAGES = 4096  # frames one mmu_gather collects before it must flush
GATHER_TABLES = 512  # tables one mmu_gather collects before it must flush
GATHER_BLOCKS = 32  # huge pages one mmu_gather collects before it must flush
PCP_BATCH = 63  # frames or tables moved between a CPU and the zone at once, Linux's pcp->batch
PCP_HIGH = (2048, 2 * PCP_BATCH)  # most frames and tables that a CPU keeps for itself
NR_PAGE_LOCKS = 16  # page locks that all anonymous frames share
NR_HTABLE_LOCKS = 128  # locks that all PTE tables share, by the place of their pmd, where visitors are counted apart
WRITE_BATCH = 8  # pages one CPU collects for write-back before it submits them
PCP_ROOM = max(PCP_HIGH) + PCP_BATCH + 1
FRAME_WORDS = 8  # of contents of a frame, int64, unless a scenario says otherwise
VMA_LEAF = 64  # VMAs in a leaf of an mm's tree
GP_BUCKETS = 40  # grace-period latencies, log2 of nanoseconds
REUSE_BUCKETS = 320  # times from unhooking to freedom: eight for each power of two of nanoseconds
NR_BARRIERS = 8
BARRIER_YIELDS = 16  # turns a CPU gives away at a barrier before it sleeps: together they cost less than a sleep
HUGETLB_PAGES = 2  # huge pages of the hugetlbfs file
NR_MEMCGS = 8  # memory control groups, the root's included

FLUSH_NONE, FLUSH_PENDING, FLUSH_DONE = 0, 1, 2  # cpu.flush_state
SWAP_HAS_CACHE = 1 << 20  # of cache.swap_map
MAPPING_SHIFT = 12  # page.mapping: the linear page index is above it
LAZYFREE = 0x800  # of page.mapping: MADV_FREE has said that nobody needs the page, unless it is stored to
LARGE = 0x400  # of page.mapping: the page is part of a folio of 512
FAMILY = LARGE - 1  # of page.mapping
PERCPU_COUNT_BIAS = 1 << 31  # in ptdesc.pte_refcount while the count is in words on each CPU: never taken for zero
EPOCH_BITS = 20  # of a tag in the TLB or the paging-structure cache
EPOCH_MAX = (1 << EPOCH_BITS) - 1
FLUSH_CEILING = 33  # pages; above that the whole TLB goes, Linux's tlb_single_page_flush_ceiling

CONDITIONAL = (  # checks of an audit (checks.py) that hold under some policies only: config.invariants
    "pte_refcount",
    "empty_tables",
    "entries_counted",
    "zeros_counted",
    "no_visitors",
    "percpu_counted",
    "unwired",
    "deltas",
)

Line = dict[str, str]


def line(**fields: str) -> Line:
    """Fields that share a group of cache lines: name = what it is; the CPU that may write it."""
    return fields


@dataclass(frozen=True)
class Struct:
    """One structure: the comment and the offset of each field, and its size in bytes."""

    comments: dict[str, str]
    offsets: dict[str, int]
    itemsize: int

    @cached_property
    def dtype(self) -> np.dtype:
        """The layout as numpy has it."""
        offsets = list(self.offsets.values())
        names, formats = list(self.offsets), ["i8"] * len(offsets)
        layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": self.itemsize}
        return np.dtype(layout)


def struct(*lines: Line, align: int = CACHE_LINE) -> Struct:
    """Lay out `lines` one after another, each from a fresh multiple of `align` bytes."""
    offsets: dict[str, int] = {}
    at = 0
    for fields in lines:
        for i, name in enumerate(fields):
            offsets[name] = at + 8 * i
        at += -(-8 * len(fields) // align) * align
    return Struct({name: text for fields in lines for name, text in fields.items()}, offsets, at)


CONFIG = struct(
    line(
        n_cpu="CPUs of this machine; before the start",
        n_mm="address spaces; before the start",
        frame_words="int64 words of contents per frame, a power of two; before the start",
        vma_leaves="leaves for VMAs that each mm has; before the start",
        vma_per_mm="rows of `vma` that each mm has; before the start",
        spin="pauses before a waiting CPU goes to sleep; before the start",
        tick_us="how often the coordinator looks for grace periods to end, microseconds; before the start",
        fatal_signals="1 if a signal ends the program of its CPU; before the start",
    ),
    line(
        n_file="files; before the start",
        file_pages="room for pages in each file; before the start",
        n_swap="pages of swap, the last rows of `cache`; before the start",
        n_slot="rows of `cache`; before the start",
        memcg_limit="pages of files and tables above which a new PTE table reclaims first, 0 none; before the start",
    ),
    line(  # the policy, see policy/policies.py
        pin="what keeps a PTE table from going under a visitor; before the start",
        reclaim="which zaps look whether they have emptied a table; before the start",
        table_free_rcu="a table's memory returns after a grace period; before the start",
        table_free_sync="a table that finds no room in a gather waits for its grace period there; before the start",
        table_free_gather="zap frees tables through its open mmu_gather; before the start",
        scan_period="microseconds from one scan of an mm for empty tables to the next, 0 none; before the start",
        demand="what the instruction free_ptes does, 0 nothing; before the start",
        stray="1 if the CPU that takes a table out of its pmd marks it; before the start",
        upper="1 if PMD and PUD tables go when they are empty; before the start",
        table_cache="1 if an mm keeps its tables that went, and allocates from them first; before the start",
        tables_left="1 if tables may be there still when their last VMA goes; before the start",
        invariants="bits of checks.CONDITIONAL: checks that hold under this policy; before the start",
        cpu_words="words of `cpu_word` that the policy has on each CPU, whole cache lines; before the start",
    ),
    line(  # the rest is read by the debug build only
        online="1 if the detectors look; before the start",
        exact="1 if each translation is compared with the tables; before the start",
        perturb="0, or one point in so many is delayed at random; before the start",
    ),
    line(**{setting.name: f"{setting.effect}; before the start" for setting in SETTINGS.values()}),
    line(**{knob.field: f"{knob.effect}; before the start" for knob in KNOBS.values()}),
)

RUN = struct(
    line(start="1 once the CPUs may run; parent"),
    line(stop="1 when every CPU must stop at its next boundary; parent, or BUG"),
    line(ready="CPUs that wait for the start; atomic"),
    line(
        bug="0, or the Bug that BUG saw first; cmpxchg",
        bug_cpu="CPU that saw it; the winner of bug",
        bug_subject="table, frame or address it is about; the winner of bug",
        bug_was="the value before, or the one that was right; the winner of bug",
        bug_seen="the value that was seen; the winner of bug",
        bug_ns="when; the winner of bug",
        bug_cycles="the same, in cycles; the winner of bug",
    ),
    line(start_ns="when the machine was started; parent", start_cycles="the same, in cycles; parent"),
)

CPU = struct(
    line(  # read by the flush agent and by CPUs that flush
        mm="the mm whose tables this CPU has loaded, or -1; this CPU",
        lazy="1 in lazy-TLB mode: no IPI is needed, it catches up when it leaves; this CPU",
        idle="1 in an extended quiescent state: no grace period waits for it; this CPU",
        # Invariant: 0 wherever a CPU sleeps or reports a quiescent state.
        irq_off="depth of interrupt disabling; this CPU",
    ),
    line(  # an interrupt: flush this range
        ipi_request="number of the latest TLB-flush IPI; flush agent, last of this line",
        ipi_mm="the mm to flush; flush agent",
        ipi_start="first address to flush; flush agent",
        ipi_end="end of the range to flush; flush agent",
        ipi_freed="1 if page tables were freed; flush agent",
        ipi_gen="the mm's tlb_gen of this flush; flush agent",
    ),
    line(
        # Invariant: ipi_ack <= ipi_request, and tlb_gen <= that of the mm. When they are equal the TLB has nothing that
        # the tables have not: checks.py:stale_tlb.
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
        # Invariant: rcu_qs <= rcu.gp_seq. rcu_nesting is 0 at each instruction boundary: checks.py:locks.
        rcu_qs="rcu.gp_seq seen at the latest quiescent state; this CPU",
        rcu_nesting="depth of rcu_read_lock; this CPU",
    ),
    line(
        cb_head="first table of the callbacks queued by call_rcu, 0 if none; this CPU pushes, coordinator takes all",
    ),
    line(cb_taken="first of those the coordinator has taken, or is about to take, and not yet freed; coordinator"),
    line(  # a flush that needs other CPUs, handed to the flush agent
        flush_state="FLUSH_NONE to FLUSH_DONE; this CPU 0->1 and 2->0, flush agent 1->2",
        flush_mm="the mm; this CPU",
        flush_start="first address; this CPU",
        flush_end="end of the range; this CPU",
        flush_freed="1 if page tables were freed; this CPU",
        flush_gen="tlb_gen of this flush; this CPU",
    ),
    line(  # the mmu_gather of this CPU; one is open at a time
        # Invariant: each entry cleared while it is open lies in [gather_start, gather_end); its frame is in gather_page
        # until the flush. None is open at the end: checks.py:limbo.
        gather_mm="mm + 1 while a gather is open, else 0; this CPU",
        emptied="table that lost its last entry under the lock this CPU holds, where the policy counts, or that it is"
        " to free when it leaves; this CPU",
        gather_pages="frames collected in gather_page; this CPU",
        gather_tables="tables collected in gather_table; this CPU",
        gather_blocks="huge pages collected in gather_block; this CPU",
        gather_start="lowest address that lost a translation; this CPU",
        gather_end="end of the range that lost translations; this CPU",
        gather_freed="1 if page tables were unhooked; this CPU",
        gather_full="1 if everything must go: exit, or a nested gather; this CPU",
        gather_force="1 if the flush must come before ptl is dropped: a dirty page of a file; this CPU",
    ),
    line(
        insn_base="index of the first instruction of this CPU's program; parent",
        insn_end="index behind its last instruction; parent",
        pc="index of the current instruction; this CPU",
        loaded="the word that the latest load read; this CPU",
        mmap_lock_held="0, or 2 * mm + 1 for read, 2 * mm + 2 for write; this CPU",
        vma_lock_held="0, or the row of the VMA whose lock it holds for reading; this CPU",
        waits_for="a Wait while this CPU waits, else 0; this CPU",
        waits_index="which lock, barrier or table it waits for; this CPU",
        finished="1 once the program has ended; this CPU",
        rss_cache="frames mapped and not yet in mm.rss_anon; this CPU",
        batch_pages="pages collected in batch; this CPU",
        child_faults="page faults it resolved in children; this CPU",
        next_mm="where it looks first for an mm for a child: those below it were in use; this CPU",
        uffd_tired="1 if its latest userfault was waited for in vain; this CPU",
        oom_zone="zone of its latest allocation that failed; this CPU",
        sigpending="signal that the current instruction has got, or 0; this CPU",
    ),
    line(  # read by CPUs that follow this one
        posts="how far it has come, for those that wait for it; this CPU",
        posts_sleepers="CPUs asleep on posts; atomic",
    ),
    line(
        started_ns="when the program began; this CPU",
        finished_ns="when it ended; this CPU",
    ),
    line(time_sec="scratch for the clock; this CPU", time_nsec="scratch; this CPU"),
    line(timeout_sec="scratch for timed waits; this CPU", timeout_nsec="scratch; this CPU"),
    line(  # debug build
        parked="1 once it stands still because of a bug; this CPU",
        trace_at="points passed; this CPU",
        random="state of its random numbers, not 0; this CPU",
        pin_table="the table this CPU pinned last; this CPU",
        pin_generation="its generation then; this CPU",
        pin_outer="a table it had pinned before that, and keeps, or 0; this CPU",
        pin_outer_generation="its generation then; this CPU",
        held_classes="bit per lock class it holds; this CPU",
        stalled_ns="when it was last told to stop at a point; this CPU",
        steered="times it waited at a point for another CPU; this CPU",
    ),
    line(  # statistics, all counted up by this CPU alone
        insns="instructions completed",
        accesses="loads and stores of instructions that completed",
        errors="instructions that ended with -errno",
        faults="page faults resolved",
        zapped="entries cleared",
        tables_installed="PTE tables installed at a pmd",
        tables_freed="PTE tables unhooked and handed to be freed",
        tables_deferred="tables handed to call_rcu, of all levels",
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
        retries="page faults that dropped mmap_lock to wait for a page, and began again",
        reclaimed="pages of files taken out of memory",
        written="pages of files written back",
        swapped_out="anonymous pages that reclaim took out of memory",
        swapped_in="pages read from swap",
        migrated="pages that moved to another frame",
        oom="allocations that failed",
        sigsegv="accesses outside of every VMA, to a guard, or not allowed: SIGSEGV",
        sigbus="accesses past the end of a file: SIGBUS",
        oom_kills="accesses that got no memory: SIGKILL",
    ),
)

SIGINFO = struct(
    line(  # a CPU has two rows: its first signal and its latest
        signo="signal, 0 if there was none; its CPU",
        code="why, as si_code; its CPU",
        addr="address of the access, as si_addr; its CPU",
        mm="mm of the access; its CPU",
        pc="index of the instruction; its CPU",
    )
)

RCU = struct(
    # Invariant: gp_completed <= gp_seq <= gp_completed + 1.
    line(gp_seq="number of the latest grace period that started; coordinator"),
    line(gp_completed="number of the latest grace period that ended; coordinator"),
    line(
        gp_start_ns="when the current grace period started; coordinator",
        gp_sum_ns="sum of the latencies of all grace periods; coordinator",
        gp_max_ns="longest grace period; coordinator",
        freed="tables freed after a grace period; coordinator",
        limbo_peak="most tables that waited for one at once, as seen when one ends; coordinator",
        ipis="TLB-flush IPIs sent; coordinator",
        remote_flushes="flush requests served; coordinator",
    ),
    line(wake="bumped to wake the coordinator; anyone, atomically"),
    line(asleep="1 while the coordinator sleeps, 2 if it has nothing to do and call_rcu must wake it; coordinator"),
    line(hurry="1 when an allocation waits for memory; anyone"),
    line(
        synchronizing="CPUs in synchronize_rcu, for which a grace period must begin; atomic",
        sync_seq="bumped when one has ended that somebody waits for; coordinator",
        sync_sleepers="CPUs asleep on sync_seq; atomic",
    ),
    line(taking="1 while callbacks are on their way from the CPUs' lists into a grace period; coordinator"),
)

SMAPS = struct(
    line(  # what the latest SMAPS of a CPU has found, struct mem_size_stats: pages; its CPU
        rss="that map a frame other than the zero page",
        anonymous="of these, anonymous",
        shared="of these, mapped more than once",
        referenced="with the accessed bit",
        dirty="with the dirty bit",
        soft_dirty="stored to since CLEAR_REFS",
        swap="in swap, or under migration",
    )
)

GP_HISTOGRAM = struct(line(count="grace periods of 2**index nanoseconds; coordinator"), align=8)

REUSE_HISTOGRAM = struct(
    line(count="tables free again so long after they were unhooked, see reuse_bucket; its CPU"), align=8
)

MM = struct(
    line(
        # Invariant: while mmap_writer is held, mmap_readers is 0 or on its way back to 0.
        mmap_readers="CPUs that hold mmap_lock for reading or try to; atomic_add",
        mmap_writer="0, or owner + 1 of the writer that holds it or waits for the readers; cmpxchg",
    ),
    line(
        mmap_lock_seq="bumped when a waiter may try again; the CPU that releases",
        mmap_lock_sleepers="CPUs asleep on mmap_lock_seq; atomic",
    ),
    line(
        # Invariant: with the CPUs' rss_cache, the entries that map a frame other than the zero page: checks.py:rss.
        rss_anon="anonymous frames mapped, less the rss_cache of CPUs; atomic",
        rss_file="entries that map a page of a file; atomic",
        rss_swap="swap entries; atomic",
    ),
    line(
        uffd_seq="bumped when faults that wait for userfaultfd must look again; atomic",
        uffd_sleepers="CPUs that sleep on uffd_seq; atomic",
        uffd_patience="microseconds that a userfault waits, 0 for ever; holder of mmap_lock for write",
    ),
    line(  # Invariant: 4 kB for each PTE, PMD and PUD table of the mm that is installed: checks.py:pgtables_bytes
        pgtables_bytes="PTE, PMD and PUD tables, bytes; atomic"
    ),
    line(tlb_gen="bumped before each flush of this mm; atomic"),
    line(
        tlb_flush_pending="gathers open on this mm; atomic",
        zaps="gathers ever opened, debug build; atomic",
        moves="times that mremap moved pages, or a probe replaced one, debug build; holder of mmap_lock for write",
    ),
    line(
        pgd="its top-level table; parent",
        mm_users="CPUs that run it; atomic",
        in_use="1 from the start, or from fork to the end of exit; cmpxchg",
        family="number + 1 of the root of its fork tree while its pages can be found, else 0; holder of the family's"
        " anon_vma lock",
        held_by="CPU + 1 that keeps it as a child until it reaps it, else 0; that CPU",
        name="what instructions call a child that stays, 0: nothing; the CPU that holds it",
        minflt="page faults of such a child; the CPU that holds it",
        def_flags="VMA flags that mlockall gives to whatever is mapped; holder of mmap_lock for write",
        vmas="VMAs in list and tree; holder of mmap_lock for write and the family's anon_vma lock",
        first_vma="row of the first in the list, 0 if none; as vmas",
        fresh_vmas="rows that were ever taken; as vmas",
        free_vma="first of those that were given back, 0 ends the list; holder of mmap_lock: cmpxchg, or for write",
        anon_vmas="anon_vma numbers handed out; atomic",
        total_vm="pages in its VMAs; holder of mmap_lock for write",
    ),
    line(  # the policy's own words
        next_scan="when it is due to be scanned for empty tables, nanoseconds; cmpxchg",
        scan_offset="address where the next scan goes on; a CPU that scans, with mmap_lock for reading",
        pmap_lock="readers, or -(owner + 1): looks that wire a table, or take one out; rwlock.py",
        upper_due="1 if a PMD table was seen to be empty; the CPU that saw it, and a look with mmap_lock for write",
        # Invariant: each table on the list is FREE, and all of its entries are none: checks.py:tables.
        cached_tables="first of the free tables that it keeps, 0 ends the list; holder of its htable lock",
    ),
)

VMA = struct(
    line(
        # Invariant: list and tree have the same VMAs, in order: start < end <= start of the next: checks.py:vmas.
        start="first address; holder of mmap_lock for write and of the anon_vma lock",
        end="address behind the last; holder of mmap_lock for write and of the anon_vma lock",
        flags="VM_READ | VM_WRITE and more; holder of mmap_lock for write and of the anon_vma lock",
        anon_vma="0 until the first write fault, then its number; cmpxchg under mmap_lock for read",
        file="file + 1 it maps, 0 if anonymous; holder of mmap_lock for write and of the anon_vma lock",
        pgoff="page of the file that its first page maps, or of the address where it began: neighbours merge if theirs"
        " follow; holder of mmap_lock for write and of the anon_vma lock",
        next="the VMA that follows, 0 if none; of a row that is free, the next such; as start",
        prev="the VMA that comes before, 0 if none; as start",
    ),
    line(
        i_mmap_next="the next VMA that maps its file, 0 if none; holder of i_mmap_lock",
        i_mmap_prev="the one before; holder of i_mmap_lock",
        lock_readers="CPUs that hold the VMA's own lock for reading (setting vma_locks); atomic",
    ),
)

PLACE = struct(  # of the nodes of the trees of VMAs, see vma.py
    line(
        start="where the VMA begins, or the first VMA of the leaf; as vma.start",
        row="row of the VMA, or place of the leaf; of a node's first place how many follow; behind the entries of a"
        " directory a free leaf, 0 for one that was never used; as vma.start",
    ),
    align=16,
)

FILE = struct(
    line(
        size="pages; what lies beyond is a SIGBUS; holder of the inode lock",
        shmem="1 if it is shared memory: stores need no page_mkwrite, pages are dirty from the start; before the start",
        punched="times that pages were taken away from it; holder of the inode lock",
    ),
    line(
        # Invariant: the list has the VMAs of all mms that map the file, no more and no fewer: checks.py:i_mmap.
        i_mmap="row of the first VMA that maps it, 0 if none; holder of i_mmap_lock",
        i_mmap_last="row of the last; holder of i_mmap_lock",
    ),
)

CACHE = struct(
    line(  # a page of a file, or of swap
        # Invariant: page_slot of that frame is this row + 1, and unless dirty is set the disk has the same words:
        # checks.py:page_cache.
        frame="the frame that holds the page, 0 if none does; holder of the page lock",
        uptodate="1 once it has been read from the disk; holder of the page lock",
        dirty="1 if the disk has something else; anyone sets, holder of the page lock clears",
        stored="1 once a fault for writing has found this page of shared memory; holder of the page lock",
        # Invariant: all pages of a folio say so, and have frames side by side: checks.py:huge_pages.
        order="log2 of the pages of the large folio it is of, 0 of a small page; holder of the folio's first page lock",
        writeback="0, or CPU + 1 that will write it; holder of the page lock sets, that CPU clears",
        written="times its write-back ended; the CPU that wrote it",
        values="which words were ever stored, see shadow.py, debug build; cmpxchg",
        stored_by="0, CPU + 1, or SHARED: the CPU that stored since it was empty, see shadow.py, debug build; cmpxchg",
        # Invariant: as many as entries name it; 0 if nothing does: checks.py:swap.
        swap_map="of swap: entries that name it, and SWAP_HAS_CACHE while it has a frame, 0 if free; atomic",
    )
)

SWAP = struct(
    line(
        off="swapoffs under way: no slot is handed out; atomic",
        used="slots in use; atomic",
        hand="frames that reclaim and migration have looked at, in turn; atomic",
    )
)

PVMW = struct(
    line(  # the rmap walk a CPU is in, struct page_vma_mapped_walk
        frame="the page at hand; this CPU",
        flags="PVMW_MIGRATION; this CPU",
        family="the family whose VMAs it goes through, -1 for a file's links; this CPU",
        file="the file, if so; this CPU",
        index="page index in the VMAs, or page of the file; this CPU",
        seen="mms it is done with; this CPU",
        row="VMA of the present mm that it came to last, 0 if none; or VMA of the file; this CPU",
        mm="the mm of the PTE at hand; this CPU",
    ),
    line(
        vma="its VMA, a row of `vma`, if anonymous; this CPU",
        addr="its address; this CPU",
        pmd="its pmd; this CPU",
        table="its table, which is pinned and locked, or 0; this CPU",
        cleared="entries of that table that have become none; this CPU",
        first="first frame of the run of pages; this CPU",
        pages="pages of the run; this CPU",
        end="where the run ends in the VMA; this CPU",
    ),
)

MUTEX = struct(
    line(
        owner="0 or owner + 1; cmpxchg",
        waiter="0, or CPU + 1 that gets it next; cmpxchg, cleared by that CPU",
        seq="bumped when a waiter may look again; the CPU that releases, or ends write-back",
        sleepers="CPUs asleep on seq; atomic",
    )
)

MM_WALK = struct(
    line(  # the page walk that a CPU is in, struct mm_walk
        private="what it is to do it with: WALK_CHARGE a control group, WALK_PROTECT VMA flags, WALK_UNUSE the VMA,"
        " WALK_PAGEMAP the last page of the range; this CPU",
    )
)

VMF = struct(
    line(  # the page fault that a CPU is in, struct vm_fault, see vmf.py
        mm="the mm; this CPU",
        vma="its row of `vma`, good while mmap_lock is held; this CPU",
        pmd="the pmd of the address; this CPU",
        addr="the address; this CPU",
        flags="FAULT_FLAG_WRITE | FAULT_FLAG_TRIED; this CPU",
        table="the PTE table it holds a reference on, or 0; this CPU",
        orig_pte="the entry as the fault found it, 0 if it was none or there was no table; this CPU",
        prealloc="a PTE table allocated before the page lock was taken, or 0; this CPU",
        slot="the page, a row of `cache`; this CPU",
    )
)

PTDESC = struct(  # one line: what every table uses, under every policy
    line(
        # Invariant: zero is absorbing: what was zero is never counted up. At rest it is the entries that are not none:
        # checks.py:pte_refcount.
        pte_refcount="PTE table: entries that are not none + visitors; atomic. Visitors alone, where they are counted"
        " apart; holder of the htable lock of its pmd",
        ptl="0 or owner + 1; spin_lock and spin_unlock",
        # Invariant: while the table is INSTALLED or DEPOSITED that entry names it, or a leaf in its place:
        # checks.py:tables_reachable.
        pmd="index of the entry that names this table; holder of that entry's pmd_lock",
        mm="mm + 1 it belongs to; the installer",
        # Invariant: FREE, ALLOCATED, INSTALLED, UNHOOKED, LIMBO, FREE; back to FREE from ALLOCATED if it is not needed;
        # INSTALLED and DEPOSITED take turns. In every state it is in one place: checks.py:tables.
        state="which of pgtable_types.TABLE_STATES. ALLOCATED: its new owner, from the free ones, alloc_table."
        " INSTALLED and DEPOSITED: holder of pmd_lock, populate and pgtable_trans_huge_deposit. UNHOOKED: the CPU"
        " that clears the pmd, unhook_pte_table and clear_table_entry. LIMBO: its only owner, call_rcu. FREE: its only"
        " owner, free_table",
        level="1 PTE, 2 PMD, 3 PUD, 4 PGD; the CPU that allocates it",
        generation="times it was freed; the CPU that frees it",
        next="next table of a callback list, 0 ends it; the list's owner",
    ),
)

PTNOTE = struct(  # of the same tables: what few of them use, so that the rest is memory that nobody touches
    line(
        # Invariant: at rest it is the entries that are not none, if the policy counts them: checks.py:entries_counted.
        nr_entries="PTE table: entries that are not none, as the policy counts them; holder of ptl",
        policy_word="PTE table: a second word of the policy; holder of ptl. Where counts are on each CPU: cmpxchg",
        lock_mm="mm + 1 whose lock is its ptl, where an mm has one, also if others share it; the installer",
        unhooked_ns="when its pmd was cleared, nanoseconds; the CPU that unhooks it, and clears it when it frees it",
        gp_seq="grace periods completed when it was unhooked, debug build; the CPU that unhooks it",
        ptl_dead="1 once its ptl was destroyed, debug build; the CPU that frees the table",
        # Invariant: as many as leaves of the table, each of the leaf's mm: checks.py:huge_pages.
        deposit="PMD table: first of the PTE tables kept under its leaves, 0 ends the list; holder of pmd_lock",
        # Invariant: puds that name the table, less one: checks.py:shared_tables.
        pt_share_count="PMD table: other puds that name it, see hugetlb.py; holder of the file's i_mmap_lock",
    ),
)

# Where the entries of tables lie apart from the tables (bodies.py): a row of `entry` is a body, of 512 entries.
BODIES = struct(
    line(
        # Invariant: each body below fresh is one table's, or on the list, and is all none there: checks.py:bodies.
        free="first that was given back, linked by body_next, and changes of this word << 32; cmpxchg",
        fresh="first that was never used; atomic",
        limit="one behind the last; before the start",
    )
)

PAGE = struct(
    line(
        # Invariant: refcount >= mapcount; at rest mapcount is the PTEs that map it, and refcount that and one for the
        # page cache: checks.py:mapcount.
        refcount="users of the frame; atomic",
        mapcount="PTEs that map it; atomic",
        generation="times it was freed; the CPU that frees it",
        # Invariant: every PTE of an anonymous frame lies where it says: checks.py:rmap.
        mapping="linear page index << 12 | LAZYFREE | LARGE | number + 1 of its family, 0 if it is none, or KSM's; the"
        " CPU that maps it first, holder of the ptl of a PTE or of the page lock, the CPU that frees it",
    ),
    align=32,
)

# Debug build: the life of a PTE table. A word is cycles since the start << 10 | CPU + 1, 0 if it never happened.
LIFE = struct(
    line(
        allocated="taken from the free ones; that CPU",
        installed="named by a pmd; that CPU",
        get="last reference taken; any CPU",
        put="last reference dropped; any CPU",
        zero="count reached zero; that CPU",
        unhooked="pmd cleared; that CPU",
        flushed="translations flushed; that CPU",
        deferred="handed to call_rcu; that CPU",
        freed="poisoned and free; that CPU",
    )
)

TRACE = struct(
    line(
        stamp="cycles since the start; its CPU",
        point="number of the point, see points.py; its CPU",
        subject="table, frame or address; its CPU",
        value="what was seen or written; its CPU",
    ),
    align=32,
)

POINT = struct(
    line(
        armed="1 if anything below is set; before the start",
        signal="signal that stops the process here, or 0; before the start",
        signal_cpu="CPU it is meant for; before the start",
        countdown="passes until then; that CPU",
        steer_to="a CPU that is here waits until another CPU passes that point, 0 nobody; before the start",
        steer_us="but no longer than this; before the start",
        steer_cpu="only this CPU is steered, -1 any; before the start",
        watched="1 if somebody waits for this point to be passed; before the start",
    ),
    line(hits="times it was passed, if watched; atomic"),
)

SHADOW = struct(
    line(
        key="mm and virtual address >> 3, 0 if empty; its CPU",
        value="what this CPU stored there last; its CPU",
        zaps="gathers of other CPUs before that, -1 if one was open; its CPU",
        released="1 once this CPU has given the page back since; its CPU",
    ),
    align=32,
)

LOCK_ORDER = struct(line(taken="1 once the inner class was taken while the outer was held; atomic"), align=8)

RCU_AGE = struct(line(count="readers that left a section with a table of that age; atomic"), align=8)

MEMCG = struct(line(charged="frames charged to it; atomic"))  # but for the root's, row 0

DEVICE = struct(
    line(
        frame="the frame the device owns, 0 if none; holder of i_mmap_lock",
        mm="mm + 1 whose VMA is linked into the file's i_mmap, else 0; holder of i_mmap_lock",
        addr="where that VMA begins; holder of i_mmap_lock",
        moves_to="where it will begin once mremap has moved it, else 0; holder of i_mmap_lock",
    )
)

ZONE = struct(
    line(
        lock="0 or owner + 1; spin_lock and spin_unlock",
        # Invariant: each index below fresh is in use, in zone_slot, in a block or in a CPU's pcp_slot, and in only one
        # of these: checks.py:frames, checks.py:tables.
        fresh="first index never handed out; holder of lock",
        count="recycled ones in zone_slot; holder of lock",
        blocks="free blocks of 512 frames in block_slot; holder of lock",
    ),
    line(
        limit="index behind the last; before the start",
        slots="first of this zone's zone_slot; before the start",
        pcp_high="most that a CPU keeps for itself; before the start",
        batch="moved between a CPU and the zone at once; before the start",
    ),
)

HTABLE = struct(line(lock="0 or owner + 1; spin_lock and spin_unlock"))

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
        step="bytes between touched pages, or per call (0: one call); MMAP: 0, or pgoff << 8 | file + 1",
        arg="value stored, protection, advice, how often to jump (0 for ever), or BARRIER: 1 to arrive only",
        record="row of `record` to fill when done, or -1",
        more="MREMAP_CALL: where to; MMAP: MAP_* flags; else nothing",
        left="jumps left; its CPU",
    )
)

RECORD = struct(
    line(
        pgtables_bytes="VmPTE in bytes; the recording CPU",
        rss_anon="frames; the recording CPU",
        minflt="page faults that the recording CPU has resolved; the recording CPU",
        error="0 or -errno; the recording CPU",
        value="cpu.loaded: what the instruction found; the recording CPU",
        ended_ns="when it had ended, nanoseconds; the recording CPU",
        child="1 if a child ran, and the rest is its; the recording CPU",
        child_pgtables_bytes="VmPTE in bytes; the recording CPU",
        child_rss_anon="frames; the recording CPU",
        child_minflt="page faults; the recording CPU",
    ),
)

WORD = struct(line(word="one int64"), align=8)

WAITQ = struct(line(sleepers="processes asleep on this stripe; semaphore engine"), align=8)

# name -> (structure, number of rows as a name of Geometry.counts()). A view of WORD is indexed directly: m.entry[i].
VIEWS: dict[str, tuple[Struct, str]] = {
    "config": (CONFIG, "one"),
    "run": (RUN, "one"),
    "rcu": (RCU, "one"),
    "gp_histogram": (GP_HISTOGRAM, "gp_buckets"),
    "reuse_histogram": (REUSE_HISTOGRAM, "reuse_buckets"),
    "waitq": (WAITQ, "waitqs"),
    "zone": (ZONE, "zones"),
    "barrier": (BARRIER, "barriers"),
    "point": (POINT, "points"),
    "path_taken": (WORD, "paths_taken"),  # how often each CPU took each path of paths.py, debug build
    "lock_order": (LOCK_ORDER, "lock_orders"),
    "rcu_age": (RCU_AGE, "rcu_ages"),
    "device": (DEVICE, "one"),
    "cpu": (CPU, "agents"),
    "cpu_word": (WORD, "cpu_words"),  # the policy's: config.cpu_words of each CPU, the coordinator's last; that CPU
    "siginfo": (SIGINFO, "siginfos"),
    "smaps": (SMAPS, "smapses"),
    "trace": (TRACE, "traces"),
    "shadow": (SHADOW, "shadows"),
    "file": (FILE, "files"),
    "mutex": (MUTEX, "mutexes"),
    "cache": (CACHE, "slots"),
    "vmf": (VMF, "vmfs"),
    "pvmw": (PVMW, "vmfs"),
    "mm_walk": (MM_WALK, "vmfs"),
    "swap": (SWAP, "one"),
    "batch": (WORD, "batches"),  # pages a CPU has put under write-back and not submitted
    "own_zaps": (WORD, "own_zaps"),  # gathers that a CPU has opened on an mm, debug build
    "htable": (HTABLE, "htables"),  # the locks of a hash of pmds, then one of each mm, for its cached tables
    "pcp": (PCP, "pcps"),
    "pcp_slot": (WORD, "pcp_slots"),
    "zone_slot": (WORD, "zone_slots"),
    "tlb": (TLB, "tlbs"),
    "psc": (PSC, "pscs"),
    "tlb_generation": (WORD, "tlb_generations"),  # of the frame when the entry was filled, debug build
    "psc_generation": (WORD, "psc_generations"),  # of the table when the entry was filled, debug build
    "gather_page": (WORD, "gather_pages"),
    "gather_table": (WORD, "gather_tables"),
    "gather_block": (WORD, "gather_blocks"),  # first frames of huge pages
    "block_freed": (WORD, "block_freed"),  # frames that a CPU is freeing of one huge page
    "block_slot": (WORD, "block_slots"),  # first frames of free blocks; holder of the frames' zone lock
    "mm": (MM, "mms"),
    "vma": (VMA, "vmas"),
    "place": (PLACE, "places"),  # of VMAs: a directory for each mm, then the leaves of all
    "insn": (INSN, "insns"),
    "record": (RECORD, "records"),
    "page": (PAGE, "frames"),
    "page_stored_by": (WORD, "page_values"),  # whose words a frame holds, see shadow.py, debug build; cmpxchg
    "page_values": (WORD, "page_values"),  # which words were ever stored: a bit each, see shadow.py, debug build
    "page_memcg": (
        WORD,
        "page_memcgs",
    ),  # control group that a frame is charged to, 0 the root's, debug build; xchg
    "memcg": (MEMCG, "memcgs"),
    "page_slot": (WORD, "page_slots"),  # row of `cache` + 1 whose page a frame holds; holder of the page lock
    "hugetlb_page": (WORD, "hugetlb_pages"),  # first frames of the hugetlbfs file, 0 none; holder of i_mmap_lock
    "disk": (WORD, "disk_words"),  # contents of each row of `cache` as written; holder of the page lock, or its writer
    "frame": (WORD, "frame_words"),
    "ptdesc": (PTDESC, "tables"),
    "ptnote": (PTNOTE, "tables"),
    "life": (LIFE, "lives"),
    "bodies": (BODIES, "one"),
    "body": (WORD, "table_bodies"),  # the body of each table, 0 while it is all none; holder of its ptl
    "body_next": (WORD, "bodies"),  # of a free body: the next one, 0 ends the list; the CPU that gives it back
    "entry": (WORD, "entries"),
}
UNUSED_APART = ("zone_slot", "page_slot")  # where bodies lie apart: few frames are freed, none is a file's
BODY_CHANGE = 1 << 32  # of bodies.free: its low half is the first free body, the other counts changes
ANON_VMA_INHERITED = 1 << 32  # of vma.anon_vma: a child has it from its parent, and it is no neighbour's
MAX_MAP_COUNT = 65530  # VMAs an mm may have, Linux's default
HEADER_BYTES = PAGE_SIZE  # word k of the header is the offset of view k

FRAMES, TABLES = 0, 1  # the two zones


@dataclass(frozen=True)
class Geometry:
    """How large a machine is; everything the layout of its segment depends on."""

    cpus: int = 1
    mms: int = 1
    vmas: int = 64  # per mm
    insns: int = 64  # of all CPUs together
    records: int = 1  # of all CPUs together
    frames: int = 4096  # frame 0, the zero page, included
    tables: int = 1024  # table 0, which is never used, included
    frame_words: int = FRAME_WORDS  # of contents per frame
    files: int = 0
    shmem: int = 0  # how many of the files, the last, are in shared memory
    file_pages: int = 64  # per file
    swap_pages: int = 0
    memcg_limit: int = 0  # pages of files and tables in use from which on a new PTE table reclaims; 0: no limit
    cpu_words: int = 0  # of the policy, on each CPU
    bodies: int = 0  # where the entries of tables lie apart from them, body 0 included; 0: each table has its own
    debug: bool = field(default_factory=engine.debug)  # is there room for what the debug build writes?

    @property
    def slots(self) -> int:
        """Rows of `cache`: the pages of all files, then those of swap."""
        return self.files * self.file_pages + self.swap_pages

    @property
    def vma_leaves(self) -> int:
        """Leaves of VMAs in each mm: two neighbours have more than half a leaf together, or are merged."""
        return 2 + 2 * self.vmas // (VMA_LEAF // 2)

    def counts(self) -> dict[str, int]:
        """Rows of each view. The coordinator has a row of `cpu` too, the last: it takes locks and reads the clock."""
        agents = self.cpus + 1
        slots = self.slots
        return {
            "one": 1,
            "gp_buckets": GP_BUCKETS,
            "reuse_buckets": agents * REUSE_BUCKETS,
            "waitqs": 64,
            "zones": 2,
            "barriers": NR_BARRIERS,
            "points": NR_POINTS,
            "paths_taken": agents * NR_PATHS if self.debug else 1,
            "lock_orders": NR_LOCK_CLASSES**2,
            "rcu_ages": RCU_AGES,
            "agents": agents,
            "cpu_words": max(1, agents * self.cpu_words),
            "traces": agents * TRACE_ENTRIES if self.debug else 1,
            "shadows": self.cpus * SHADOW_ENTRIES if self.debug else 1,
            "own_zaps": agents * self.mms if self.debug else 1,
            "lives": self.tables if self.debug else 1,
            "htables": NR_HTABLE_LOCKS + self.mms,
            "pcps": 2 * agents,
            "pcp_slots": 2 * agents * PCP_ROOM,
            "zone_slots": self.frames + self.tables,
            "tlbs": self.cpus * TLB_ENTRIES,
            "pscs": self.cpus * PSC_ENTRIES,
            "tlb_generations": self.cpus * TLB_ENTRIES if self.debug else 1,
            "psc_generations": self.cpus * PSC_ENTRIES if self.debug else 1,
            "gather_pages": self.cpus * GATHER_PAGES,
            "gather_tables": self.cpus * GATHER_TABLES,
            "gather_blocks": self.cpus * GATHER_BLOCKS,
            "block_freed": self.cpus * PTRS_PER_TABLE,
            "block_slots": self.frames // PTRS_PER_TABLE + 1,
            "mms": self.mms,
            "vmas": 1 + self.mms * self.vmas,  # row 0 is no VMA's
            "places": self.mms * self.vma_leaves * (2 + VMA_LEAF),
            "files": self.files + 2,  # then the device's and that of hugetlbfs
            "mutexes": slots + 2 * self.files + 2 + self.mms + NR_PAGE_LOCKS,
            "slots": max(1, slots),
            "vmfs": self.cpus,
            "siginfos": 2 * self.cpus,
            "smapses": self.cpus,
            "page_memcgs": self.frames if self.debug else 1,
            "memcgs": NR_MEMCGS,
            "batches": self.cpus * WRITE_BATCH,
            "page_slots": self.frames,
            "hugetlb_pages": HUGETLB_PAGES,
            "disk_words": max(1, slots * self.frame_words),
            "insns": self.insns,
            "records": self.records,
            "frames": self.frames,
            "page_values": self.frames if self.debug else 1,
            "frame_words": self.frames * self.frame_words,
            "tables": self.tables,
            "table_bodies": self.tables if self.bodies else 1,
            "bodies": max(1, self.bodies),
            "entries": (self.bodies or self.tables) * PTRS_PER_TABLE,
        }

    def offsets(self) -> tuple[dict[str, int], int]:
        """Offset of each view in the segment, and the segment's size, in bytes. Every view starts on a page."""
        counts, at, offsets = self.counts(), HEADER_BYTES, {}
        for name, (layout, rows) in VIEWS.items():
            offsets[name] = at
            at += -(-counts[rows] * layout.itemsize // PAGE_SIZE) * PAGE_SIZE
        return offsets, at

    def needs(self) -> int:
        """Bytes of the segment that a machine may come to touch: where bodies lie apart, less than its size."""
        counts, unused = self.counts(), UNUSED_APART if self.bodies else ()
        return self.offsets()[1] - sum(counts[VIEWS[name][1]] * VIEWS[name][0].dtype.itemsize for name in unused)
