"""The defects that `ptelab findings` shows: those of the posted series, and those that merged kernels had."""

from __future__ import annotations

from dataclasses import dataclass

ABOUT = """# What is wrong, posted and merged

`ptelab findings --write docs/findings.md` writes this page, if all is as expected. A D or an A is a defect of the
series as posted (v1, 2021-07-18, unless said otherwise). An H is one that a released or a merged kernel had. Each is
shown twice. The explorer runs the smallest scene that has it, makes the schedule short and tells it. Real processes
race until they meet it. "piece in place" is the same scene without the defect: every interleaving up to that many
preemptions was run and is clean. The defect is put back by a knob, so each line can be repeated by the command beside
it. What maintainers said, and what is analysis of this project alone, is kept apart.
"""


@dataclass(frozen=True)
class Defect:
    """One defect: its id in the literature of this project, the race that shows it, and what is known of it."""

    id: str
    race: str
    title: str
    where: str
    versions: str
    effect: str
    fixed: str
    known: str
    near: tuple[str, ...] = ()  # functions in which the explorer preempts, where the scene is too long for all of them


@dataclass(frozen=True)
class Loss:
    """What the protocol as such gives away: the scenario that measures it, with its options."""

    id: str
    title: str
    scenario: tuple[str, ...]
    text: str


LOSSES = (
    Loss(
        "A1",
        "an mremap that runs out of memory half-way loses pages",
        ("mremap-oom", "--policy", "none,refcount-lock,refcount-rcu,refcount"),
        "Patch 5, move_ptes (v1, v2, v3). When move_page_tables cannot get a table for the target, move_vma moves "
        "back what has moved. It relies on the source tables being there still. Where tables are counted the last "
        "entry that moved away took its table along. Moving back then needs memory, of which there is none. What does "
        "not go back is unmapped with the target. The program is told -ENOMEM, as if nothing had happened. A limit of "
        "the memory control group is enough, for tables are charged to it. Under refcount-lock the table goes to the "
        "list of the CPU that moves, where it is found again. Not known to be fixed; analysis of this project. A "
        "reference kept on each source table until the move is over would do.",
    ),
)
DEFECTS = (
    Defect(
        "D1",
        "publish-before-init",
        "a table is published before its count is set",
        "patch 5, pte_install",
        "v1, v2",
        "pmd_populate comes first, pte_ref_init(.., 1) second. Under patch 5 no CPU can look in between, for visitors "
        "take pmd_lock. Patch 6 takes that lock away, and a visitor raises whatever the word held before. The "
        "installer's store then wipes the visitor's reference out: the table goes while an entry is set.",
        "v3, which has the order turned round and does not say why",
        "The order in v3 is posted; that it is a race from patch 6 on is analysis of this project. No barrier helps: "
        "it needs no weak memory.",
    ),
    Defect(
        "D2",
        "count-late",
        "fault-around counts its entries after it has dropped the ptl",
        "patch 5, filemap_map_pages",
        "v1, v2, v3",
        "n entries are visible and not counted. A MADV_DONTNEED in between takes n references that nobody has given "
        "yet. With two entries and two visitors the count meets zero exactly, and the table is freed under both.",
        "never in the series; here entries are counted under the ptl",
        "Analysis of this project; the text of v1 to v3 has the order.",
    ),
    Defect(
        "D3",
        "put-without-get",
        "fault-around that got no table puts a reference all the same",
        "patch 5, filemap_map_pages",
        "v1",
        "The exit of a fault-around that found no table to map into leads through the put. The count falls below what "
        "its holders own, or the put finds no pmd.",
        "v2, which puts before the label",
        "The change in v2 is posted.",
        ("pte_prealloc", "filemap_map_pmd", "mmap_read_lock", "clear_pmd"),
    ),
    Defect(
        "D4",
        "advanced-address",
        "a put with the address the walk has reached flushes the next 2 MiB",
        "patch 5, page_vma_mapped_walk, munlock, insert_pages",
        "v1",
        "free_pte_table clears the right pmd, which it is given, and flushes addr & PMD_MASK, one slice too far when "
        "addr is the end of the range. The freed table stays in paging-structure caches.",
        "for some fifteen walkers in v1 itself, by a variable `start`; these were missed",
        "Analysis of this project. x86 hides it, because a flush of 2 MiB exceeds tlb_single_page_flush_ceiling and "
        "empties everything; hardware that flushes by address does not (setting flush_ceiling).",
    ),
    Defect(
        "D5",
        "one-put-for-all",
        "insert_pages takes a reference per table and drops one",
        "patch 5, insert_pages",
        "v1",
        "pte_alloc_try_get stands in the loop over tables, pte_put behind it, and the error exits have none. Each "
        "table but the last keeps a visitor for good; at exit free_pte_range finds it, which is a BUG().",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D6",
        "wait-after-put",
        "slow GUP waits for a migration in a table that it has put",
        "patch 5, follow_page_pte",
        "v1",
        "follow_page_pte puts its reference and then calls migration_entry_wait, which reads the pmd again and takes "
        "the ptl of the table that it finds. The page may have moved by then and its range may have been zapped: the "
        "pmd is none, or names another table.",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D7",
        "null-prealloc",
        "fault-around installs a table it has not",
        "patch 5, do_fault_around and filemap_map_pmd",
        "v1",
        "Only a none pmd makes do_fault_around allocate. If the pmd named a table then, and that is freed before "
        "filemap_map_pmd looks, the pmd is none and the preallocated table is NULL. Before the series a table, once "
        "there, stayed, and the question could not arise.",
        "not known",
        "Analysis of this project.",
        ("pte_prealloc", "filemap_map_pmd", "mmap_read_unlock"),
    ),
    Defect(
        "D9",
        "put-to-last-table",
        "an rmap walk puts for all it cleared in the table where it ends",
        "patch 5, try_to_unmap_one",
        "v1",
        "The walk adds up the entries that became none and puts for them behind its loop, to the pmd it has reached. A "
        "huge page that was split and moved to an odd address has its PTEs in two tables. The second falls below what "
        "its holders own, the first is never freed. Here the run of pages is what is left of such a page after "
        "MADV_FREE, or any that lie side by side.",
        "not known",
        "Analysis of this project.",
    ),
    Defect(
        "D10",
        "pmd-recheck-only",
        "the freer looks whether a table is at the pmd, not which",
        "free_user_pte of the percpu_ref RFC",
        "RFC of 2022-04-29",
        "Two CPUs see the count at zero. One frees the table and a fault installs another. The other one takes the "
        "table it finds under pmd_lock for the dead one. It clears the pmd of a table that is in use (ABA).",
        "the RFC was not continued",
        "Analysis of this project. v1 to v3 do not have it: there only the CPU that made the count zero frees.",
    ),
    Defect(
        "A2",
        "collapse-stale-scan",
        "collapse takes a table out that reclaim has just freed",
        "patch 5, collapse_huge_page",
        "v1",
        "collapse looks at the pmd under mmap_lock and then waits for the anon_vma lock, which rmap walkers hold. "
        "Before the series they emptied a table at most. Now one that discards the last page of a table, which "
        "MADV_FREE gave up, puts the last reference and frees it. Collapse comes back to a pmd that is none, or to a "
        "dying table.",
        "not known; here the pmd is looked at again under the anon_vma lock",
        "Analysis of this project, confirmed by nobody: v1 changes the scan of khugepaged, and leaves these two looks "
        "of 5.13's collapse_huge_page as they are. Random programs of the emulator met it.",
    ),
    Defect(
        "H16",
        "reclaim-trusts-first-pass",
        "PT_RECLAIM frees a table that a fault has filled again",
        "zap_pte_range",
        "6.14-rc1",
        "A zap that wants to be polite lets go of the ptl half way (need_resched). A fault sets an entry behind it. "
        "The zap goes on to the end, has met nothing that had to stay, and clears the pmd of a full table.",
        "before 6.14: once the ptl was let go the table is scanned under both locks",
        "Found by fstests generic/437, in about 20 s. The need_resched is a setting here (zap_batch).",
    ),
    Defect(
        "H23",
        "reclaim-same-lock",
        "PT_RECLAIM waits for a lock that it holds",
        "zap_pte_range, try_to_free_pte",
        "the series for more architectures, January 2026",
        "Where the locks of page tables are not split, pmd_lock and the ptl are one lock. The trylock of the fast path "
        "fails for ever, and the scan takes the lock a second time.",
        "fb4ddf208511, before 7.0: the two are compared",
        "Posted as a fix; the steps are analysis of this project. Here one lock an mm is a setting (one_ptl).",
    ),
    Defect(
        "H28",
        "reclaim-past-the-table",
        "PT_RECLAIM flushes the 2 MiB behind the table that it frees",
        "zap_pte_range, free_pte",
        "7.0 to 7.1.8; CVE-2026-74674",
        "The address that tells the gather which paging-structure caches to flush is the one that the loop has "
        "reached: the end of the range. Entries that the call cleared flush the right place, so the table must have "
        "been empty before the call, or be found by the scan.",
        "478a1c3abebf, which passes the start",
        "Reported as SIGSEGV and endless faults by several programs. A processor whose invalidation of one address "
        "drops the whole paging-structure cache hides it. D4 is the same mistake, five years older.",
    ),
    Defect(
        "H29",
        "collapse-late-vma-lock",
        "collapse looks at a table that MADV_DONTNEED is freeing",
        "collapse_huge_page",
        "6.15 to the fix",
        "collapse holds mmap_lock for writing and looks at the pmd; MADV_DONTNEED holds the lock of the VMA and no "
        "mmap_lock (a6fde7add78d), and frees the table. collapse takes the lock of the VMA only then, and goes on with "
        "what it saw.",
        "366a4532d96f: the VMA is locked before the look",
        "Found by syzkaller, in a second. Here the explorer finds it from the two calls alone, on a machine with "
        "per-VMA locks (setting vma_locks).",
    ),
)
IDS = [one.id for one in (*DEFECTS, *LOSSES)]
REST = """## Looked at, and not shown

- **D8**: the frees of patches 5 and 6 outside of a gather use flush_tlb_range, which on x86 said `freed_tables = false`
  until 2025. CPUs in lazy-TLB mode got no IPI and might walk the freed table speculatively. Here a lazy CPU walks
  nothing, nor does it speculate; the flush is made as one that freed tables.
- **D11**: do_fault gives SIGBUS when pte_try_get fails in a VMA without a fault handler. That is right, not spurious. A
  dying table is empty, so the entry is none. Before the series a none entry of such a VMA was a SIGBUS as well. An
  entry that is cleared for a moment under the ptl keeps its reference, so its table is not dying. do_fault's second
  look is there for that.
"""
