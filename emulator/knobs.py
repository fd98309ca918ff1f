"""The knobs, one removed or reordered piece of the protocol each, and the settings, other lawful machines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """One piece of the protocol that a run can leave out: the field of `config`, and what happens then."""

    effect: str
    field: str = ""


def _fields(knobs: dict[str, str]) -> dict[str, Knob]:
    return {name: Knob(effect, name.replace("-", "_")) for name, effect in knobs.items()}


KNOBS = _fields(
    {
        "publish-before-init": "pmd_populate runs before pte_ref_init, as posted in v1 (D1)",
        "plain-count": "pte_get and pte_put read, add and write instead of one atomic addition",
        "missing-pte-put": "a read fault keeps its reference on the table",
        "check-then-increment": "pte_get_unless_zero looks at the count, then adds: zero is not absorbing",
        "uncounted-walker": "mincore walks a table without holding a reference",
        "count-late": "fault-around counts the entries it set after it has dropped ptl, as in v1 to v3 (D2)",
        "advanced-address": "zap drops its pin with the address it stopped at: the next 2 MiB are flushed (D4)",
        "pmd-recheck-only": "the freer checks that a table is at the pmd, not that it is the same one (D10)",
        "unhook-unlocked": "the pmd of a dying table is cleared without pmd_lock",
        "no-flush": "what a gather with a freed table unmapped stays in TLBs and paging-structure caches",
        "leaf-only-flush": "the flush of a freed table leaves the paging-structure caches as they are",
        "no-grace-period": "a table is freed right after the flush, under readers in their sections",
        "gp-ignores-reader": "grace periods do not wait for the last CPU",
        "ipi-for-grace-period": "one more IPI to every CPU is taken for a grace period (718b13861d22)",
        "one-table-unflushed": "without a gather batch a table is freed before the flush (d86564a2f085)",
        "nested-reset": "a nested gather forgets that tables were freed (7a30df49f63a)",
        "no-nested-flush": "a gather does not look whether others are open (99baac21e458)",
        "unlink-before-flush": "munmap takes the VMA out of i_mmap before it flushes (b67fbebd4cf9)",
        "early-ptlock-free": "a table's ptl is destroyed when it is unhooked, not after the grace period",
        "pte-alloc-under-page-lock": "finish_fault allocates a table while it holds a page lock (H1, patch 1)",
        "prealloc-leak": "a table that was preallocated is forgotten when the fault is retried (H2)",
        "ref-across-retry": "lock_page_or_retry drops mmap_lock and keeps the reference on the table (patch 4)",
        "put-without-get": "fault-around that got no table puts a reference all the same (D3)",
        "null-prealloc": "fault-around installs the table it has not preallocated (D7)",
        "one-put-for-all": "insert_pages takes a reference per table and drops one at the end (D5)",
        "mkclean-unflushed": "write-back write-protects a page and leaves the translations that allow stores",
        "dirty-zap-unflushed": "zap drops ptl before it flushes the dirty page of a file that it unmaps (1cf35d47712d)",
        "fork-unflushed": "fork does not flush the parent's TLBs after it has write-protected its entries",
        "walk-outside-vma": "a page walk begins in the gap below the VMA that find_vma returned (H11, 3f489c2067c5)",
        "uffd-seq-late": "a userfault notes what it sleeps on after its last look at the entry",
        "uffd-move-unchecked": "UFFD_MOVE trusts the destination table it found before it took the ptl (H18a)",
        "mremap-late-flush": "mremap flushes the old range after it has dropped the ptls (CVE-2018-18281)",
        "migrate-late-flush": "migration flushes after it has dropped the ptl (60bae7370896, H22)",
        "put-to-last-table": "an rmap walk puts for all it cleared in the table where it ends, as in v1 (D9)",
        "swap-uncounted": "an entry that becomes a swap entry is taken out of its table's count",
        "reuse-by-mapcount": "a write fault takes a frame for its own that one PTE maps, whoever else uses it (H25)",
        "wait-after-put": "slow GUP puts the table, then looks for the migration entry to wait for in it (D6)",
        "gup-no-pmd-recheck": "fast GUP looks at the entry again after it has counted the frame, not at the pmd (H6)",
        "move-without-rmap-lock": "mremap moves a whole table without i_mmap_lock and anon_vma lock (H4)",
        "stale-pmd-move": "mremap moves a whole table without a second look at the pmd, under the locks (H5)",
        "pmd-read-twice": "a walker reads the pmd twice: a huge page that comes in between is cleared as bad (H21)",
        "retract-unlocked": "retract takes a table out with mmap_lock and pmd_lock alone, not the rmap locks (H8)",
        "collapse-stale-scan": "collapse looks at the table before it takes the anon_vma lock: reclaim frees it (A2)",
        "collapse-without-ipi": "collapse does not wait for CPUs that have interrupts off (H7)",
        "unshare-without-ipi": "who gives a shared PMD table up does not wait for CPUs with interrupts off (H15)",
        "lost-wakeup": "the coordinator goes to sleep without a second look for work",
        "callbacks-in-hand": "the coordinator takes callbacks without a note of it in memory: a crash loses them",
        "no-publish-wmb": "a table is published by WRITE_ONCE, without the smp_wmb of patch 3 before it",
    }
)
# Lawful machines of another kind, on which some races need to run: fields of `config`.
SETTINGS = {
    "flush_ceiling": "pages; a longer flush empties the whole TLB (Linux's tlb_single_page_flush_ceiling, 33)",
    "any_zero_frees": "whoever sees a count of zero tries to free the table (percpu_ref RFC)",
    "no_gather_batch": "memory is short: a gather gets no batch for tables",
    "broadcast_flush": "flushes reach CPUs with interrupts off (arm64's TLBI); 2: and collapse sends no IPI of its own",
    "rcu_retract": "retract takes i_mmap_lock and pmd_lock, no mmap_lock (since 6.5)",
    "rcu_walk": "mincore and UFFD_MOVE take RCU, ptl and a second look at the pmd instead of a reference (since 6.5)",
}
