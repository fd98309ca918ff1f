"""fork: a second mm with the same pages, write-protected on both sides until somebody stores (COW).

    fork, mmap_lock of the parent                   another CPU of the parent
    =============================                   =========================
    both tables pinned, both ptls
      clear RW of the parent's entry, copy it,
      count the frame                               stores through its TLB: only the parent sees the page yet
    flush the parent
    unlock; the child runs                          page fault: copies the page, or takes it if it is the only user

The child's mm is private until it runs, but a walk from a file or a family may find it, so fork holds its mmap_lock.
What a VMA without anon_vma has, a fault finds again: its tables are not copied.

Source: dup_mmap, kernel/fork.c; copy_page_range and copy_pte_range, mm/memory.c; patch 5.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    cmpxchg,
    data_race,
    kernel,
    knob,
    read_once,
    smp_store_release,
    write_once,
)
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.idle import switch_mm
from emulator.cpu.interrupts import point
from emulator.huge.huge_fork import copy_huge_pmd
from emulator.huge.huge_memory import split_huge_pmd
from emulator.locking.mmap_lock import mmap_write_lock_nested, mmap_write_unlock, mmap_write_unlock_nested
from emulator.locking.vma_lock import mmap_write_lock
from emulator.mm_types import ANON_VMA_INHERITED, LARGE
from emulator.pages.page_alloc import alloc_page, copy_page
from emulator.pages.rmap import drop_rmap_locks, take_rmap_locks
from emulator.pages.swap_state import swap_duplicate
from emulator.pages.vma import join_family, vma_complete, vma_dup, vma_link, vma_prepare, vmas_lock, vmas_unlock
from emulator.pgtable import (
    clear_bits,
    huge_piece,
    is_migration_entry,
    is_swap_entry,
    pgd_addr_end,
    pgtable_of,
    pmd_addr_end,
    pmd_lookup,
    pmd_offset,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    pud_addr_end,
    pud_lookup,
    set_bits,
    table_of,
)
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    DIRTY,
    FILE,
    MIGRATION_WRITE,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PSE,
    PTE_MARKER_UFFD_WP,
    RW,
    SOME_PTE,
    TASK_SIZE,
    UFFD_WP,
    ZERO_PAGE,
    ZERO_PTE,
)
from emulator.policy.pins import pin_alone, pin_also
from emulator.policy.pte_alloc import pte_alloc_try_get, pte_try_get_retry
from emulator.policy.pte_ref import entry_changed, pte_lock_pair, pte_put, pte_unlock_pair
from emulator.syscalls.mmap import exit_mmap
from emulator.tables.pgalloc import pmd_alloc, pud_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import EAGAIN, ECHILD, ENOMEM, VM_DONTCOPY, VM_LOCKED_MASK, VM_UFFD, VM_WIPEONFORK
from emulator.watch.lockdep import assert_ptl_held, mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import FORKED, owner_tag, shadow_own, shadow_share, shadow_swapped

FORK = path_number("fork")

COPIED = point_number("fork.copied")
UNFLUSHED = point_number("fork.unflushed")


@kernel
def alloc_mm(m, cpu):
    """An mm that is not in use, and has no user yet; or -EAGAIN. Those below that others have given back come last."""
    mms = m.config.n_mm[0]
    for i in range(mms):
        mm = (m.cpu.next_mm[cpu] + i) % mms
        if read_once(m.mm.in_use, mm) == 0 and cmpxchg(m.mm.in_use, mm, 0, 1) == 0:
            m.cpu.next_mm[cpu] = mm + 1
            m.mm.name[mm] = m.mm.minflt[mm] = m.mm.def_flags[mm] = 0
            return mm
    return -EAGAIN


@kernel
def copy_pinned_page(m, cpu, child, entry, addr):
    """A frame for the child with what the parent's holds, which a device may be using: the child's entry, or 0 without
    memory. The child's first store finds itself the only user. Locking: caller must hold ptl.
    """
    copy = alloc_page(m, cpu)
    if copy == 0:
        return 0
    copy_page(m, copy, entry >> PAGE_SHIFT)
    m.page.mapcount[copy] = 1
    write_once(m.page.mapping, copy, m.page.mapping[entry >> PAGE_SHIFT] & ~LARGE)  # the same index, the same family
    if DEBUG:
        shadow_own(m, child, copy, addr)
    return copy << PAGE_SHIFT | entry & (PAGE - 1) & ~(RW | ANON_EXCLUSIVE | ACCESSED | UFFD_WP)


@kernel
def copy_present_pte(m, cpu, child, pte, addr):
    """Write-protect the parent's entry, count its frame once more; the child's entry, or 0 if memory ran out.

    A frame that was exclusive and is counted twice is pinned. The parent keeps it, or what a device stores there would
    go to the child alone, once the parent has broken COW. Fast GUP counts, then looks at the entry again; here it is
    the other way round, so one of the two sees the other. A page of a file stays as it is: it is shared with the file,
    or read-only until somebody makes a copy. Locking: caller must hold ptl.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    entry = read_once(m.entry, pte)
    if entry & FILE == 0:
        entry = clear_bits(m, pte, RW | ANON_EXCLUSIVE)
    frame = entry >> PAGE_SHIFT
    if entry & ANON_EXCLUSIVE and read_once(m.page.refcount, frame) != 1:
        set_bits(m, pte, entry & (RW | ANON_EXCLUSIVE))
        return copy_pinned_page(m, cpu, child, entry, addr)
    if frame != ZERO_PAGE:
        atomic_add(m.page.refcount, frame, 1)
        atomic_add(m.page.mapcount, frame, 1)
    if entry & FILE:
        return entry & ~(ACCESSED | DIRTY)
    return entry & ~(RW | ANON_EXCLUSIVE | ACCESSED | UFFD_WP)


@kernel
def copy_nonpresent_pte(m, child, pte, entry):
    """The child's entry for one of the parent's that is neither none nor present, or 0. A page of a file that is being
    migrated is found again by a fault, and userfaultfd does not follow. Locking: caller must hold both ptls.
    """
    if is_swap_entry(entry):
        swap_duplicate(m, entry >> PAGE_SHIFT)
        atomic_add(m.mm.rss_swap, child, 1)
    elif is_migration_entry(entry):
        if entry & FILE:
            return 0
        entry &= ~(MIGRATION_WRITE | ANON_EXCLUSIVE)
        write_once(m.entry, pte, entry)
        atomic_add(m.mm.rss_anon, child, 1)
    elif entry == PTE_MARKER_UFFD_WP:
        return 0
    return entry & ~UFFD_WP


@kernel
def copy_ptes(m, cpu, child, pmd, child_table, table, addr, end):
    """Copy the entries of [addr, end) from one table to the child's, at `pmd`, and count them there; guards as well.
    0 or -ENOMEM.

    Locking: caller must hold references on both tables and both ptls.
    """
    assert_ptl_held(m, cpu, table)
    assert_ptl_held(m, cpu, child_table)
    copied = frames = files = zeros = error = 0
    while addr < end:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if pte_present(entry):
            entry = copy_present_pte(m, cpu, child, pte, addr)
            if entry == 0:
                error = -ENOMEM
                break
            if entry & FILE:
                files += 1
            elif entry >> PAGE_SHIFT != ZERO_PAGE:
                frames += 1
            else:
                zeros += 1
        elif entry != 0:
            entry = copy_nonpresent_pte(m, child, pte, entry)
        if entry != 0:
            write_once(m.entry, pte_offset(child_table, addr), entry)
            copied += 1
        addr += PAGE
    entry_changed(m, cpu, pmd, child_table, 0, ZERO_PTE, zeros)
    entry_changed(m, cpu, pmd, child_table, 0, SOME_PTE, copied - zeros)
    atomic_add(m.mm.rss_anon, child, frames)
    atomic_add(m.mm.rss_file, child, files)
    point(m, cpu, COPIED, table, copied)
    return error


@kernel
def copy_pte_range(m, cpu, child, mm, child_pmd, pmd, addr, end):
    """Copy [addr, end) of one PTE table, also if nothing is in it: 0 or -ENOMEM. A dying table is waited for.

    Locking: caller must hold the parent's mmap_lock for writing; takes and releases i_mmap_lock and both ptls. Without
    i_mmap_lock a walk of it could see the child before and the parent after the copy.
    """
    mmap_assert_write_locked(m, cpu, mm)
    table = pte_try_get_retry(m, cpu, pmd)
    if table == 0:
        return 0
    pin_also(m, cpu)
    took(m, cpu, FORK)
    child_table = pte_alloc_try_get(m, cpu, child, child_pmd)
    error = min(child_table, 0)
    if child_table > 0:
        take_rmap_locks(m, cpu, mm, addr)
        if pte_lock_pair(m, cpu, pmd, table, child_pmd, child_table):  # else the table was empty, and has gone
            error = copy_ptes(m, cpu, child, child_pmd, child_table, table, addr, end)
            pte_unlock_pair(m, cpu, table, child_table)
        drop_rmap_locks(m, cpu, mm, addr)
        pte_put(m, cpu, child, child_pmd, addr)
    pte_put(m, cpu, mm, pmd, addr)
    pin_alone(m, cpu)
    return error


@kernel
def copy_slice(m, cpu, child, mm, pud, addr, end):
    """Copy [addr, end) of one PTE table under `pud`; the child gets the tables above it even if there is none: 0 or
    -ENOMEM. A leaf that the VMA has a part of is split, as by vma_adjust_trans_huge. Locking: as copy_pte_range.
    """
    child_pmd = pmd_alloc(m, cpu, child, addr)
    if child_pmd < 0:
        return child_pmd
    pmd = pmd_offset(m, pud, addr)
    if end - addr < PMD_SIZE:
        split_huge_pmd(m, cpu, mm, pmd, addr)
    elif read_once(m.entry, pmd) & (PSE | FILE) == PSE | FILE:
        return 0  # the child finds it in the page cache
    elif pmd_trans_huge(read_once(m.entry, pmd)):
        error = copy_huge_pmd(m, cpu, child, mm, child_pmd, pmd, addr)
        if error <= 0:
            return error
    return copy_pte_range(m, cpu, child, mm, child_pmd, pmd, addr, end)


@kernel
def copy_page_range(m, cpu, child, mm, addr, end):
    """Copy the tables and entries of [addr, end), one VMA, to the child: 0 or -ENOMEM. Locking: as copy_pte_range."""
    while addr < end:
        pud = pud_lookup(m, mm, addr)
        following = pgd_addr_end(addr, end)
        if pud != 0:
            following = pud_addr_end(addr, end)
            if pud_alloc(m, cpu, child, addr) < 0:
                return -ENOMEM
            if read_once(m.entry, pud) != 0:
                following = pmd_addr_end(addr, end)
                if copy_slice(m, cpu, child, mm, pud, addr, following) != 0:
                    return -ENOMEM
        addr = following
        cond_resched(m, cpu)
    return 0


@kernel
def copy_vma_to_child(m, cpu, child, row):
    """Append the VMA at `row` to those of the child, and of its file; its row there.

    Locking: as copy_pte_range; takes and releases the locks of vma_prepare.
    """
    vma_prepare(m, cpu, child, m.vma.file[row])
    to = vma_dup(m, child, row)
    m.vma.flags[to] &= ~(VM_LOCKED_MASK | VM_UFFD)
    if m.vma.flags[row] & VM_WIPEONFORK:
        m.vma.anon_vma[to] = 0
    if m.vma.anon_vma[to] != 0:
        m.mm.anon_vmas[child] += 1
        m.vma.anon_vma[to] = m.mm.anon_vmas[child] | ANON_VMA_INHERITED
    vma_link(m, cpu, child, to)
    vma_complete(m, cpu, child, m.vma.file[row])
    m.mm.total_vm[child] += (m.vma.end[row] - m.vma.start[row]) // PAGE
    return to


@kernel
def dup_mmap(m, cpu, child, mm):
    """Copy the VMAs that fork inherits, and their pages: 0 or -ENOMEM. Locking: as copy_pte_range.

    A VMA is entered before its entries are copied, and a walker from a page comes to the parent before the child. What
    it does to an entry of the parent is copied, or it does the same to the child's.
    """
    join_family(m, cpu, child, mm)
    row = m.mm.first_vma[mm]
    while row != 0:
        source = row
        row = m.vma.next[row]
        if m.vma.flags[source] & VM_DONTCOPY:
            continue
        to = copy_vma_to_child(m, cpu, child, source)
        if m.vma.anon_vma[to] != 0:
            error = copy_page_range(m, cpu, child, mm, m.vma.start[source], m.vma.end[source])
            if error != 0:
                return error
    return 0


@kernel
def entry_under(m, pmd, addr):
    """The entry for `addr` under a pmd that is not none, of a leaf what it maps there."""
    named = read_once(m.entry, pmd)
    if pmd_trans_huge(named):
        return huge_piece(named, addr)
    return data_race(m.entry, pte_offset(pgtable_of(named), addr))


@kernel
def shadow_share_all(m, cpu, child, mm):
    """Detector: every page that the child has is shared from now on, in memory or in swap."""
    vmas_lock(m, cpu, child)  # no page is swapped out or migrated between the look at its entry and the note
    row = m.mm.first_vma[child]
    while row != 0:
        addr = m.vma.start[row]
        while addr < m.vma.end[row]:
            following = pmd_addr_end(addr, m.vma.end[row])
            pmd = pmd_lookup(m, child, addr)
            while pmd != 0 and m.entry[pmd] != 0 and addr < following:
                entry = entry_under(m, pmd, addr)
                if pte_present(entry) and entry & FILE == 0 and entry >> PAGE_SHIFT != ZERO_PAGE:
                    shadow_share(m, entry >> PAGE_SHIFT, addr)
                elif is_swap_entry(entry):
                    shadow_swapped(m, mm, addr, entry >> PAGE_SHIFT, owner_tag(0, addr, FORKED))
                addr += PAGE
            addr = following
        row = m.vma.next[row]
    vmas_unlock(m, cpu, child)


@kernel
def fork(m, cpu, mm):
    """fork(2) without a process: the child's mm, loaded nowhere; or -errno.

    Locking: takes and releases mmap_lock for writing, the child's too: retract would find its tables empty still.
    """
    child = alloc_mm(m, cpu)
    if child < 0:
        m.cpu.oom[cpu] += 1
        return child
    mmap_write_lock(m, cpu, mm)
    mmap_write_lock_nested(m, cpu, child)
    error = dup_mmap(m, cpu, child, mm)
    point(m, cpu, UNFLUSHED, mm, child)
    if not knob(m.config.fork_unflushed):
        flush_tlb_mm_range(m, cpu, mm, 0, TASK_SIZE, 0)
    if DEBUG:
        shadow_share_all(m, cpu, child, mm)
    mmap_write_unlock_nested(m, child)
    mmap_write_unlock(m, cpu, mm)
    smp_store_release(m.mm.mm_users, child, 1)  # pairs with mmget_not_zero in swapoff
    if error != 0:
        exit_mmap(m, cpu, child)
        return error
    return child


@kernel
def end_child(m, cpu, child, mm):
    """Load `mm` again in place of a child's, which goes with its last user."""
    switch_mm(m, cpu, mm)
    exit_mmap(m, cpu, child)


@kernel
def reap(m, cpu):
    """Let the children that this CPU has kept exit: 0, or -ECHILD if there is none."""
    result = -ECHILD
    for child in range(m.config.n_mm[0]):
        if m.mm.held_by[child] == cpu + 1:
            m.mm.held_by[child] = 0
            exit_mmap(m, cpu, child)
            result = 0
    return result


@kernel
def held_child(m, cpu, name):
    """The child that this CPU keeps under a name, or -ECHILD."""
    for child in range(m.config.n_mm[0]):
        if m.mm.held_by[child] == cpu + 1 and m.mm.name[child] == name:
            return child
    return -ECHILD


@kernel
def exit_child(m, cpu, name):
    """Let the child of a name exit: 0 or -ECHILD."""
    child = held_child(m, cpu, name)
    if child < 0:
        return child
    m.mm.held_by[child] = 0
    exit_mmap(m, cpu, child)
    return 0
