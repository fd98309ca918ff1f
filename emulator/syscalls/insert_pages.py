"""vm_insert_pages: a driver maps pages it has, here those of the page cache, table by table, without a fault.

A leaf that a fault has put there is taken away first.

Source: insert_pages, mm/memory.c. v1 takes a reference per PMD iteration and puts one, behind the loop.
"""

from emulator.atomic import kernel, knob
from emulator.fault.filemap import map_cached_range
from emulator.huge.huge_memory import pte_alloc_split
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.pages.vma import vma_lookup
from emulator.pgtable import pmd_addr_end
from emulator.pgtable_types import PAGE
from emulator.policy.pte_ref import pte_put
from emulator.tables.pgalloc import pmd_alloc
from emulator.uapi import EFAULT, EINVAL, VM_FILE
from emulator.watch.lockdep import mmap_assert_locked
from emulator.watch.paths import path_number, took

INSERT = path_number("driver inserts pages")


@kernel
def insert_range(m, cpu, mm, vma, start, end):
    """Map the cached pages of [start, end), which lies in one VMA: 0 or -ENOMEM.

    Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    while start < end:
        following = pmd_addr_end(start, end)
        pmd = pmd_alloc(m, cpu, mm, start)
        table = pmd if pmd < 0 else pte_alloc_split(m, cpu, mm, pmd, start)
        if table < 0:
            return table
        took(m, cpu, INSERT)
        map_cached_range(m, cpu, mm, vma, pmd, table, start, following)
        if following == end or not knob(m.config.one_put_for_all):
            pte_put(m, cpu, mm, pmd, start)
        start = following
    return 0


@kernel
def insert_pages(m, cpu, mm, addr, length):
    """Map what is cached of [addr, addr + length): 0, -EFAULT, -EINVAL if no file is mapped there, or -ENOMEM.

    Locking: takes and releases mmap_lock for reading.
    """
    result = -EFAULT
    mmap_read_lock(m, cpu, mm)
    vma = vma_lookup(m, mm, addr)
    if vma != 0:
        result = -EINVAL
        if m.vma.flags[vma] & VM_FILE:
            room = m.vma.start[vma] + (m.config.file_pages[0] - m.vma.pgoff[vma]) * PAGE
            end = min(addr + length, m.vma.end[vma], room) & -PAGE
            result = insert_range(m, cpu, mm, vma, addr & -PAGE, end)
    mmap_read_unlock(m, cpu, mm)
    return result
