"""The page fault and the zap: where entries appear and disappear.

Both hold a reference on the PTE table they work on (pte_ref.py) from before the first look at an entry until after the
last, and mmap_lock (faults and MADV_DONTNEED for reading, mmap and exit for writing), so its pmd cannot change. Entries
change under ptl.
"""

from emulator.atomic import (
    atomic_add,
    data_race,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_wmb,
    write_once,
    xchg,
)
from emulator.file_fault import do_fault, do_wp_file
from emulator.filemap import FAULT_FLAG_TRIED, FAULT_FLAG_WRITE, VM_FAULT_RETRY, pte_put_vmf
from emulator.kernel import EFAULT, ENOMEM, detecting
from emulator.mmu_gather import tlb_flush_mmu, tlb_flush_mmu_tlbonly, tlb_remove_page, tlb_remove_tlb_entry
from emulator.page_alloc import alloc_page, alloc_table, clear_page, free_table, put_page
from emulator.pgtable import (
    ACCESSED,
    DIRTY,
    FILE,
    PAGE,
    PAGE_SHIFT,
    PMD_LEVEL,
    PRESENT,
    PUD_LEVEL,
    RW,
    SPECIAL,
    USER,
    mm_inc_nr_tables,
    pgd_addr_end,
    pgd_offset,
    pmd_addr_end,
    pmd_offset,
    populate,
    pte_offset,
    pud_addr_end,
    pud_offset,
)
from emulator.points import point_number
from emulator.pte_ref import (
    pte_alloc_try_get,
    pte_get,
    pte_lock,
    pte_put,
    pte_put_many_tlb,
    pte_try_get,
    pte_try_get_wait,
    pte_unlock,
)
from emulator.rcu import cond_resched
from emulator.rmap import zap_file_pte
from emulator.rss import add_mm_rss, sync_mm_rss
from emulator.shadow import shadow_release
from emulator.spinlock import PMD_LOCK, mmap_read_lock, mmap_read_unlock, spin_lock, spin_unlock
from emulator.tlb import flush_tlb_mm_range, point
from emulator.vma import VM_WRITE, anon_vma_prepare, find_vma, vma_limit
from emulator.vmscan import try_to_free_pages

ZERO_PAGE = 0  # frame 0: never written, never counted
MMAP_LOCKED, SET_PTE_LOCKED = point_number("fault.mmap-locked"), point_number("set_pte.locked")
SET_PTE_DONE = point_number("set_pte.done")
ZAP_LOCKED, ZAP_CLEARED = point_number("zap.locked"), point_number("zap.cleared")


@kernel
def alloc_upper(m, cpu, mm, entry, level):
    """Install a PMD or PUD table at `entry` unless one is there: pmd_alloc and pud_alloc. 0 or -ENOMEM.

    Locking: takes and releases the lock of the table that holds `entry`.
    """
    table = alloc_table(m, cpu, level)
    if table == 0:
        return -ENOMEM
    lock = entry >> 9
    spin_lock(m, cpu, m.ptdesc.ptl, lock, PMD_LOCK)
    free = read_once(m.entry, entry) == 0
    if free:
        mm_inc_nr_tables(m, mm)
        populate(m, mm, entry, table)
    spin_unlock(m, cpu, m.ptdesc.ptl, lock, PMD_LOCK)
    if not free:
        free_table(m, cpu, table)
    return 0


@kernel
def pmd_alloc(m, cpu, mm, addr):
    """The PMD entry for `addr`, with the tables above it; or -ENOMEM. Locking: caller must hold mmap_lock."""
    pgd = pgd_offset(m, mm, addr)
    if read_once(m.entry, pgd) == 0 and alloc_upper(m, cpu, mm, pgd, PUD_LEVEL) != 0:
        return -ENOMEM
    pud = pud_offset(m, pgd, addr)
    if read_once(m.entry, pud) == 0 and alloc_upper(m, cpu, mm, pud, PMD_LEVEL) != 0:
        return -ENOMEM
    return pmd_offset(m, pud, addr)


@kernel_inline
def set_pte(m, cpu, mm, table, pmd, pte, entry):
    """Fill an empty PTE if it is empty still, and count it; True if done.

    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    pte_lock(m, cpu, table)
    point(m, cpu, SET_PTE_LOCKED, table, entry)
    empty = read_once(m.entry, pte) == 0
    if empty:
        write_once(m.entry, pte, entry)
        pte_get(m, cpu, pmd)
    point(m, cpu, SET_PTE_DONE, table, data_race(m.ptdesc.pte_refcount, table))
    pte_unlock(m, cpu, table)
    return empty


@kernel_inline
def do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, write):
    """Fault on an empty PTE: map the zero page for a read, a fresh zeroed frame for a write. 0 or -ENOMEM.

    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    if not write:
        set_pte(m, cpu, mm, table, pmd, pte, ZERO_PAGE << PAGE_SHIFT | PRESENT | USER | ACCESSED)
        return 0
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    clear_page(m, frame)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    m.page.mapcount[frame] = 1  # page_add_new_anon_rmap: nobody else can see the frame yet
    if set_pte(m, cpu, mm, table, pmd, pte, frame << PAGE_SHIFT | PRESENT | RW | USER | ACCESSED | DIRTY):
        add_mm_rss(m, cpu, mm, 1)
    else:
        m.page.mapcount[frame] = 0
        put_page(m, cpu, frame)
    return 0


@kernel
def do_wp_page(m, cpu, mm, vma, table, pte, addr, orig):
    """Write fault on a present read-only PTE, here the zero page: give it a frame of its own. 0 or -ENOMEM.

    The old translation is flushed before the new one is set, under ptl (ptep_clear_flush). The entry stays counted.
    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    clear_page(m, frame)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    pte_lock(m, cpu, table)
    same = read_once(m.entry, pte) & ~(ACCESSED | DIRTY) == orig & ~(ACCESSED | DIRTY)
    if same:
        page = addr & -PAGE
        xchg(m.entry, pte, 0)
        flush_tlb_mm_range(m, cpu, mm, page, page + PAGE, 0)
        m.page.mapcount[frame] = 1
        write_once(m.entry, pte, frame << PAGE_SHIFT | PRESENT | RW | USER | ACCESSED | DIRTY)
        add_mm_rss(m, cpu, mm, 1)
    pte_unlock(m, cpu, table)
    if not same:
        put_page(m, cpu, frame)
    return 0


@kernel_inline
def handle_pte_fault(m, cpu, mm, vma, pmd, addr, write):
    """Pin the PTE table and resolve the fault in it. 0 or -ENOMEM.

    Locking: caller must hold mmap_lock for reading.
    """
    table = pte_alloc_try_get(m, cpu, mm, pmd)
    if table < 0:
        return table
    pte = pte_offset(table, addr)
    entry = read_once(m.entry, pte)
    result = 0
    if entry == 0:
        result = do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, write)
    elif write and entry & RW == 0:
        result = do_wp_page(m, cpu, mm, vma, table, pte, addr, entry)
    if write or not knob(m.config.missing_pte_put):
        pte_put(m, cpu, mm, pmd, addr)  # pte_put_vmf
    return result


@kernel
def handle_file_fault(m, cpu, mm, vma, pmd, addr, flags):
    """As handle_pte_fault, for an address that maps a file. Returns VM_FAULT_RETRY with mmap_lock dropped.

    Where there is no table yet, the fault finds its page first and installs one at the end, as in v1.
    """
    m.vmf.mm[cpu] = mm
    m.vmf.vma[cpu] = vma
    m.vmf.pmd[cpu] = pmd
    m.vmf.addr[cpu] = addr
    m.vmf.flags[cpu] = flags
    table = pte_try_get_wait(m, cpu, pmd)
    m.vmf.table[cpu] = table
    entry = 0 if table == 0 else read_once(m.entry, pte_offset(table, addr))
    result = 0
    if entry == 0:
        result = do_fault(m, cpu)
    elif flags & FAULT_FLAG_WRITE and entry & RW == 0:
        if entry & FILE:
            result = do_wp_file(m, cpu, entry)
        else:
            result = do_wp_page(m, cpu, mm, vma, table, pte_offset(table, addr), addr, entry)
    pte_put_vmf(m, cpu)
    return result


@kernel
def handle_mm_fault(m, cpu, mm, addr, write):
    """Resolve a page fault: 0, -EFAULT if no VMA allows it, -EBUS past the end of a file, or -ENOMEM.

    Locking: takes and releases mmap_lock for reading. Source: do_user_addr_fault and handle_mm_fault.
    """
    flags = write
    while True:
        mmap_read_lock(m, cpu, mm)
        point(m, cpu, MMAP_LOCKED, addr, write)
        result = -EFAULT
        vma = find_vma(m, mm, addr)
        if vma < vma_limit(m, mm) and m.vma.start[vma] <= addr and (not write or m.vma.flags[vma] & VM_WRITE):
            pmd = pmd_alloc(m, cpu, mm, addr)
            result = pmd
            if pmd >= 0 and m.vma.file[vma] != 0:
                result = handle_file_fault(m, cpu, mm, vma, pmd, addr, flags)
            elif pmd >= 0:
                result = handle_pte_fault(m, cpu, mm, vma, pmd, addr, write)
        if result == VM_FAULT_RETRY:
            flags |= FAULT_FLAG_TRIED
            continue
        mmap_read_unlock(m, cpu, mm)
        if result != -ENOMEM or not try_to_free_pages(m, cpu):
            break
    if result == 0:
        m.cpu.faults[cpu] += 1  # mm_account_fault: those that fail do not count
    return result


@kernel_inline
def zap_present_pte(m, cpu, mm, pte, addr):
    """Clear a PTE and gather its frame; True if the gather is full. Locking: caller must hold ptl."""
    entry = xchg(m.entry, pte, 0)  # the hardware of other CPUs may be setting the dirty bit
    tlb_remove_tlb_entry(m, cpu, addr)
    frame = entry >> PAGE_SHIFT
    if frame == ZERO_PAGE or entry & (SPECIAL | FILE):
        if entry & FILE == 0:
            return False
        zap_file_pte(m, cpu, mm, entry)
        return tlb_remove_page(m, cpu, frame)
    atomic_add(m.page.mapcount, frame, -1)
    m.cpu.rss_cache[cpu] -= 1
    return tlb_remove_page(m, cpu, frame)


@kernel
def zap_pte_range(m, cpu, mm, pmd, table, addr, end):
    """Clear the entries of [addr, end) in one PTE table; the address where it stopped: short of `end` if the gather
    was full, which is flushed then.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    start = addr
    cleared = 0
    full = False
    only = m.cpu.gather_only[cpu]
    pte_lock(m, cpu, table)
    point(m, cpu, ZAP_LOCKED, table, data_race(m.ptdesc.pte_refcount, table))
    while addr < end and not full:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if entry != 0 and entry & only == only:
            cleared += 1
            full = zap_present_pte(m, cpu, mm, pte, addr)
        addr += PAGE
    sync_mm_rss(m, cpu, mm)
    if m.cpu.gather_force[cpu] != 0:
        m.cpu.gather_force[cpu] = 0
        tlb_flush_mmu_tlbonly(m, cpu)
    pte_unlock(m, cpu, table)
    m.cpu.zapped[cpu] += cleared
    point(m, cpu, ZAP_CLEARED, table, cleared)
    if full:
        tlb_flush_mmu(m, cpu)  # also behind the last page: the batch has no room for the next
    if cleared != 0:
        pte_put_many_tlb(m, cpu, mm, pmd, start, cleared)
    return addr


@kernel
def zap_pmd_range(m, cpu, mm, pud, addr, end):
    """Zap [addr, end) within one GiB, table by table. A dying table is empty: skip it.

    Locking: caller must hold mmap_lock and an open gather.
    """
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_offset(m, pud, addr)
        table = 0
        if read_once(m.entry, pmd) != 0:
            table = pte_try_get(m, cpu, pmd)
        if table != 0:
            start = addr
            while addr < following:
                addr = zap_pte_range(m, cpu, mm, pmd, table, addr, following)
            if knob(m.config.advanced_address):
                start = addr
            pte_put_many_tlb(m, cpu, mm, pmd, start, 1)
        addr = following
        cond_resched(m, cpu)


@kernel
def unmap_page_range(m, cpu, mm, addr, end):
    """Clear every entry of [addr, end) into this CPU's gather.

    Locking: caller must hold mmap_lock, or i_mmap_lock of the file mapped there. Source: unmap_page_range, mm/memory.c.
    """
    if detecting(m) and m.cpu.mm[cpu] == mm and m.cpu.gather_only[cpu] == 0:
        shadow_release(m, cpu, addr, end)
    while addr < end:
        following = pgd_addr_end(addr, end)
        pgd = pgd_offset(m, mm, addr)
        if read_once(m.entry, pgd) != 0:
            while addr < following:
                in_pud = pud_addr_end(addr, following)
                pud = pud_offset(m, pgd, addr)
                if read_once(m.entry, pud) != 0:
                    zap_pmd_range(m, cpu, mm, pud, addr, in_pud)
                addr = in_pud
        addr = following
