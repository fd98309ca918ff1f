"""UFFD_MOVE: a missing page gets what is at another address, with its frame.

Where nothing pins the destination its table may be freed between the first look and ptl. The entry, none before and
none now, cannot tell. Without the second look at the pmd the page goes into a dead table (H18a).

Source: move_pages, mm/userfaultfd.c.
"""

from emulator.atomic import DEBUG, kernel, knob, read_once, write_once, xchg
from emulator.bug import detecting, stopped
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.fault.userfaultfd import uffd_prepare_anon, uffd_vma, wake_userfault
from emulator.huge.huge_memory import split_huge_pmd
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.locking.mutex import anon_vma_lock, anon_vma_unlock
from emulator.pages.rmap import anon_mapping
from emulator.pages.vma import vma_lookup
from emulator.pgtable import pmd_lookup, pte_offset, table_of
from emulator.pgtable_types import ANON_EXCLUSIVE, ANON_PTE, PAGE, PAGE_SHIFT, PRESENT, ZERO_PAGE, ZERO_PTE
from emulator.policy.pins import pin_alone, pin_also
from emulator.policy.pte_alloc import pte_alloc_try_get
from emulator.policy.pte_ref import (
    entry_changed,
    pte_lock_pair,
    pte_put,
    pte_put_many_tlb,
    pte_try_get,
    pte_unlock_pair,
)
from emulator.policy.ptlock import lock_tables
from emulator.tables.mmu_gather import tlb_finish_mmu, tlb_gather_mmu
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import (
    EAGAIN,
    EBUSY,
    EEXIST,
    EINTR,
    EINVAL,
    ENOENT,
    VM_ACCESS_FLAGS,
    VM_LOCKED,
    VM_PFNMAP,
    VM_UFFD,
    VM_WRITE,
)
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held, mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_move, shadow_moved, shadow_release

MOVE = path_number("UFFD_MOVE")
MOVE_MAPPED = point_number("uffd.mapped")


@kernel
def move_present_pte(m, cpu, mm, pte, to, src, dst):
    """Move a page from the entry `pte` to the empty entry `to`, its old translation first: 0 or -EBUSY.

    Only a page that nobody shares, and nobody has pinned: fast GUP counts it, then looks at the entry again.
    Locking: caller must hold both ptls and the anon_vma lock: a search for the page finds it at one of its places.
    """
    assert_ptl_held(m, cpu, table_of(pte))
    assert_ptl_held(m, cpu, table_of(to))
    entry = read_once(m.entry, pte)
    frame = entry >> PAGE_SHIFT
    if frame == ZERO_PAGE:
        xchg(m.entry, pte, 0)
        flush_tlb_mm_range(m, cpu, mm, src, src + PAGE, 0)
        write_once(m.entry, to, ZERO_PTE)
        return 0
    if entry & ANON_EXCLUSIVE == 0:
        return -EBUSY
    if DEBUG:
        shadow_move(m, frame)
    entry = xchg(m.entry, pte, 0)
    flush_tlb_mm_range(m, cpu, mm, src, src + PAGE, 0)
    pinned = read_once(m.page.refcount, frame) != 1
    write_once(m.entry, pte if pinned else to, entry if pinned else frame << PAGE_SHIFT | ANON_PTE)
    if not pinned:
        write_once(m.page.mapping, frame, anon_mapping(m, mm, m.vmf.vma[cpu], dst))  # folio_move_anon_rmap
    if DEBUG:
        shadow_moved(m, mm, frame, src if pinned else dst)
    return -EBUSY if pinned else 0


@kernel
def move_pages_pte(m, cpu, mm, src_pmd, dst_pmd, src_table, dst_table, src, dst):
    """Move one page between two tables: 0, -EEXIST, -ENOENT or -EBUSY. Locking: caller must hold both ptls."""
    assert_ptl_held(m, cpu, src_table)
    assert_ptl_held(m, cpu, dst_table)
    pte, to = pte_offset(src_table, src), pte_offset(dst_table, dst)
    if read_once(m.entry, to) != 0:
        return -EEXIST
    entry = read_once(m.entry, pte)
    if entry == 0:
        return -ENOENT
    if entry & PRESENT == 0:
        return -EBUSY  # a guard, or no access
    result = move_present_pte(m, cpu, mm, pte, to, src, dst)
    if result == 0:
        entry_changed(m, cpu, src_pmd, src_table, entry, 0, 1)
        entry_changed(m, cpu, dst_pmd, dst_table, 0, entry, 1)
    return result


@kernel
def lock_both(m, cpu, src_pmd, src_table, dst_pmd, dst_table):
    """pte_lock_pair for a move."""
    if knob(m.config.uffd_move_unchecked):
        lock_tables(m, cpu, src_table, dst_table)
        return True
    return pte_lock_pair(m, cpu, src_pmd, src_table, dst_pmd, dst_table)


@kernel
def move_page(m, cpu, mm, src_pmd, dst_pmd, src, dst):
    """Move one page: 0 or -errno, -EAGAIN if a table has gone.

    Locking: caller must hold mmap_lock and an open gather.
    """
    mmap_assert_locked(m, cpu, mm)
    assert_gather_open(m, cpu)
    took(m, cpu, MOVE)
    src_table = pte_try_get(m, cpu, src_pmd)
    if src_table == 0:
        return -ENOENT
    pin_also(m, cpu)
    dst_table = pte_alloc_try_get(m, cpu, mm, dst_pmd)
    result = min(dst_table, 0) if dst_table != 0 else -EEXIST  # a leaf
    if result == 0:
        anon_vma_lock(m, cpu, m.mm.family[mm] - 1)
        point(m, cpu, MOVE_MAPPED, dst_table, src_table)
        result = -EAGAIN
        if lock_both(m, cpu, src_pmd, src_table, dst_pmd, dst_table):
            result = move_pages_pte(m, cpu, mm, src_pmd, dst_pmd, src_table, dst_table, src, dst)
            pte_unlock_pair(m, cpu, src_table, dst_table)
        anon_vma_unlock(m, cpu, m.mm.family[mm] - 1)
        pte_put(m, cpu, mm, dst_pmd, dst)
    pte_put_many_tlb(m, cpu, mm, src_pmd, src, 2 if result == 0 else 1)
    pin_alone(m, cpu)
    return result


@kernel
def move_pages_range(m, cpu, mm, src, dst, end):
    """Move the pages of [src, end) to `dst`: 0, the -errno of the first, or -EAGAIN if a later one cannot be moved.

    Locking: caller must hold mmap_lock for reading and an open gather.
    """
    mmap_assert_locked(m, cpu, mm)
    assert_gather_open(m, cpu)
    first = src
    while src < end:
        src_pmd = pmd_lookup(m, mm, src)
        dst_pmd = pmd_alloc(m, cpu, mm, dst)
        if src_pmd == 0 or dst_pmd < 0:
            return -ENOENT if src_pmd == 0 else dst_pmd
        split_huge_pmd(m, cpu, mm, src_pmd, src)
        result = move_page(m, cpu, mm, src_pmd, dst_pmd, src, dst)
        if result == -EAGAIN:
            continue
        if result != 0:
            return result if src == first else -EAGAIN
        if detecting(m):
            shadow_release(m, cpu, mm, src, src + PAGE)
        src += PAGE
        dst += PAGE
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
    return 0


@kernel
def move_pages(m, cpu, mm, src, dst, length):
    """UFFDIO_MOVE: 0 or -errno; a waiter looks again. No hole is allowed in the source.

    The gather has nothing in it but the source's tables: each old translation is flushed under ptl.
    Locking: takes and releases mmap_lock for reading.
    """
    if (src | dst | length) & (PAGE - 1) or length <= 0:
        return -EINVAL
    mmap_read_lock(m, cpu, mm)
    result = -ENOENT if min(vma_lookup(m, mm, src), vma_lookup(m, mm, dst)) == 0 else -EINVAL
    uffd_prepare_anon(m, mm, dst)
    row, to = uffd_vma(m, mm, src, src + length, 0), uffd_vma(m, mm, dst, dst + length, VM_UFFD)
    if row != 0 and to != 0:
        same = (m.vma.flags[row] ^ m.vma.flags[to]) & (VM_ACCESS_FLAGS | VM_LOCKED) == 0
        if same and m.vma.flags[to] & VM_WRITE and not m.vma.flags[row] & VM_PFNMAP:
            m.vmf.vma[cpu] = to
            tlb_gather_mmu(m, cpu, mm, 0)
            result = move_pages_range(m, cpu, mm, src, dst, src + length)
            tlb_finish_mmu(m, cpu)
    mmap_read_unlock(m, cpu, mm)
    wake_userfault(m, cpu, mm)
    return result
