"""Mutants of what pages hold and of memory's life: zeroing, copying, dirty bits, order of two statements, reuse."""

from benchmarks.mutants.mutant import change

DIRTY_BEFORE = "a fault makes the page dirty before an entry may be written, and who makes it clean takes that away"

CONTENTS = (
    change("not-cleared", "do_anonymous_page", "    clear_page(m, frame)\n", ""),
    change("clear-short", "clear_page", "frame * words, words, 0)", "frame * words, words - 1, 0)"),
    change("copy-short", "copy_page", "for word in range(words):", "for word in range(words - 1):"),
    change("copy-not", "fill_copy", "        copy_page(m, frame, source)\n", ""),
    change("huge-not-cleared", "do_huge_pmd_anonymous_page", "        clear_huge_page(m, head)\n", ""),
    change("collapse-not-cleared", "collapse_copy", "    clear_huge_page(m, head)\n", ""),
    change(
        "collapse-line",
        "collapse_copy",
        "range(first, first + ENTRIES_PER_LINE)",
        "range(first, first + ENTRIES_PER_LINE - 1)",
    ),
    change("huge-piece", "split_huge_pmd_locked", "huge_piece(entry, i << PAGE_SHIFT)", "huge_piece(entry, 0)"),
    change("move-one-short", "move_entries", "    while old < end:", "    while old + PAGE < end:"),
    change("swap-not-written", "swap_out_to", "    swap_writepage(m, cpu, slot)\n", ""),
    change("disk-short", "copy_to_disk", "for word in range(words):", "for word in range(words - 1):"),
    change(
        "written-late",
        "submit_batch",
        "        copy_to_disk(m, slot, m.cache.frame[slot])\n        end_page_writeback(m, slot)\n",
        "        end_page_writeback(m, slot)\n        copy_to_disk(m, slot, m.cache.frame[slot])\n",
    ),
    change(
        "dirty-lost-zap",
        "zap_file_pte",
        "        set_page_dirty(m, m.page_slot[frame] - 1)\n",
        "",
        equivalent=DIRTY_BEFORE,
    ),
    change(
        "dirty-lost-migrate",
        "set_migration_pte",
        "        set_page_dirty(m, m.page_slot[frame] - 1)\n",
        "        pass\n",
        equivalent=DIRTY_BEFORE,
    ),
    change(
        "dirty-lost-mkclean",
        "page_mkclean",
        "                set_page_dirty(m, slot)\n",
        "                pass\n",
        equivalent=DIRTY_BEFORE,
    ),
    change(
        "clean-before-mkclean",
        "clear_page_dirty_for_io",
        "    page_mkclean(m, cpu, slot)\n    write_once(m.cache.dirty, slot, 0)\n",
        "    write_once(m.cache.dirty, slot, 0)\n",
    ),
    change("discard-dirty", "discard_pte", "dirty = entry & DIRTY and", "dirty = entry < 0 and"),
    change(
        "discard-pinned",
        "discard_pte",
        "dirty or pinned:",
        "dirty:",
    ),
    change(
        "lazyfree-shared",
        "mark_lazyfree",
        "read_once(m.page.mapcount, frame) == 1",
        "read_once(m.page.mapcount, frame) >= 1",
    ),
    change("reuse-ksm", "wp_page_anon", " and read_once(m.page.mapping, frame) != 0", ""),
    change(
        "reuse-swapcache",
        "wp_page_anon",
        "    if read_once(m.page_slot, frame) != 0 and get_page_of(",
        "    if frame < 0 and get_page_of(",
    ),
    change("punch-drops-cows", "zap_entries", "            if entry & only == only:", "            if only >= 0:"),
    change("uffd-fill-short", "fill_page", "words, value)", "words - 1, value)"),
    change("uffd-no-wake", "move_pages", "    wake_userfault(m, cpu, mm)\n", ""),
    change("uffd-move-mapping", "move_present_pte", "    if not pinned:", "    if pinned:"),
    change("uffd-move-shared", "move_present_pte", "    if entry & ANON_EXCLUSIVE == 0:\n        return -EBUSY\n", ""),
    change("fork-pinned-shared", "copy_pinned_page", "    copy_page(m, copy, entry >> PAGE_SHIFT)\n", ""),
    change("shared-file-not-dirty", "do_shared_fault", "        page_mkwrite(m, cpu, slot)\n", ""),
    change("writeback-not-waited", "page_mkwrite", "    wait_on_page_writeback(m, cpu, slot, WRITEBACK)\n", ""),
    change("cache-keeps-slot", "delete_from_page_cache", "    write_once(m.page_slot, frame, 0)\n", ""),
)

LIFE = (
    change(
        "table-not-zeroed",
        "alloc_zone_table",
        "m.ptdesc.generation[table] != 0:",
        "m.ptdesc.generation[table] > 1:",
    ),
    change(
        "table-not-poisoned",
        "poison_table",
        "    memset(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE, POISON)\n",
        "",
        equivalent="a table is zeroed when it is allocated again: poison is there for those who must not look",
    ),
    change("table-same-generation", "poison_table", "    m.ptdesc.generation[table] += 1\n", ""),
    change(
        "frame-same-generation",
        "put_page_testzero",
        "    write_once(m.page.generation, frame, m.page.generation[frame] + 1)",
        "    pass",
        equivalent="only the detectors look at the generation of a frame",
    ),
    change("frame-keeps-mapping", "put_page_testzero", "    write_once(m.page.mapping, frame, 0)\n", ""),
    change("gp-next-only", "all_quiescent", "m.cpu.rcu_qs, cpu) < seq", "m.cpu.rcu_qs, cpu) < seq - 1"),
    change("gp-one-cpu", "all_quiescent", "    cpus = m.config.n_cpu[0]\n", "    cpus = 1\n"),
    change(
        "qs-in-reader",
        "cond_resched",
        "    if m.cpu.rcu_nesting[cpu] == 0:\n        rcu_qs(m, cpu)",
        "    smp_store_release(m.cpu.rcu_qs, cpu, smp_load_acquire(m.rcu.gp_seq, 0))",
    ),
    change(
        "gp-before-taking",
        "grace_period_agent",
        "        take_callbacks(m)\n",
        "",
        "    account_grace_period(m,",
        "    take_callbacks(m)\n    account_grace_period(m,",
    ),
    change("sync-rcu-early", "synchronize_rcu", "m.rcu.gp_seq, 0) + 1", "m.rcu.gp_seq, 0)"),
    change(
        "free-at-once",
        "tlb_remove_table_free",
        "        call_rcu(m, cpu, table)\n",
        "        free_table(m, cpu, table)\n",
    ),
    change(
        "state-late",
        "pmd_install",
        "            pte_table_init(m, table, 1, 0, 0)\n            populate(m, mm, pmd, table)\n        mark_life",
        "            populate(m, mm, pmd, table)\n            pte_table_init(m, table, 1, 0, 0)\n        mark_life",
    ),
    change("reclaim-skipped", "reclaim_locked", " or skipped or", " or"),
    change(
        "reclaim-dropped", "reclaim_locked", "(dropped and not knob(m.config.reclaim_trusts_first_pass))", "dropped < 0"
    ),
    change(
        "unhook-not-empty",
        "unhook_if_empty",
        "or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE) == 0",
        "or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE - 1) == 0",
    ),
    change(
        "retract-not-empty",
        "retract_table",
        "or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE) == 0",
        "or_words(m.entry, table * PTRS_PER_PTE + 1, PTRS_PER_PTE - 1) == 0",
    ),
    change(
        "withdraw-first",
        "pgtable_trans_huge_withdraw",
        "while table != 0 and m.ptdesc.pmd[table] != pmd:",
        "while table != 0 and m.ptdesc.pmd[table] < 0:",
    ),
    change(
        "deposit-owner",
        "pgtable_trans_huge_deposit",
        "    m.ptdesc.mm[table] = mm + 1\n",
        "",
    ),
    change(
        "sync-one-skipped", "tlb_remove_table_sync_one", "m.cpu.irq_off, other) != 0:", "m.cpu.irq_off, other) > 1:"
    ),
    change("collapse-no-sync", "take_table_out", "        tlb_remove_table_sync_one(m, cpu)\n", "        pass\n"),
    change("exit-early", "exit_mmap", "m.mm.mm_users, mm, -1) != 0", "m.mm.mm_users, mm, -1) > 1"),
    change("family-not-left", "exit_mmap", "    leave_family(m, cpu, mm)\n", ""),
    change("peek-gone", "pte_peek_rcu", "    if still_at(m, pmd, table):", "    if table != 0:"),
    change("reuse-anon-inherited", "can_merge", " and (a | b) & ANON_VMA_INHERITED == 0", ""),
    change(
        "swap-slot-locked", "get_swap_page", "            swap_map_sub(m, slot, SWAP_HAS_CACHE)\n", "            pass\n"
    ),
    change("oom-zone", "try_fault_again", "m.cpu.oom_zone[cpu] == FRAMES and retries", "retries"),
    change("retry-forgets", "try_fault_again", "            flags |= FAULT_FLAG_TRIED", "            flags |= 0"),
)
