"""Barriers that no scene can show to be needed, and why: something else on their way orders the same in every model.

They stand where Linux has one, or where a machine other than these models would need it.
"""

from __future__ import annotations

_PTL = "the entry is set under a lock that is taken behind it, by a cmpxchg: a full barrier; Linux's is an acquire"
_LEAF = (
    "what it leads to was there when pmd_lock was taken; behind that come counts of held pages, and words read under it"
)
_STATE = "ptdesc.state is the laboratory's own: all models have it in order"
_NAP = "it spares the agent a nap: lazy is seen later, and the explorer's agent spins"
_SPINS = "the explorer's waiter spins, and does not come to the sleep behind it"
_PLAIN = "what goes with it is read by plain loads, which no model makes early"
_DEAD = "the next coordinator begins when the last one is dead, and all its stores are there"
_MACHINE = "start and stop of the machine, which no scene has"
_CMPXCHG = "the cmpxchg behind it is a full barrier"

REASONS = {
    "bug.py:BUG smp_store_release": _MACHINE,
    "bug.py:BUG smp_store_release #2": _MACHINE,
    "flush.py:flush_tlb_others smp_mb": _NAP,
    "flush.py:flush_tlb_others smp_load_acquire": "leave_lazy_tlb behind it has a full barrier",
    "flush.py:flush_tlb_others smp_load_acquire #2": _SPINS,
    "flush.py:flush_tlb_others smp_load_acquire #3": _SPINS,
    "flush.py:flush_tlb_others smp_store_release #2": "the next request is a release of the same word",
    "flush.py:serve_flush smp_load_acquire": "the full barrier behind the loop",
    "flush.py:serve_flush smp_load_acquire #2": "the full barrier behind the loop",
    "flush.py:serve_flush smp_mb": _NAP,
    "flush.py:flush_agent smp_load_acquire": _PLAIN,
    "flush.py:flush_agent smp_store_release": "serve_flush has a full barrier, then branches on the acks",
    "idle.py:enter_idle smp_mb": _NAP,
    "interrupts.py:handle_ipi smp_load_acquire": _PLAIN,
    "wait.py:wait_on_timeout smp_mb__after_atomic": "sleep_on is a full barrier, and looks once more",
    "cow.py:copy_user_page smp_wmb": _PTL,
    "cow.py:fill_copy smp_wmb": _PTL,
    "memory.py:do_anonymous_page smp_wmb": _PTL,
    "memory.py:handle_wp_marker smp_wmb": _PTL,
    "file_leaf.py:install_file_leaf smp_store_release": _LEAF,
    "huge_fork.py:share_leaf smp_store_release": _LEAF,
    "huge_memory.py:pgtable_trans_huge_deposit smp_store_release": _STATE,
    "huge_memory.py:install_huge_pmd smp_store_release": _LEAF,
    "huge_memory.py:do_huge_pmd_anonymous_page smp_wmb": _PTL,
    "huge_memory.py:huge_zero_wp smp_wmb": _PTL,
    "huge_memory.py:huge_zero_wp smp_store_release": "the xchg of the entry before it is a full barrier",
    "huge_memory.py:zap_huge_pmd smp_store_release": _STATE,
    "hugetlb.py:huge_pmd_share smp_store_release": _LEAF,
    "hugetlb.py:hugetlb_no_page smp_wmb": _PTL,
    "khugepaged.py:set_collapsed smp_store_release": _LEAF,
    "khugepaged.py:collapse_huge_page smp_wmb": _PTL,
    "mmap_lock.py:mmap_write_lock_only smp_load_acquire": _CMPXCHG,
    "mmap_lock.py:mmap_write_trylock_only smp_store_release": "nothing was stored since the cmpxchg",
    "mutex.py:mutex_lock smp_load_acquire": _CMPXCHG,
    "page_alloc.py:alloc_table smp_store_release": _STATE,
    "pagemap.py:wait_on_page_writeback smp_load_acquire": "a late look makes it wait for the next write-back as well",
    "refcache.py:judge smp_load_acquire #2": _STATE,
    "upper.py:unhook_upper smp_store_release": _STATE,
    "insn.py:run_cpu smp_load_acquire": _MACHINE,
    "insn.py:start_machine smp_store_release": _MACHINE,
    "insn.py:stop_machine smp_store_release": _MACHINE,
    "insn.py:finish smp_store_release": "enter_idle before it has a full barrier",
    "migrate.py:copy_migrated_page smp_wmb": _PTL,
    "page_writeback.py:end_page_writeback smp_store_release #2": "the release before it keeps stores behind it as well",
    "replace_page.py:uprobe_replace smp_wmb": _PTL,
    "fork.py:fork smp_store_release": "mmap_write_unlock before it wakes, with full barriers",
    "mfill_atomic.py:fill_page smp_wmb": _PTL,
    "rcu.py:account_rcu_age smp_load_acquire": _STATE,
    "rcu.py:call_rcu_on smp_store_release": _STATE,
    "rcu.py:all_quiescent smp_load_acquire": "stores behind it wait for the branch, loads for the xchg of hurry",
    "rcu.py:all_quiescent smp_load_acquire #2": "stores behind it wait for the branch, loads for the xchg of hurry",
    "rcu.py:free_taken_bulk smp_store_release": _DEAD,
    "rcu.py:free_taken_bulk smp_store_release #2": _DEAD,
    "recovery.py:finish_handing_over smp_store_release": _DEAD,
    "recovery.py:poison_again smp_store_release": _STATE,
    "unhook.py:note_unhooked smp_store_release": _STATE,
    "move_page_tables.py:move_leaf smp_store_release": _LEAF,
}
