"""Moving entries, or whole tables, to another address; what a CPU may have cached of the old one must go first.

    mremap                                  driver                           CPU with the old address in its TLB
    ======                                  ======                           ===================================
    both ptls: clear the old entry,
      set the new one
    flush the old range                                                      forgets it
    drop both ptls
                                            zaps the new entry, flushes the
                                            new range, frees the frame

With the flush after the ptls were dropped (CVE-2018-18281) the driver comes in between. It finds the entry at its new
address, flushes that, frees the frame, and the old translation leads there still.

A walk of the i_mmap of a file is kept out by i_mmap_lock while an entry of it moves (take_rmap_locks).

A range of 2 MiB that is aligned at both ends moves its table. The entry above names it, ptdesc.pmd points back there,
and the count is as it was. 1 GiB moves the PMD table. Entry by entry the counts move along, and the source's last put
frees its table.

Source: move_page_tables, move_ptes and move_normal_pmd, mm/mremap.c; eb66ae030829; pte_migrate_pmd in patch 5.
"""

from emulator.atomic import (
    DEBUG,
    LOCKS_MM,
    data_race,
    kernel,
    knob,
    read_once,
    smp_store_release,
    write_once,
    xchg,
)
from emulator.bug import BUG, detecting
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.huge.huge_memory import pgtable_trans_huge_deposit, pgtable_trans_huge_withdraw, split_huge_pmd
from emulator.locking.spinlock import pmd_lock_pair, pmd_unlock_pair
from emulator.pages.rmap import drop_rmap_locks, take_rmap_locks
from emulator.pgtable import (
    entry_at,
    is_migration_entry,
    is_swap_entry,
    is_zero_pfn,
    pgtable_of,
    pmd_addr_end,
    pmd_lookup,
    pmd_trans_huge,
    populate,
    pte_offset,
    pte_present,
    pud_addr_end,
    pud_lookup,
    table_of,
)
from emulator.pgtable_types import (
    FILE,
    HPAGE_PMD_NR,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PTE_MARKER_UFFD_WP,
    PTRS_PER_PTE,
    PUD_SIZE,
    SOME_PTE,
    SPECIAL,
    TABLE_INSTALLED,
    UFFD_WP,
    ZERO_PAGE,
    ZERO_PTE,
)
from emulator.policy.pins import pin_alone, pin_also
from emulator.policy.pte_alloc import pte_alloc_try_get, pte_try_get_retry
from emulator.policy.pte_ref import entry_changed, pte_lock_pair, pte_put, pte_put_many, pte_unlock_pair
from emulator.tables.pgalloc import pmd_alloc, pud_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import EAGAIN
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import SHARED, move_tag, owner_tag, shadow_move, shadow_moved, shadow_swapped

MOVE_ENTRIES = path_number("mremap, entries")
MOVE_PMD = path_number("mremap, 2 MiB")
MOVE_PUD = path_number("mremap, 1 GiB")
MOVE_HUGE = path_number("huge page, mremap")

BUG_USE_AFTER_FREE = int(Bug.TABLE_USE_AFTER_FREE)
MOVED = point_number("mremap.moved")
UNLOCKED = point_number("mremap.unlocked")
MOVING_TABLE = point_number("mremap.table")


@kernel
def shadow_move_range(m, mm, table, addr, end, moved):
    """Detector: tell the frames that [addr, end) of a table maps that they are about to move, or have `moved` so far.

    Swap and migration entries need telling once: a fault on one waits for mmap_lock. Locking: caller must hold the
    anon_vma lock.
    """
    while addr < end:
        entry = data_race(m.entry, pte_offset(table, addr))  # the driver may zap it
        if is_swap_entry(entry) and moved:
            shadow_swapped(m, mm, addr - moved, entry >> PAGE_SHIFT, owner_tag(mm, addr, SHARED))
        if is_migration_entry(entry) and moved:
            move_tag(m.page_stored_by, entry >> PAGE_SHIFT, mm, addr - moved, owner_tag(mm, addr, SHARED))
        if pte_present(entry) and entry >> PAGE_SHIFT != ZERO_PAGE and not entry & (SPECIAL | FILE):
            if moved:
                shadow_moved(m, mm, entry >> PAGE_SHIFT, addr)
            else:
                shadow_move(m, entry >> PAGE_SHIFT)
        addr += PAGE


@kernel
def shadow_move_leaf(m, mm, entry, addr, moved):
    """Detector: the same of a leaf, at `addr`."""
    head = entry >> PAGE_SHIFT
    for i in range(HPAGE_PMD_NR if head != ZERO_PAGE and entry & FILE == 0 else 0):
        if moved:
            shadow_moved(m, mm, head + i, addr + i * PAGE)
        else:
            shadow_move(m, head + i)


@kernel
def move_entries(m, cpu, old_pmd, new_pmd, old_table, new_table, old, end, new, watched):
    """Move the entries of [old, end) of one table to `new` in one; how many. What userfaultfd has protected is not so
    any more. Locking: caller must hold both ptls.
    """
    moved = zeros = dropped = 0
    while old < end:
        if read_once(m.entry, pte_offset(old_table, old)) != 0:
            entry = xchg(m.entry, pte_offset(old_table, old), 0)  # the hardware may be setting the dirty bit
            entry_changed(m, cpu, old_pmd, old_table, entry, 0, 1)
            if watched and entry == PTE_MARKER_UFFD_WP:
                dropped += 1
            else:
                write_once(m.entry, pte_offset(new_table, new), entry & ~UFFD_WP if watched else entry)
            moved += 1
            zeros += is_zero_pfn(entry)
        old += PAGE
        new += PAGE
    entry_changed(m, cpu, new_pmd, new_table, 0, ZERO_PTE, zeros)
    entry_changed(m, cpu, new_pmd, new_table, 0, SOME_PTE, moved - zeros - dropped)
    return moved


@kernel
def move_ptes(m, cpu, mm, old_pmd, new_pmd, old, new, length, watched):
    """Move the entries of [old, old + length) of one table to `new`, in one table: 0, -ENOMEM, or -EAGAIN if a table
    has gone.

    Locking: caller must hold mmap_lock for writing; takes i_mmap_lock, the anon_vma lock and both ptls, and flushes
    under them. Without the first two an rmap walk could miss the entry at both addresses. Nothing is allocated under
    i_mmap_lock: reclaim may wait for a writer that wants it.
    """
    mmap_assert_write_locked(m, cpu, mm)
    old_table = pte_try_get_retry(m, cpu, old_pmd)
    if old_table == 0:
        return 0
    pin_also(m, cpu)
    new_table = pte_alloc_try_get(m, cpu, mm, new_pmd)
    if new_table < 0:
        pte_put(m, cpu, mm, old_pmd, old)
        pin_alone(m, cpu)
        return new_table
    take_rmap_locks(m, cpu, mm, old)
    if not pte_lock_pair(m, cpu, old_pmd, old_table, new_pmd, new_table):
        drop_rmap_locks(m, cpu, mm, old)
        pte_put(m, cpu, mm, new_pmd, new)
        pte_put(m, cpu, mm, old_pmd, old)
        pin_alone(m, cpu)
        return -EAGAIN
    took(m, cpu, MOVE_ENTRIES)
    if DEBUG:
        shadow_move_range(m, mm, old_table, old, old + length, 0)
    end = old + length
    moved = move_entries(m, cpu, old_pmd, new_pmd, old_table, new_table, old, end, new, watched)
    point(m, cpu, MOVED, new_table, moved)
    if moved != 0 and not knob(m.config.mremap_late_flush):
        flush_tlb_mm_range(m, cpu, mm, old, old + length, 0)
    pte_unlock_pair(m, cpu, old_table, new_table)
    point(m, cpu, UNLOCKED, new_table, moved)
    if knob(m.config.mremap_late_flush):
        cond_resched(m, cpu)  # interrupts may come before the flush
        flush_tlb_mm_range(m, cpu, mm, old, old + length, 0)
    if DEBUG:
        shadow_move_range(m, mm, new_table, new, new + length, new - old)
    drop_rmap_locks(m, cpu, mm, old)
    pte_put(m, cpu, mm, new_pmd, new)
    pte_put_many(m, cpu, mm, old_pmd, old, moved + 1)
    pin_alone(m, cpu)
    return 0


@kernel
def move_table(m, cpu, mm, old_entry, new_entry, old, size):
    """Let `new_entry` name the table that `old_entry` names; False if there is none, or one at `new_entry`.

    Both entries are looked at under the locks: retract may have taken the table meanwhile, where it needs no mmap_lock.
    The old range is flushed, paging-structure caches too, before the locks are dropped.
    Locking: caller must hold mmap_lock for writing and lock_rmap; takes the locks of both upper tables. Without
    lock_rmap a CPU that has found an entry at its old address clears it and flushes that (97113eb39fa7). Source:
    move_normal_pmd, _pud.
    """
    mmap_assert_write_locked(m, cpu, mm)
    pmd_lock_pair(m, cpu, old_entry, new_entry)
    entry = read_once(m.entry, old_entry)
    done = (entry != 0 or knob(m.config.stale_pmd_move)) and read_once(m.entry, new_entry) == 0
    if DEBUG or LOCKS_MM:  # a table keeps its lock for good
        done = done and m.ptnote.lock_mm[table_of(old_entry)] == m.ptnote.lock_mm[table_of(new_entry)]
    if done:
        if detecting(m) and read_once(m.ptdesc.state, pgtable_of(entry)) != TABLE_INSTALLED:
            BUG(m, cpu, BUG_USE_AFTER_FREE, pgtable_of(entry), 0, read_once(m.ptdesc.state, pgtable_of(entry)))
        write_once(m.entry, old_entry, 0)
        populate(m, mm, new_entry, pgtable_of(entry))  # and pte_migrate_pmd
        flush_tlb_mm_range(m, cpu, mm, old, old + size, 1)
    pmd_unlock_pair(m, cpu, old_entry, new_entry)
    return done


@kernel
def lock_rmap(m, cpu, mm, old):
    """take_rmap_locks, before a table moves."""
    if not knob(m.config.move_without_rmap_lock):
        take_rmap_locks(m, cpu, mm, old)


@kernel
def unlock_rmap(m, cpu, mm, old):
    """drop_rmap_locks."""
    if not knob(m.config.move_without_rmap_lock):
        drop_rmap_locks(m, cpu, mm, old)


@kernel
def move_normal_pmd(m, cpu, mm, old_pmd, new_pmd, old, new):
    """Move a whole PTE table, 2 MiB; True if done. The pin keeps its freer away. Locking: as move_table."""
    table = pte_try_get_retry(m, cpu, old_pmd)
    if table == 0:
        return False
    point(m, cpu, MOVING_TABLE, table, old_pmd)
    lock_rmap(m, cpu, mm, old)
    if DEBUG:
        shadow_move_range(m, mm, table, 0, PMD_SIZE, 0)
    took(m, cpu, MOVE_PMD)
    done = move_table(m, cpu, mm, old_pmd, new_pmd, old, PMD_SIZE)
    if DEBUG:
        shadow_move_range(m, mm, table, new if done else old, (new if done else old) + PMD_SIZE, new - old)
    unlock_rmap(m, cpu, mm, old)
    pte_put(m, cpu, mm, new_pmd if done else old_pmd, new if done else old)
    return done


@kernel
def move_leaf(m, cpu, mm, old_pmd, new_pmd, old, watched):
    """Let the leaf at `old_pmd` stand at `new_pmd`, with its table, and flush. Locking: takes both pmd_locks."""
    pmd_lock_pair(m, cpu, old_pmd, new_pmd)
    entry = xchg(m.entry, old_pmd, 0)  # the hardware may be setting the dirty bit
    if entry & FILE == 0:
        pgtable_trans_huge_deposit(m, cpu, mm, new_pmd, pgtable_trans_huge_withdraw(m, cpu, old_pmd))
    smp_store_release(m.entry, new_pmd, entry & ~UFFD_WP if watched else entry)
    flush_tlb_mm_range(m, cpu, mm, old, old + PMD_SIZE, 0)
    pmd_unlock_pair(m, cpu, old_pmd, new_pmd)


@kernel
def move_huge_pmd(m, cpu, mm, old_pmd, new_pmd, old, new, watched):
    """Move a huge page; False if there is none, or something at `new_pmd`. Locking: caller must hold mmap_lock for
    writing; takes and releases the rmap locks, without which a walker may split it.
    """
    mmap_assert_write_locked(m, cpu, mm)
    lock_rmap(m, cpu, mm, old)
    entry = read_once(m.entry, old_pmd)
    done = pmd_trans_huge(entry) and read_once(m.entry, new_pmd) == 0
    if done:
        took(m, cpu, MOVE_HUGE)
        if DEBUG:
            shadow_move_leaf(m, mm, entry, old, 0)
        move_leaf(m, cpu, mm, old_pmd, new_pmd, old, watched)
        if DEBUG:
            shadow_move_leaf(m, mm, entry, new, 1)
    unlock_rmap(m, cpu, mm, old)
    return done


@kernel
def move_normal_pud(m, cpu, mm, old_pud, new_pud, old, new):
    """Move a whole PMD table, 1 GiB; True if done. Locking: as move_table."""
    pmds = entry_at(pgtable_of(read_once(m.entry, old_pud)), 0)
    lock_rmap(m, cpu, mm, old)
    if DEBUG:
        shadow_move_tables(m, mm, pmds, new, 0)
    took(m, cpu, MOVE_PUD)
    done = move_table(m, cpu, mm, old_pud, new_pud, old, PUD_SIZE)
    if DEBUG:
        shadow_move_tables(m, mm, pmds, new if done else old, new - old)
    unlock_rmap(m, cpu, mm, old)
    return done


@kernel
def shadow_move_tables(m, mm, pmds, addr, moved):
    """Detector: shadow_move_range for all tables under a PMD table. Nobody frees one: mmap_lock is held for writing."""
    for pmd in range(pmds, pmds + PTRS_PER_PTE):
        entry = read_once(m.entry, pmd)
        if pmd_trans_huge(entry):
            shadow_move_leaf(m, mm, entry, addr, moved)
        elif entry != 0:
            shadow_move_range(m, mm, pgtable_of(entry), addr, addr + PMD_SIZE, moved)
        addr += PMD_SIZE


@kernel
def move_slice(m, cpu, mm, old, new, left, watched):
    """Move what both addresses have of one PTE table each, or a GiB: the bytes moved, 0 to look again, or -ENOMEM.

    The destination gets a PUD table wherever the source has a PMD table, whatever is in it. Tables of a VMA that is
    `watched` by userfaultfd stay: their entries may be protected.
    """
    extent = min(pud_addr_end(old, old + left) - old, pud_addr_end(new, new + left) - new)
    old_pud = pud_lookup(m, mm, old)
    if old_pud == 0 or read_once(m.entry, old_pud) == 0:
        return extent
    new_pud = pud_alloc(m, cpu, mm, new)
    if new_pud < 0:
        return new_pud
    if extent == PUD_SIZE and not watched and move_normal_pud(m, cpu, mm, old_pud, new_pud, old, new):
        return extent
    extent = min(pmd_addr_end(old, old + left) - old, pmd_addr_end(new, new + left) - new)
    old_pmd = pmd_lookup(m, mm, old)
    if old_pmd == 0 or read_once(m.entry, old_pmd) == 0:
        return extent
    new_pmd = pmd_alloc(m, cpu, mm, new)
    if new_pmd < 0:
        return new_pmd
    if pmd_trans_huge(read_once(m.entry, old_pmd)):
        if extent == PMD_SIZE and move_huge_pmd(m, cpu, mm, old_pmd, new_pmd, old, new, watched):
            return extent
        split_huge_pmd(m, cpu, mm, old_pmd, old)
    if extent == PMD_SIZE and not watched and move_normal_pmd(m, cpu, mm, old_pmd, new_pmd, old, new):
        return extent
    error = move_ptes(m, cpu, mm, old_pmd, new_pmd, old, new, extent, watched)
    if error == -EAGAIN:
        return 0
    return extent if error == 0 else error


@kernel
def move_page_tables(m, cpu, mm, old, new, length, watched):
    """Move the entries of [old, old + length) to `new`: the bytes moved, fewer than `length` if memory ran out.
    Userfaultfd has `watched` what is moved, if it has.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    done = 0
    while done < length:
        moved = move_slice(m, cpu, mm, old + done, new + done, length - done, watched)
        if moved < 0:
            return done
        done += moved
        cond_resched(m, cpu)
    return done
