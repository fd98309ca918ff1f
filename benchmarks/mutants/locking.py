"""Mutants of locks and of barriers: one not taken, dropped too early, taken in another order, a barrier left out."""

from benchmarks.mutants.mutant import change

NO_PMD_LOCK = ("    pmd_lock(m, cpu, pmd)\n", "", "    pmd_unlock(m, cpu, pmd)\n", "")
NO_FILE = ("complete(m, cpu, mm, file + 1)", "complete(m, cpu, mm, 0)")
NO_VMA_LOCKS = ("    vma_prepare(m, cpu, mm, file)\n", "", "    vma_complete(m, cpu, mm, file)\n", "")
NO_VMAS_LOCK = ("    vmas_lock(m, cpu, mm)\n", "", "    vmas_unlock(m, cpu, mm)\n", "")

PTL = "the entry is set under the ptl, which a cmpxchg takes: a full barrier"
NAP = "the agent sees lazy a nap later, and no more"

LOCKING = (
    change("upper-unlocked", "alloc_upper", "    pmd_lock(m, cpu, entry)\n", "", "    pmd_unlock(m, cpu, entry)\n", ""),
    change("install-unlocked", "pmd_install", *NO_PMD_LOCK),
    change("install-huge-unlocked", "install_huge_pmd", *NO_PMD_LOCK),
    change("collapsed-unlocked", "set_collapsed", *NO_PMD_LOCK),
    change("zap-huge-unlocked", "zap_huge_pmd", *NO_PMD_LOCK),
    change("huge-zero-unlocked", "huge_zero_wp", *NO_PMD_LOCK),
    change("change-huge-unlocked", "change_huge_pmd", *NO_PMD_LOCK),
    change(
        "move-table-unlocked",
        "move_table",
        "    pmd_lock_pair(m, cpu, old_entry, new_entry)\n",
        "",
        "    pmd_unlock_pair(m, cpu, old_entry, new_entry)\n",
        "",
        equivalent="mmap_lock is held for writing and the rmap locks: nobody else comes to either entry",
    ),
    change(
        "refill-unlocked",
        "rmqueue_bulk",
        "    spin_lock(m, cpu, m.zone.lock, zone, ZONE_LOCK)\n",
        "",
        "    spin_unlock(m, cpu, m.zone.lock, zone, ZONE_LOCK)\n",
        "",
    ),
    change(
        "drain-unlocked",
        "free_pcppages_bulk",
        "    spin_lock(m, cpu, m.zone.lock, zone, ZONE_LOCK)\n",
        "",
        "    spin_unlock(m, cpu, m.zone.lock, zone, ZONE_LOCK)\n",
        "",
    ),
    change("detach-unlocked", "detach_vmas", *NO_VMAS_LOCK),
    change("modify-unlocked", "vma_modify_flags", *NO_VMA_LOCKS),
    change(
        "mmap-unlocked",
        "mmap_region",
        "    vma_prepare(m, cpu, mm, file + 1)\n",
        "",
        "    vma_complete(m, cpu, mm, file + 1)\n",
        "",
    ),
    change(
        "fork-no-rmap-lock",
        "copy_pte_range",
        "        take_rmap_locks(m, cpu, mm, addr)\n",
        "",
        "        drop_rmap_locks(m, cpu, mm, addr)\n",
        "",
    ),
    change("link-unlocked", "mmap_region", "prepare(m, cpu, mm, file + 1)", "prepare(m, cpu, mm, 0)", *NO_FILE),
    change(
        "unlink-unlocked",
        "unlink_file_vmas",
        "            i_mmap_lock(m, cpu, file - 1)\n",
        "",
        "            i_mmap_unlock(m, cpu, file - 1)\n",
        "",
    ),
    change(
        "free-swap-unlocked",
        "try_to_free_swap",
        " and trylock_page(m, cpu, slot):",
        ":",
        "        unlock_page(m, cpu, slot)",
        "        pass",
    ),
    change(
        "map-cached-unlocked",
        "map_cached_page",
        " or not trylock_page(m, cpu, slot):",
        ":",
        "    unlock_page(m, cpu, slot)\n",
        "",
    ),
    change(
        "swap-in-unlocked",
        "swap_in",
        "    if m.cache.frame[slot] != 0:\n        map_swapped_page(m, cpu, slot)\n    unlock_page(m, cpu, slot)\n",
        "    unlock_page(m, cpu, slot)\n    if m.cache.frame[slot] != 0:\n        map_swapped_page(m, cpu, slot)\n",
    ),
    change(
        "pair-crosswise",
        "spin_lock_pair",
        "spin_lock(m, cpu, lock, min(i, j), lock_class)",
        "spin_lock(m, cpu, lock, i, lock_class)",
        "cmpxchg(lock, max(i, j), 0, cpu + 1) != 0:\n        spin_lock_slow(m, cpu, lock, max(i, j), lock_class)",
        "cmpxchg(lock, j, 0, cpu + 1) != 0:\n        spin_lock_slow(m, cpu, lock, j, lock_class)",
    ),
    change("reader-beside-writer", "mmap_get_reader", "mm) == 0", "mm) >= 0"),
    change(
        "writer-beside-reader", "mmap_write_lock_only", "m.mm.mmap_readers, mm) == 0", "m.mm.mmap_readers, mm) <= 1"
    ),
    change("try-beside-reader", "mmap_write_trylock_only", "m.mm.mmap_readers, mm) != 0", "m.mm.mmap_readers, mm) > 1"),
    change(
        "downgrade-late",
        "mmap_write_downgrade",
        "    atomic_add(m.mm.mmap_readers, mm, 1)  # before the release: no writer may come in between\n"
        "    smp_store_release(m.mm.mmap_writer, mm, 0)\n",
        "    smp_store_release(m.mm.mmap_writer, mm, 0)\n    atomic_add(m.mm.mmap_readers, mm, 1)\n",
    ),
    change("spin-lock-seen-free", "spin_lock_slow", "owner == 0 and cmpxchg", "owner == 0 or cmpxchg"),
    change(
        "mutex-not-exclusive",
        "mutex_take",
        "cmpxchg(m.mutex.owner, i, 0, cpu + 1) == 0",
        "read_once(m.mutex.owner, i) == 0",
    ),
    change(
        "page-put-late",
        "wp_page_anon",
        "        atomic_add(m.page.refcount, frame, 1)  # get_page: it stays while it is copied\n",
        "",
        "    result = wp_page_copy(m, cpu)",
        "    atomic_add(m.page.refcount, frame, 1)\n    result = wp_page_copy(m, cpu)",
    ),
    change(
        "dirty-zap-after-ptl",
        "zap_pte_range",
        "        pte_unlock(m, cpu, table)\n",
        "",
        "        if m.cpu.gather_force[cpu] != 0:",
        "        pte_unlock(m, cpu, table)\n        if m.cpu.gather_force[cpu] != 0:",
    ),
    change(
        "collapse-no-anon-lock",
        "collapse_one",
        "        vmas_lock(m, cpu, mm)  # no rmap walker may be in the table; reclaim may have freed it before\n",
        "",
        "        vmas_unlock(m, cpu, mm)\n",
        "",
    ),
    change(
        "punch-no-i-mmap",
        "unmap_mapping_range",
        "    i_mmap_lock(m, cpu, file)\n",
        "",
        "\n    i_mmap_unlock(m, cpu, file)",
        "",
    ),
    change("rcu-lock-one-look", "gone_since", "return not still_at(m, pmd, table) and", "return table == 0 and"),
    change(
        "unhook-no-ptl",
        "unhook_if_empty",
        " = lock_named(m, cpu, pmd, table, True)",
        " = lock_named(m, cpu, pmd, table, False)",
        "unlock_named(m, cpu, pmd, table, named)",
        "unlock_named(m, cpu, pmd, table, False)",
    ),
    change("mm-try-get-vma", "lock_vma", " or m.vma.end[row] < end:", ":"),
)

BARRIERS = (
    change("no-wmb-anon", "do_anonymous_page", "    smp_wmb()", "    pass", equivalent=PTL),
    change("no-wmb-copy", "fill_copy", "    smp_wmb()", "    pass", equivalent=PTL),
    change("no-mb-switch", "switch_mm", "    smp_mb()", "    pass"),
    change("no-mb-lazy", "leave_lazy_tlb", "    smp_mb()", "    pass"),
    change("no-mb-idle", "enter_idle", "    smp_mb()\n", "", equivalent=NAP),
    change("no-mb-irq-off", "local_irq_disable", "    smp_mb()", "    pass"),
    change("no-mb-sync-one", "tlb_remove_table_sync_one", "    smp_mb()", "    pass"),
    change("no-mb-reader", "mmap_get_reader", "    smp_mb__after_atomic()\n", ""),
    change(
        "no-mb-sleeper",
        "wait_on_timeout",
        "    smp_mb__after_atomic()",
        "    pass",
        equivalent="sleep_on is a full barrier, and looks once more",
    ),
    change("no-mb-waker", "wake_up", "    smp_mb__after_atomic()", "    pass"),
    change(
        "no-release-unlock",
        "spin_unlock",
        "smp_store_release(lock, i, 0)",
        "sleep_on(m, cpu, lock, i, 0, 1)\n    lock[i] = 0",
    ),
    change("no-mb-flush-agent", "serve_flush", "    smp_mb()", "    pass", equivalent=NAP),
)
