"""Mutants of counts and accounts: references of tables and frames, slots of swap, RSS, page tables."""

from benchmarks.mutants.mutant import change

COUNTING = (
    change("set-pte-uncounted", "set_pte", "1 + entry_filled(m, cpu, pmd, table, entry)", "1"),
    change("zap-entry-kept", "zap_pte_range", "pmd, first, cleared)", "pmd, first, cleared - 1)"),
    change("last-put-early", "pte_put_last", "if count != 0:", "if count > 1:"),
    change("inc-from-zero", "atomic_inc_not_zero", "while value != 0:", "while value >= 0:"),
    change(
        "fault-keeps-pin",
        "pte_put_vmf",
        "        pte_put(m, cpu, m.vmf.mm[cpu], m.vmf.pmd[cpu], m.vmf.addr[cpu])",
        "        pass",
    ),
    change("fork-counts-zeros-twice", "copy_ptes", "SOME_PTE, copied - zeros)", "SOME_PTE, copied)"),
    change(
        "move-forgets-zeros", "move_entries", "    entry_changed(m, cpu, new_pmd, new_table, 0, ZERO_PTE, zeros)\n", ""
    ),
    change("move-puts-entries", "move_ptes", "moved + 1)", "moved)"),
    change("guard-uncounted", "guard_install_pte_range", "installed += 1", "installed += 0"),
    change("guard-put-one-less", "guard_remove_pte_range", "pmd, start, removed)", "pmd, start, removed - 1)"),
    change(
        "around-counts-one",
        "map_cached_range",
        "0, SOME_PTE, mapped)\n    pte_unlock",
        "0, SOME_PTE, min(mapped, 1))\n    pte_unlock",
    ),
    change("swap-ptes-kept", "free_swap_ptes", "pmd, start, cleared)", "pmd, start, 1)"),
    change("uffd-move-one-put", "move_page", "2 if result == 0 else 1", "1"),
    change(
        "split-counts-none",
        "split_huge_pmd_locked",
        "pte_table_init(m, table, 0, HPAGE_PMD_NR, ",
        "pte_table_init(m, table, 0, 1, ",
    ),
    change("walk-cleared-kept", "page_vma_mapped_walk_done", "1 + m.pvmw.cleared[cpu])", "1)"),
    change("mapcount-zap", "zap_present_pte", "    atomic_add(m.page.mapcount, frame, -1)\n", ""),
    change("mapcount-fork", "copy_present_pte", "        atomic_add(m.page.mapcount, frame, 1)\n", ""),
    change("refcount-fork", "copy_present_pte", "        atomic_add(m.page.refcount, frame, 1)\n", ""),
    change("mapcount-cow", "account_copy", "        atomic_add(m.page.mapcount, old, -1)", "        pass"),
    change("cow-keeps-old", "wp_page_copy", "        free_page_and_swap_cache(m, cpu, old)", "        pass"),
    change("cow-keeps-file", "wp_page_copy", "        put_page(m, cpu, old)", "        pass"),
    change("reuse-two-users", "wp_page_anon", "alone = users == 1", "alone = users <= 2"),
    change("lost-race-leak", "do_anonymous_page", "        put_page(m, cpu, frame)\n", ""),
    change(
        "spare-leak", "swap_in", "    if spare != 0:\n        put_page(m, cpu, spare)\n    return 0", "    return 0"
    ),
    change("prealloc-kept", "do_fault", "        m.vmf.prealloc[cpu] = 0\n", ""),
    change("swap-dup-missing", "copy_nonpresent_pte", "        swap_duplicate(m, entry >> PAGE_SHIFT)\n", ""),
    change("swap-used-kept", "swap_map_sub", "if left == 0:", "if left < 0:"),
    change(
        "swap-map-twice",
        "map_swapped_page",
        "read_once(m.page.refcount, frame) == 2",
        "read_once(m.page.refcount, frame) >= 2",
    ),
    change(
        "pinned-swapped-out",
        "swap_out_to",
        "read_once(m.page.refcount, frame) != 2",
        "read_once(m.page.refcount, frame) < 2",
    ),
    change(
        "pinned-migrated",
        "move_to_new_page",
        "m.page.refcount, frame) == 1 + cached",
        "m.page.refcount, frame) >= 1 + cached",
    ),
    change(
        "pinned-collapsed",
        "collapse_line",
        "read_once(m.page.refcount, frame) != read_once(m.page.mapcount, frame)",
        "frame < 0",
    ),
    change(
        "pinned-forked",
        "copy_present_pte",
        "read_once(m.page.refcount, frame) != 1:",
        "read_once(m.page.refcount, frame) > 2:",
    ),
    change(
        "migrate-lazyfree", "set_migration_pte", "    elif entry & DIRTY:\n", "    elif entry & DIRTY and frame < 0:\n"
    ),
    change("share-count", "huge_pmd_share", "    m.ptnote.pt_share_count[table] += 1\n", ""),
    change("unshare-count", "huge_pmd_unshare", "    m.ptnote.pt_share_count[table] -= 1\n", ""),
    change("huge-mapcounts", "zap_huge_pmd", "            add_mapcounts(m, head, -1)\n", ""),
)

ACCOUNTING = (
    change("rss-zap", "zap_present_pte", "    m.cpu.rss_cache[cpu] -= 1\n", ""),
    change("rss-cow-zero", "wp_page_copy", "if old == ZERO_PAGE or orig & FILE:", "if old == ZERO_PAGE:"),
    change("rss-huge", "zap_huge_pmd", "-HPAGE_PMD_NR)", "1 - HPAGE_PMD_NR)"),
    change("rss-collapse", "collapse_huge_page", "HPAGE_PMD_NR - pages)", "HPAGE_PMD_NR)"),
    change("rss-swap", "zap_nonpresent_pte", "        atomic_add(m.mm.rss_swap, mm, -1)\n", ""),
    change("rss-migration", "zap_nonpresent_pte", "0 if entry & FILE else -1)", "-1)"),
    change("rss-file", "page_remove_rmap", "    atomic_add(m.mm.rss_file, mm, -1)", "    pass"),
    change("rss-uffd", "mfill_atomic_pte", "1 if frame != 0 else 0)", "1)"),
    change("rss-discard", "discard_pte", "    atomic_add(m.mm.rss_anon, m.pvmw.mm[cpu], -1)\n", ""),
    change("tables-upper", "alloc_upper", "        mm_inc_nr_tables(m, mm)\n", ""),
    change("tables-huge", "zap_huge_pmd", "        mm_dec_nr_tables(m, mm)\n", ""),
    change("tables-unhook", "note_unhooked", "    mm_dec_nr_tables(m, mm)\n", ""),
    change("total-vm", "expand_vma", "(new_end - end) // PAGE", "(end - new_end) // PAGE"),
    change("memcg-uncharge", "uncharge_page", "    m.page_memcg[frame] = 0", "    pass"),
)
