"""The knobs, one removed or reordered piece of the protocol each, and the settings, other lawful machines.

Told here and nowhere else: the fields of `config`, `ptelab list`, the order of the zoo and the tables of docs/races.md
come from these. Sources: D numbers are defects of the posted series, H numbers races that Linux had. A numbers come
from the analysis of this project. A number of twelve hexadecimal digits is the commit that made or closed the race.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """One piece of the protocol that a run can leave out: its name, what is different then, and where that is from."""

    name: str
    effect: str
    source: str

    @property
    def field(self) -> str:
        """The field of `config`."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Setting:
    """Another lawful machine, on which some races need to run: the field of `config`, and what its value means."""

    name: str
    effect: str


_KNOBS = (
    Knob(
        "publish-before-init",
        "pmd_populate runs before pte_ref_init",
        "D1; v1 and v2, patch 5: pte_install; silently reordered in v3",
    ),
    Knob(
        "count-late",
        "fault-around counts the entries it set after it has dropped ptl",
        "D2; v1 to v3: filemap_map_pages",
    ),
    Knob(
        "advanced-address",
        "zap drops its pin with the address it stopped at: the next 2 MiB are flushed",
        "D4; v1: page_vma_mapped_walk, __munlock_pagevec_fill, insert_pages",
    ),
    Knob(
        "pmd-recheck-only",
        "the freer checks that a table is at the pmd, not that it is the same one (ABA)",
        "D10; percpu_ref RFC of 2022-04-29: free_user_pte",
    ),
    Knob(
        "missing-pte-put",
        "a read fault keeps its reference on the table",
        "patch 5: BUG in free_pte_range",
    ),
    Knob(
        "uncounted-walker",
        "mincore walks a table without holding a reference",
        "patches 5 to 7: every walker of a PTE table must hold a reference or be excluded",
    ),
    Knob(
        "plain-count",
        "pte_get and pte_put read, add and write instead of one atomic addition",
        "patch 5: atomic_t pte_refcount",
    ),
    Knob(
        "check-then-increment",
        "pte_get_unless_zero looks at the count, then adds: zero is not absorbing",
        "patch 5: pte_get_unless_zero",
    ),
    Knob(
        "unhook-unlocked",
        "the pmd of a dying table is cleared without pmd_lock",
        "patch 5: pte_try_get and free_pte_table both take pmd_lock",
    ),
    Knob(
        "no-flush",
        "what a gather with a freed table unmapped stays in TLBs and paging-structure caches",
        "patch 5: flush_tlb_range in free_pte_table; patch 7: tlb_remove_table",
    ),
    Knob(
        "leaf-only-flush",
        "the flush of a freed table leaves the paging-structure caches as they are",
        "patch 7: tlb->freed_tables; D8, flush_tlb_range says freed_tables=false (016c4d92cd16)",
    ),
    Knob(
        "no-grace-period",
        "a table is freed right after the flush, under readers in their sections",
        "patch 6: call_rcu in free_pte_table",
    ),
    Knob(
        "gp-ignores-reader",
        "grace periods do not wait for the last CPU",
        "rcutorture's test of the mechanism; patch 6 rests on it",
    ),
    Knob(
        "ipi-for-grace-period",
        "one more IPI to every CPU is taken for a grace period",
        "718b13861d22: tlb_remove_table_sync_one excludes walkers with interrupts off only; patch 7",
    ),
    Knob(
        "one-table-unflushed",
        "without a gather batch a table is freed before the flush",
        "H13, d86564a2f085: tlb_remove_table_one frees before tlb_table_invalidate",
    ),
    Knob(
        "nested-reset",
        "a nested gather forgets that tables were freed, and flushes the last level only",
        "H10, 7a30df49f63a; dd2283f2605e made munmap free tables under mmap_lock for reading",
    ),
    Knob(
        "no-nested-flush",
        "a gather does not look whether others are open, and leaves what they have cleared unflushed",
        "H12, 99baac21e458, 4647706ebeee: mm_tlb_flush_nested",
    ),
    Knob(
        "unlink-before-flush",
        "munmap takes the VMA out of i_mmap before it flushes",
        "H14, b67fbebd4cf9, CVE-2022-39188",
    ),
    Knob(
        "mremap-late-flush",
        "mremap flushes the old range after it has dropped the ptls",
        "H3, eb66ae030829, CVE-2018-18281",
    ),
    Knob(
        "fork-unflushed",
        "fork does not flush the parent's TLBs after it has write-protected its entries",
        "dup_mmap: flush_tlb_mm; wp_page_copy",
    ),
    Knob(
        "reuse-by-mapcount",
        "a write fault takes a frame for its own that one PTE maps, whatever else uses it",
        "H25's class: c444eb564fb1, CVE-2020-29368; 09854ba94c6a",
    ),
    Knob(
        "migrate-late-flush",
        "migration flushes after it has dropped the ptl of the migration entry",
        "H22, 60bae7370896",
    ),
    Knob(
        "wait-after-put",
        "slow GUP puts the table, then looks for the migration entry to wait for in it",
        "D6; v1: follow_page_pte, migration_entry_wait",
    ),
    Knob(
        "swap-uncounted",
        "an entry that becomes a swap entry is taken out of its table's count",
        "patch 5: an entry in swap is not none; try_to_unmap_one",
    ),
    Knob(
        "put-to-last-table",
        "an rmap walk over a run of pages puts for all it cleared in the table where it ends",
        "D9; v1: try_to_unmap_one, mm/rmap.c",
    ),
    Knob(
        "early-ptlock-free",
        "a table's ptl is destroyed when it is unhooked, not after the grace period",
        "H17, PT_RECLAIM, reported by syzbot: pagetable_dtor before call_rcu",
    ),
    Knob(
        "lock-no-pmd-recheck",
        "pte_lock does not look at the pmd again once it has the ptl (pmd_same)",
        "pte_offset_map_lock, mm/pgtable-generic.c, since 6.5",
    ),
    Knob(
        "reclaim-trusts-first-pass",
        "the fast path of PT_RECLAIM trusts that it cleared all although the zap has let go of the ptl",
        "H16; 6.14-rc1, found by fstests generic/437",
    ),
    Knob(
        "reclaim-same-lock",
        "PT_RECLAIM does not ask whether pmd_lock is the ptl that it holds, or is about to take",
        "H23; fb4ddf208511",
    ),
    Knob(
        "lost-wakeup",
        "the coordinator goes to sleep without a second look for work",
        "futex(2): the value must be read before the condition is looked at; swait in the RCU kthreads",
    ),
    Knob(
        "pte-alloc-under-page-lock",
        "finish_fault allocates a table while it holds a page lock",
        "H1; patch 1, e4dc3489143f; f9ce0be71d1f took away what 63f3655f9501 had put there",
    ),
    Knob(
        "prealloc-leak",
        "a table that was preallocated is forgotten when the fault is retried",
        "H2, b0b9b3df27d10; again in the backport of 63f3655f9501",
    ),
    Knob(
        "ref-across-retry",
        "a fault drops mmap_lock to wait, for a page or for userfaultfd, and keeps its reference on the table",
        "patch 4: lock_page_or_retry; patch 5: pte_put_vmf",
    ),
    Knob(
        "put-without-get",
        "fault-around that got no table puts a reference all the same",
        "D3; v1: filemap_map_pages, `goto put` for a huge pmd; here for one that is dying",
    ),
    Knob(
        "null-prealloc",
        "fault-around installs the table it has not preallocated",
        "D7; v1: do_fault_around and pte_install_try_get",
    ),
    Knob(
        "uffd-seq-late",
        "a userfault notes what it sleeps on after its last look at the entry",
        "handle_userfault: on the wait queue first, then userfaultfd_must_wait",
    ),
    Knob(
        "uffd-move-unchecked",
        "UFFD_MOVE trusts the destination table it found before it took the ptl",
        "H18a; move_pages_pte looks at the destination's pmd again since tables may go under it (6.14)",
    ),
    Knob(
        "walk-outside-vma",
        "a page walk begins in the gap below the VMA that find_vma returned",
        "H11; a8b92b8c1eac (s390), 3f489c2067c5 (binder)",
    ),
    Knob(
        "one-put-for-all",
        "insert_pages takes a reference per table and drops one at the end",
        "D5; v1: insert_pages, mm/memory.c",
    ),
    Knob(
        "mkclean-unflushed",
        "write-back write-protects a page and leaves the translations that allow stores",
        "page_mkclean, mm/rmap.c: ptep_clear_flush",
    ),
    Knob(
        "dirty-zap-unflushed",
        "zap drops ptl before it flushes the dirty page of a file that it unmaps",
        "1cf35d47712d, `mm: split tlb_flush_mmu() into tlb flushing and memory freeing parts`",
    ),
    Knob(
        "gup-no-pmd-recheck",
        "fast GUP looks at the entry again after it has counted the frame, not at the pmd",
        "H6, 70cbc3cc78a9",
    ),
    Knob(
        "collapse-stale-scan",
        "collapse looks at the table before it takes the anon_vma lock: reclaim frees it",
        "A2; v1, patch 5: collapse_huge_page",
    ),
    Knob(
        "collapse-late-vma-lock",
        "collapse takes the lock of the VMA after it has looked at the table",
        "H29; 366a4532d96f; MADV_DONTNEED under the lock of a VMA: a6fde7add78d",
    ),
    Knob(
        "collapse-without-ipi",
        "collapse does not wait for CPUs that have interrupts off before the table may be freed",
        "H7, 2ba99c5e0881",
    ),
    Knob(
        "unshare-without-ipi",
        "giving up a shared PMD table does not wait for CPUs with interrupts off",
        "H15, 1013af4f585f, CVE-2025-38085",
    ),
    Knob(
        "pmd-read-twice",
        "a walker reads the pmd twice: a huge page that comes in between is cleared as bad",
        "H21, 1a5a9906d4e8, CVE-2012-1179",
    ),
    Knob(
        "retract-unlocked",
        "retract takes a table out with mmap_lock and pmd_lock alone, not the rmap locks",
        "H8, 8d3c106e19e8",
    ),
    Knob(
        "move-without-rmap-lock",
        "mremap moves a whole table without i_mmap_lock and anon_vma lock",
        "H4, 97113eb39fa7",
    ),
    Knob(
        "stale-pmd-move",
        "mremap moves a whole table without a second look at the pmd, under the locks",
        "H5, CVE-2024-50066; the race since 1d65b771bc08",
    ),
    Knob(
        "upper-first-entry",
        "whether an upper table is empty is told by its first entry",
        "D15; a prototype of 2021, mm/pgtable_reclaim.c, whose test advances the pointer of the table above",
    ),
    Knob(
        "upper-read-locked",
        "empty PMD tables are taken out with mmap_lock held for reading: faults are under way",
        "_pmap_unwire_ptp under PMAP_LOCK, which FreeBSD's faults hold from the top on",
    ),
    Knob(
        "look-after-transfer",
        "a fault that has given its reference to the entry looks at the table once more, behind the ptl",
        "update_mmu_cache where it stands behind pte_unmap_unlock: nothing keeps the table there",
    ),
    Knob(
        "transfer-though-lost",
        "a fault that finds the entry set by another gives its reference away all the same: nobody puts it",
        "do_anonymous_page: pte_none is looked at again under the ptl",
    ),
    Knob(
        "free-ptes-at-once",
        "free_ptes frees a table with mmap_lock held for writing, and at once: rmap walkers are in it",
        "D14; two counters, RFC of 2022-08-25, 6 of 7; the objection of 2022-08-29",
    ),
    Knob(
        "zeros-under-uffd",
        "free_ptes frees tables of zero pages where userfaultfd has filled them, or memory is locked",
        "H42; two counters, RFC of 2022-08-25, 6 of 7",
    ),
    Knob(
        "stray-forgotten",
        "a table that is unhooked is not marked: a CPU that waits for its ptl takes it for the one it found",
        "H36; CortenMM, ostd/src/mm/page_table",
    ),
    Knob(
        "free-without-wait",
        "a table is freed without a wait for rmap walks, which have not wired it",
        "H31; pmap_disconnect_options of XNU, whose CPU says that it is in one",
    ),
    Knob(
        "wired-ignored",
        "a table without entries goes though a fault has wired it",
        "pmap_enter_options of XNU: the wired count, across an allocation",
    ),
    Knob(
        "review-early",
        "a table that was seen at zero is reviewed an epoch early: not every CPU has added up since",
        "H35, R-epoch; Refcache, kernel/refcache.cc of sv6: the epoch after next",
    ),
    Knob(
        "revive-ignored",
        "a review does not look whether somebody has come to the dying table since",
        "Refcache, EuroSys 2013: the dying mark of a weak reference",
    ),
    Knob(
        "demote-uncounted",
        "the entries that a split of a huge page makes are not counted",
        "H34; pmap_demote_pde of FreeBSD, 78d3e2f45aae",
    ),
    Knob(
        "lookup-unlocked",
        "a visitor reads the pmd and counts itself without the lock of the hash: the last one out does not see it",
        "htable_lookup, uts/i86pc/vm/htable.c, illumos",
    ),
    Knob(
        "cache-before-flush",
        "a table joins the cache of its process before it is flushed: another thread fills it while it is walked",
        "unlink_ptp, uts/i86pc/vm/htable.c, illumos",
    ),
    Knob(
        "percpu-no-bias",
        "the one word has no bias while a count is on each CPU: a CPU that sees the switch early takes it for zero",
        "percpu_ref_init and percpu_ref_switch_to_atomic_rcu, lib/percpu-refcount.c",
    ),
    Knob(
        "stale-table-after-switch",
        "a freer that pins the table of the pmd again goes on with the one it had; setting switch_back",
        "D12; percpu_ref, RFC of 2022-04-29, 13 of 18",
    ),
    Knob(
        "callbacks-in-hand",
        "the coordinator takes callbacks without a note of it in memory: a crash loses them",
        "recovery.py: its successor must find them",
    ),
    Knob(
        "no-publish-wmb",
        "a table is published by WRITE_ONCE, without the smp_wmb before it",
        "patch 3: smp_wmb before pmd_populate",
    ),
)
_SETTINGS = (
    Setting(
        "flush_ceiling",
        "pages a flush covers one by one, 33 if not set (tlb_single_page_flush_ceiling); a longer one empties the TLB",
    ),
    Setting(
        "any_zero_frees",
        "any CPU that reads zero after its put tries to free the table, unless the pmd has changed (percpu_ref RFC)",
    ),
    Setting(
        "no_gather_batch",
        "memory is short: a gather gets no batch for tables, each is flushed and freed alone",
    ),
    Setting(
        "broadcast_flush",
        "1: flushes reach CPUs with interrupts off, as arm64's TLBI does; 2: and collapse sends no IPI of its own, as "
        "before 2ba99c5e0881; for policies that free tables after a grace period",
    ),
    Setting(
        "vma_locks",
        "1: faults and MADV_DONTNEED take the lock of one VMA in place of mmap_lock, as since 6.4",
    ),
    Setting(
        "one_ptl",
        "1: all tables of an mm have one lock, as without split page-table locks",
    ),
    Setting(
        "switch_back",
        "1: where MADV_DONTNEED finds nothing to free, the count of the table goes back to a word on each CPU",
    ),
    Setting(
        "zap_batch",
        "entries that a zap looks at before it lets go of the ptl, as where somebody wants the processor; 0: all",
    ),
)

KNOBS = {knob.name: knob for knob in _KNOBS}
SETTINGS = {setting.name: setting for setting in _SETTINGS}
