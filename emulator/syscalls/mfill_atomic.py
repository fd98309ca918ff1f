"""UFFD_COPY and UFFD_ZEROPAGE: a missing page gets what its watcher has for it.

    fault that misses the page          UFFD_COPY
    ==========================          =========
    pins the table, waits               pte_alloc_try_get(): pins it, too
                                        ptl; the entry is none: sets it, counts it
                                        pte_put(), wakes
    finds the entry

Source: mfill_atomic, mm/userfaultfd.c.
"""

from emulator.atomic import DEBUG, kernel, memset, smp_wmb
from emulator.bug import stopped
from emulator.fault.memory import REFERENCE_GIVEN, replace_marker, set_pte
from emulator.fault.userfaultfd import uffd_prepare_anon, uffd_vma, wake_userfault
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.page_alloc import alloc_page, clear_page, put_page
from emulator.pages.rmap import page_add_new_anon_rmap
from emulator.pages.rss import add_mm_rss
from emulator.pgtable import pte_offset
from emulator.pgtable_types import ANON_PTE, PAGE, PAGE_SHIFT, ZERO_PTE
from emulator.policy.pte_alloc import pte_alloc_try_get
from emulator.policy.pte_ref import pte_put
from emulator.tables.pgalloc import pmd_alloc
from emulator.tables.rcu import cond_resched
from emulator.uapi import EAGAIN, EEXIST, EINTR, EINVAL, ENOENT, ENOMEM, VM_UFFD, VM_WRITE
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took
from emulator.watch.shadow import note_value, shadow_own

FILL = path_number("UFFD_COPY, UFFD_ZEROPAGE")


@kernel
def fill_page(m, mm, frame, addr, value):
    """Fill a fresh frame for `addr` with the word that the watcher has for it."""
    clear_page(m, frame)
    words = m.config.frame_words[0]
    memset(m.frame, frame * words, words, value)
    if DEBUG:
        shadow_own(m, mm, frame, addr)
        note_value(m.page_values, frame, value)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them


@kernel
def mfill_atomic_pte(m, cpu, mm, row, pmd, table, addr, value):
    """Map a fresh page of words `value`, the zero page if that is 0, at `addr` in the VMA at `row`.

    Returns 0, -errno, or REFERENCE_GIVEN.
    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    took(m, cpu, FILL)
    entry, frame = ZERO_PTE, 0
    if value != 0:
        frame = alloc_page(m, cpu)
        if frame == 0:
            return -ENOMEM
        fill_page(m, mm, frame, addr, value)
        page_add_new_anon_rmap(m, mm, row, addr, frame)
        entry = frame << PAGE_SHIFT | ANON_PTE
    pte = pte_offset(table, addr)
    filled = 1
    if frame == 0 or not replace_marker(m, cpu, pmd, table, pte, entry, True):
        filled = set_pte(m, cpu, mm, table, pmd, pte, entry)
    if filled != 0:
        add_mm_rss(m, cpu, mm, 1 if frame != 0 else 0)
        return REFERENCE_GIVEN if filled == 2 else 0
    if frame != 0:
        m.page.mapcount[frame] = 0
        put_page(m, cpu, frame)
    return -EEXIST


@kernel
def mfill_atomic_range(m, cpu, mm, row, start, end, value):
    """Fill [start, end), which the VMA at `row` has: 0, the -errno of the first page, or -EAGAIN for a later one.

    Locking: caller must hold mmap_lock for reading.
    """
    mmap_assert_locked(m, cpu, mm)
    first = start
    while start < end:
        pmd = pmd_alloc(m, cpu, mm, start)
        table = pmd if pmd < 0 else pte_alloc_try_get(m, cpu, mm, pmd)
        if table <= 0 and start != first:
            return -EAGAIN
        if table <= 0:
            return table if table < 0 else -EEXIST  # a leaf
        result = mfill_atomic_pte(m, cpu, mm, row, pmd, table, start, value)
        if result == REFERENCE_GIVEN:
            result = 0
        else:
            pte_put(m, cpu, mm, pmd, start)
        if result != 0:
            return result if start == first else -EAGAIN
        start += PAGE
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR
    return 0


@kernel
def mfill_atomic(m, cpu, mm, start, length, value):
    """UFFDIO_COPY of pages full of `value`, UFFDIO_ZEROPAGE if that is 0: 0 or -errno; a waiter looks again.

    Locking: takes and releases mmap_lock for reading.
    """
    if (start | length) & (PAGE - 1) or length <= 0:
        return -EINVAL
    mmap_read_lock(m, cpu, mm)
    uffd_prepare_anon(m, mm, start)
    row = uffd_vma(m, mm, start, start + length, VM_UFFD)
    result = -ENOENT
    if row != 0 and value != 0 and m.vma.flags[row] & VM_WRITE == 0:
        result = -EINVAL
    elif row != 0:
        result = mfill_atomic_range(m, cpu, mm, row, start, start + length, value)
    mmap_read_unlock(m, cpu, mm)
    wake_userfault(m, cpu, mm)
    return result
