"""The named points of the protocol: where a CPU can be watched, delayed, steered, stopped or killed (debug build).

pass_point.py says what a CPU does there.
"""

from typing import NamedTuple

from emulator.atomic import (
    DEBUG,
    EXPLORES,
)

POINTS_PASS = DEBUG and not EXPLORES


class Point(NamedTuple):
    """One point: its function, what holds there, what subject and value of a trace line are, what it models.

    `needs` names the option without which nobody passes it.
    """

    function: str
    text: str
    value: str
    source: str
    subject: str = "table"
    needs: str = ""


POINTS: dict[str, Point] = {
    "fault.mmap-locked": Point(
        "memory.py:handle_mm_fault", "mmap_lock is held for reading", "write", "do_user_addr_fault", "address"
    ),
    "pte_try_get.read-pmd": Point(
        "pte_ref.py:pte_try_get",
        "inside rcu_read_lock, the pmd is read, no reference yet",
        "pmd",
        "patch 6",
        needs="--policy refcount-rcu or refcount",
    ),
    "pte_try_get.locked": Point(
        "counted.py:pte_try_get_locked",
        "pmd_lock is held, the pmd is read, no reference yet",
        "pmd",
        "patch 5",
        needs="--policy refcount-lock",
    ),
    "pte_try_get.checked": Point(
        "counted.py:pte_get_unless_zero",
        "the count was seen above zero, not yet raised",
        "count",
        "patch 5",
        needs="--knob check-then-increment",
    ),
    "pte_try_get.pinned": Point("pte_ref.py:pte_try_get", "the reference is taken", "count", "patches 5 and 6"),
    "pte_ref.read": Point(
        "counted.py:pte_ref_add",
        "plain-count: the count is read, not yet written",
        "count",
        "patch 5",
        needs="--knob plain-count",
    ),
    "pmd_install.locked": Point(
        "pte_alloc.py:pmd_install", "pmd_lock is held, the table is private", "pmd no.", "patch 2"
    ),
    "pmd_install.published": Point(
        "pte_alloc.py:pmd_install",
        "the table is at the pmd",
        "count",
        "patches 2 and 5",
        needs="--knob publish-before-init",
    ),
    "set_pte.locked": Point("memory.py:set_pte", "ptl is held, the entry is not written", "entry", "do_anonymous_page"),
    "set_pte.done": Point("memory.py:set_pte", "the entry is written and counted, ptl is held", "count", "patch 5"),
    "fault.pmd-none": Point(
        "file_fault.py:do_fault_around", "the fault has no table, none is allocated", "pmd no.", "D7", "address"
    ),
    "map_pages.unpinned": Point(
        "filemap.py:filemap_map_pmd", "fault-around has no table yet", "pmd no.", "filemap_map_pmd"
    ),
    "map_pages.counted": Point(
        "filemap.py:map_cached_range", "entries are set and ptl is dropped", "entries", "filemap_map_pages"
    ),
    "fault.retrying": Point(
        "filemap.py:lock_page_or_retry",
        "mmap_lock is dropped, the page is not waited for",
        "table",
        "patch 4",
        "page",
    ),
    "page.locked": Point("pagemap.py:lock_page", "the page lock is held", "frame", "lock_page", "page"),
    "page.gone": Point(
        "pagemap.py:delete_from_page_cache", "the page left the cache", "page", "delete_from_page_cache", "frame"
    ),
    "finish_fault.page-locked": Point(
        "file_fault.py:finish_fault", "the page lock is held, nothing is mapped", "table", "patch 1", "frame"
    ),
    "memcg.charging": Point(
        "vmscan.py:memcg_charge", "a PTE table is about to be charged", "-", "try_charge", "-", "a memcg limit"
    ),
    "writeback.collected": Point(
        "page_writeback.py:write_cache_pages", "a page is looked at, the batch not submitted", "pages", "ext4", "page"
    ),
    "writeback.submitting": Point(
        "page_writeback.py:submit_batch", "the batch goes to the disk", "pages", "ext4", "page"
    ),
    "truncate.unmapped": Point(
        "truncate.py:truncate_range", "unmapped once, the pages are in the cache", "page", "truncate_pagecache", "file"
    ),
    "zap.locked": Point("zap.py:zap_pte_range", "ptl is held, nothing is cleared", "count", "zap_pte_range"),
    "zap.cleared": Point(
        "zap.py:zap_pte_range",
        "the entries are cleared and ptl is dropped, not flushed, not uncounted",
        "entries",
        "zap_pte_range",
    ),
    "pte_put.dropped": Point("counted.py:pte_put_last", "a reference is dropped", "count", "patch 5"),
    "free_pte_table.zero": Point(
        "counted.py:pte_put_last", "the count is zero, the pmd still names the table", "count", "patch 5"
    ),
    "free_pte_table.checked": Point("unhook.py:unhook_pte_table", "the pmd is read, not yet cleared", "pmd", "patch 5"),
    "free_pte_table.unhooked": Point(
        "unhook.py:unhook_pte_table", "the pmd is cleared, nothing is flushed", "pmd", "patch 5"
    ),
    "gather.unflushed": Point(
        "mmu_gather.py:tlb_finish_mmu", "everything is gathered, nothing is flushed", "tables", "patch 7", "mm"
    ),
    "gather.flushed": Point("mmu_gather.py:tlb_table_flush", "flushed; the tables are not freed", "tables", "patch 7"),
    "table.freed": Point("page_alloc.py:free_table", "the table is poisoned and free", "generation", "pte_free"),
    "call_rcu.queued": Point("rcu.py:call_rcu", "the callback is queued", "generation", "patch 6"),
    "flush.requested": Point(
        "flush.py:flush_tlb_others", "the flush agent is asked", "tlb_gen", "flush_tlb_mm_range", "address"
    ),
    "ipi.taken": Point(
        "interrupts.py:handle_ipi",
        "the interrupt is taken, not carried out, not acknowledged",
        "tlb_gen",
        "flush_tlb_func",
        "request",
    ),
    "ipi.flushed": Point(
        "interrupts.py:handle_ipi", "carried out, not acknowledged", "tlb_gen", "flush_tlb_func", "request"
    ),
    "walk.cached": Point("mmu.py:hardware_walk", "the paging-structure cache named the table", "table", "hardware"),
    "walk.tables": Point("mmu.py:hardware_walk", "the upper tables named the table", "table", "hardware"),
    "access.translated": Point(
        "mmu.py:translate", "the translation is there, the word is not yet accessed", "entry", "hardware", "address"
    ),
    "gup.read-pud": Point(
        "gup_fast.py:get_user_page_fast_only",
        "the pud is read, the PMD table that it names is not",
        "address",
        "gup_fast_pud_range",
    ),
    "gup.read-pmd": Point(
        "gup_fast.py:gup_pte_range", "interrupts are off, the pmd is read, no entry", "pmd", "gup_pte_range"
    ),
    "gup.read-pte": Point(
        "gup_fast.py:gup_pte_range", "the entry is read, its frame not yet counted", "entry", "gup_pte_range"
    ),
    "gup.pinned": Point(
        "gup_fast.py:gup_pte_range", "the frame is counted, nothing looked at again", "frame", "70cbc3cc78a9"
    ),
    "gup.used": Point(
        "gup_fast.py:use_page",
        "the device is done with the page, which is pinned still",
        "value",
        "pin_user_pages",
        "frame",
    ),
    "hugetlb.unshared": Point(
        "hugetlb.py:unmap_hugetlb_vmas",
        "the range is unmapped, flushed and out of i_mmap",
        "address",
        "1013af4f585f",
        "-",
    ),
    "huge.installed": Point("huge_memory.py:install_huge_pmd", "a leaf stands at the pmd", "pmd no.", "set_huge_pmd"),
    "huge.split": Point(
        "huge_memory.py:split_huge_pmd", "the leaf was split, or somebody else did", "pmd no.", "__split_huge_pmd", "-"
    ),
    "collapse.unhooked": Point(
        "khugepaged.py:take_table_out",
        "the pmd is cleared and flushed, no page looked at",
        "pmd no.",
        "pmdp_collapse_flush",
    ),
    "collapse.isolated": Point(
        "khugepaged.py:collapse_huge_page",
        "no page is pinned, none is copied",
        "pmd no.",
        "__collapse_huge_page_isolate",
    ),
    "mincore.read-pmd": Point("mincore.py:mincore_pmd", "the pmd was no leaf", "pmd", "pmd_none_or_clear_bad"),
    "retract.empty": Point(
        "retract.py:retract_table", "the table is empty, its pmd not cleared", "pmd no.", "retract_page_tables"
    ),
    "mincore.walking": Point(
        "mincore.py:mincore_pte_range", "the table is found, ptl is not held", "count", "mincore(2)"
    ),
    "pagewalk.upper": Point(
        "pagewalk.py:next_table", "the PMD table is found, its entry not read", "address", "walk_pud_range"
    ),
    "uffd.waiting": Point(
        "userfaultfd.py:handle_userfault",
        "mmap_lock is dropped, the page is not waited for",
        "uffd_seq",
        "handle_userfault",
        "address",
        needs="UFFD_REGISTER",
    ),
    "uffd.looked": Point(
        "userfaultfd.py:handle_userfault",
        "the entry is none, what to sleep on is not noted",
        "uffd_seq",
        "userfaultfd_must_wait",
        "address",
        needs="--knob uffd-seq-late",
    ),
    "uffd.woken": Point(
        "userfaultfd.py:wake_userfault", "uffd_seq is counted up, sleepers woken", "uffd_seq", "wake_userfault", "mm"
    ),
    "uffd.mapped": Point(
        "uffd_move.py:move_page_rcu",
        "both tables are found, inside rcu_read_lock, no ptl is held",
        "source",
        "move_pages_pte",
        needs="setting rcu_walk",
    ),
    "mprotect.changed": Point(
        "change_ptes.py:change_pte_range",
        "the entries are changed, ptl is held, nothing is flushed",
        "flags",
        "mprotect(2)",
    ),
    "guard.installed": Point(
        "guard.py:guard_install_pte_range", "guards are set and counted, ptl is held", "guards", "madvise(2)"
    ),
    "mremap.moved": Point(
        "move_page_tables.py:move_ptes",
        "entries are at the new address, not flushed, both ptls are held",
        "entries",
        "move_ptes",
    ),
    "mremap.table": Point(
        "move_page_tables.py:move_normal_pmd", "the pmd was read, no lock is held", "pmd no.", "move_normal_pmd"
    ),
    "mremap.unlocked": Point("move_page_tables.py:move_ptes", "the ptls are dropped", "entries", "move_ptes"),
    "fork.copied": Point(
        "fork.py:copy_ptes", "entries are shared with the child, both ptls are held", "entries", "copy_pte_range"
    ),
    "fork.unflushed": Point("fork.py:fork", "all is copied, the parent is not flushed", "child", "dup_mmap", "mm"),
    "mmap.locked": Point("mmap.py:do_mmap", "mmap_lock is held for writing", "length", "mmap(2)", "address"),
    "munmap.detached": Point(
        "mmap.py:do_munmap", "the VMAs are gone, mmap_lock is held for writing", "length", "munmap(2)", "address"
    ),
    "munmap.zapped": Point(
        "mmap.py:unmap_region", "entries are cleared, tables and VMA links are there", "end", "munmap(2)", "address"
    ),
    "munmap.unlinked": Point(
        "mmap.py:unmap_region", "the VMA left i_mmap, the gather is open", "end", "b67fbebd4cf9", "address"
    ),
    "device.freed": Point(
        "device.py:device_remove", "the device's frame is free", "generation", "unmap_mapping_range", "frame"
    ),
    "reclaim.unmapped": Point(
        "anon_reclaim.py:swap_out_to",
        "the page is unmapped where it can be, not written",
        "slot",
        "pageout",
        "frame",
    ),
    "swap.page-locked": Point(
        "swap_fault.py:swap_in", "the slot's page is locked, nothing is mapped", "address", "do_swap_page", "slot"
    ),
    "migration.waiting": Point(
        "swap_fault.py:migration_wait_or_retry",
        "mmap_lock is dropped, the page is not waited for",
        "address",
        "migration_entry_wait",
        "lock",
    ),
    "migrate.unmapped": Point(
        "migrate.py:move_to_new_page",
        "migration entries are set, not copied",
        "new frame",
        "migrate_page",
        "frame",
    ),
    "migrate.unflushed": Point(
        "migrate.py:flush_late",
        "the migration entry is set, ptl is dropped, nothing is flushed",
        "mm",
        "60bae7370896",
        "address",
        needs="--knob migrate-late-flush",
    ),
    "collapse.scanned": Point(
        "khugepaged.py:collapse_one",
        "the table is fine, the anon_vma lock not yet taken",
        "pmd no.",
        "patch 5, collapse_huge_page",
        "address",
        needs="--knob collapse-stale-scan",
    ),
    "gup.unpinned": Point(
        "gup.py:follow_page_pte",
        "the table is put, the migration entry in it not waited for",
        "pmd no.",
        "D6",
        "address",
        needs="--knob wait-after-put",
    ),
    "alloc.zone-locked": Point(
        "page_alloc.py:rmqueue_bulk", "the zone lock is held", "recycled", "rmqueue_bulk", "zone"
    ),
    "exit.mmap-locked": Point(
        "mmap.py:exit_mmap", "mmap_lock is held for writing, nothing is unmapped", "VMAs", "exit_mmap", "mm"
    ),
    "barrier.arrived": Point(
        "insn.py:barrier_wait", "this CPU is counted, the others are not waited for", "arrived", "-", "barrier"
    ),
    "coordinator.idle": Point(
        "rcu.py:coordinator_loop", "it found no work and is about to sleep", "wake", "-", "state"
    ),
    "coordinator.callbacks": Point(
        "rcu.py:grace_period_agent", "callbacks are taken, no grace period runs", "gp_seq", "rcu_gp_init"
    ),
    "coordinator.gp-ended": Point(
        "rcu.py:rcu_free_done", "the grace period is over, its tables are not freed", "gp_seq", "rcu_do_batch"
    ),
    "coordinator.ipis-sent": Point(
        "flush.py:flush_agent", "the IPIs are sent, no ack is waited for", "tlb_gen", "smp_call_function_many", "CPU"
    ),
    "coordinator.acked": Point(
        "flush.py:flush_agent",
        "all acks are there, the caller is not released",
        "tlb_gen",
        "smp_call_function_many",
        "CPU",
    ),
}

COORDINATOR_POINTS = tuple(name for name in POINTS if name.startswith("coordinator.")) + ("table.freed",)

_NUMBERS = {name: i + 1 for i, name in enumerate(POINTS)}


def point_number(name: str) -> int:
    """The number of a point: its row of m.point."""
    return _NUMBERS[name]


def point_name(of: int) -> str:
    """The name of point number `of`."""
    return list(POINTS)[of - 1]
