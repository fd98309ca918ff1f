"""A device whose frame user space maps: VM_PFNMAP, and the file's i_mmap by which the driver takes it away again.

    munmap                             driver (device_remove)
    ======                             ======================
    clear the PTE
    flush                              (b67fbebd4cf9: must come before the VMA leaves i_mmap)
    unlink the VMA from i_mmap
                                       no VMA maps the file: the frame is free at once
    free_pgtables, tlb_finish_mmu

A device's frame is neither counted nor freed by zap, so nothing but the flush keeps a CPU from using it afterwards.

Source: CVE-2022-39188; remap_pfn_range and unmap_mapping_range, mm/memory.c.
"""

from emulator.atomic import data_race, kernel, read_once, write_once
from emulator.cpu.interrupts import point
from emulator.fault.zap import zap_page_range
from emulator.locking.mutex import i_mmap_lock, i_mmap_unlock
from emulator.pages.page_alloc import alloc_page, put_page
from emulator.pgtable import pte_offset
from emulator.pgtable_types import ACCESSED, DIRTY, PAGE, PAGE_SHIFT, PRESENT, RW, SPECIAL, USER
from emulator.policy.pte_alloc import pte_alloc_try_get
from emulator.policy.pte_ref import entry_changed, pte_lock, pte_put, pte_unlock
from emulator.tables.pgalloc import pmd_alloc
from emulator.uapi import ENOMEM
from emulator.watch.lockdep import mmap_assert_write_locked
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

MAP_DEVICE = path_number("mmap of the device")
DEVICE_TAKES = path_number("driver takes its frame")

DEVICE_FREED = point_number("device.freed")


@kernel
def lock_device_table(m, cpu, mm, pmd, addr):
    """Come to the table at `pmd`, making one if need be, with its ptl and i_mmap_lock: the table, or -ENOMEM.

    Locking: caller must hold mmap_lock for writing; returns a table with i_mmap_lock and, inside of it, its ptl held.
    """
    mmap_assert_write_locked(m, cpu, mm)
    while True:
        table = pmd if pmd < 0 else pte_alloc_try_get(m, cpu, mm, pmd)
        if table < 0:
            return -ENOMEM
        i_mmap_lock(m, cpu, m.config.n_file[0])
        if pte_lock(m, cpu, pmd, table):
            return table
        i_mmap_unlock(m, cpu, m.config.n_file[0])
        pte_put(m, cpu, mm, pmd, addr)


@kernel
def remap_pfn_range(m, cpu, mm, addr):
    """Map the device's frame, taking one for it if it has none, and link the VMA into i_mmap: 0 or -ENOMEM. Nothing is
    mapped while the file has another VMA.

    Frame, VMA and PTE appear in one section of i_mmap_lock. A device_remove in between would find no PTE to clear, and
    free the frame that is mapped then.

    Locking: caller must hold mmap_lock for writing; takes and releases i_mmap_lock and, inside of it, ptl.
    """
    mmap_assert_write_locked(m, cpu, mm)
    took(m, cpu, MAP_DEVICE)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    pmd = pmd_alloc(m, cpu, mm, addr)
    table = lock_device_table(m, cpu, mm, pmd, addr)
    if table < 0:
        put_page(m, cpu, frame)
        return -ENOMEM
    mapped = m.device.mm[0] != 0
    if not mapped:
        m.device.mm[0] = mm + 1
        m.device.addr[0] = addr
        if m.device.frame[0] == 0:
            m.device.frame[0] = frame
            frame = 0
    entry = m.device.frame[0] << PAGE_SHIFT | SPECIAL | PRESENT | RW | USER | ACCESSED | DIRTY
    pte = pte_offset(table, addr)
    if not mapped and read_once(m.entry, pte) == 0:
        write_once(m.entry, pte, entry)
        entry_changed(m, cpu, pmd, table, 0, entry, 1)
    pte_unlock(m, cpu, table)
    i_mmap_unlock(m, cpu, m.config.n_file[0])
    if frame != 0:
        put_page(m, cpu, frame)
    pte_put(m, cpu, mm, pmd, addr)
    return 0


@kernel
def unlink_file_vma(m, cpu, mm):
    """Take the VMA of `mm` out of the file's i_mmap. Locking: takes and releases i_mmap_lock."""
    i_mmap_lock(m, cpu, m.config.n_file[0])
    if m.device.mm[0] == mm + 1:
        m.device.mm[0] = 0
    i_mmap_unlock(m, cpu, m.config.n_file[0])


@kernel
def move_device_vma(m, cpu, mm, addr, to, step):
    """mremap moves the VMA at `addr`: 0, i_mmap has it at both places; 1, it is at `to`; -1, it stayed.

    The driver looks at the old place first, so it finds the entry wherever that is. mremap need not hold
    i_mmap_lock while it moves it (38a76013ad80). Locking: takes and releases i_mmap_lock. Source: copy_vma, mm/mmap.c.
    """
    i_mmap_lock(m, cpu, m.config.n_file[0])
    if m.device.mm[0] == mm + 1 and m.device.addr[0] == addr:
        m.device.moves_to[0] = to if step == 0 else 0
        if step > 0:
            m.device.addr[0] = to
    i_mmap_unlock(m, cpu, m.config.n_file[0])


@kernel
def device_remove(m, cpu):
    """The driver takes its frame away: unmap_mapping_range over the VMAs in i_mmap, then free the frame: 0.

    Locking: takes and releases i_mmap_lock.
    """
    i_mmap_lock(m, cpu, m.config.n_file[0])
    mm = m.device.mm[0] - 1
    if mm >= 0:
        took(m, cpu, DEVICE_TAKES)
        zap_page_range(m, cpu, mm, m.device.addr[0], m.device.addr[0] + PAGE, 0)
        if m.device.moves_to[0] != 0:
            zap_page_range(m, cpu, mm, m.device.moves_to[0], m.device.moves_to[0] + PAGE, 0)
    frame = m.device.frame[0]
    m.device.frame[0] = 0
    i_mmap_unlock(m, cpu, m.config.n_file[0])
    if frame != 0:
        put_page(m, cpu, frame)
        point(m, cpu, DEVICE_FREED, frame, data_race(m.page.generation, frame))
    return 0
