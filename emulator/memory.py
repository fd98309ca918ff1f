"""The page fault and the zap: where entries appear and disappear.

Both hold a reference on the PTE table they work on (pte_ref.py) from before the first look at an entry until after the
last, and mmap_lock (faults and MADV_DONTNEED for reading, mmap and exit for writing), so its pmd cannot change. Entries
change under ptl.
"""

from emulator.anon_reclaim import try_to_free_pages
from emulator.atomic import (
    DEBUG,
    atomic_add,
    cmpxchg,
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
from emulator.huge_memory import pte_alloc_or_huge, pte_alloc_split, split_huge_pmd, zap_huge_pmd
from emulator.hugetlb import hugetlb_fault
from emulator.kernel import EACCES, EFAULT, EINTR, ENOMEM, detecting, stopped
from emulator.mm_types import FRAMES
from emulator.mmu_gather import (
    tlb_finish_mmu,
    tlb_flush_mmu,
    tlb_flush_mmu_tlbonly,
    tlb_gather_mmu,
    tlb_remove_page,
    tlb_remove_tlb_entry,
)
from emulator.page_alloc import alloc_page, clear_page, copy_page, put_page
from emulator.paths import path_number, took
from emulator.pgalloc import pmd_alloc
from emulator.pgtable import (
    ACCESSED,
    ANON_EXCLUSIVE,
    ANON_PTE,
    DIRTY,
    FILE,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PRESENT,
    RW,
    SOFT_DIRTY,
    SPECIAL,
    USER,
    is_migration_entry,
    is_swap_entry,
    pgd_addr_end,
    pgd_offset,
    pmd_addr_end,
    pmd_offset,
    pmd_trans_huge,
    pte_offset,
    pte_present,
    pud_addr_end,
    pud_offset,
)
from emulator.points import point_number
from emulator.pte_ref import (
    pte_get,
    pte_lock,
    pte_put,
    pte_put_many_tlb,
    pte_try_get,
    pte_try_get_retry,
    pte_unlock,
)
from emulator.rcu import cond_resched
from emulator.rmap import page_add_new_anon_rmap, zap_file_pte
from emulator.rss import add_mm_rss, sync_mm_rss
from emulator.shadow import shadow_own, shadow_release
from emulator.signal import mm_fault_error
from emulator.spinlock import mmap_read_lock, mmap_read_unlock
from emulator.swap_fault import do_swap_page, set_vmf
from emulator.swap_state import free_page_and_swap_cache, free_swap_and_cache
from emulator.tlb import flush_tlb_mm_range, point
from emulator.userfaultfd import handle_userfault
from emulator.vma import (
    VM_ACCESS_FLAGS,
    VM_FILE,
    VM_HUGETLB,
    VM_SPECIAL_FAULT,
    VM_WRITE,
    anon_vma_prepare,
    find_vma,
    vma_limit,
)

TABLE_THERE = path_number("fault, table there")
NONE_ENTRY = path_number("fault on a none entry")
WRITE_ZERO_PAGE = path_number("write to the zero page")
WRITE_SHARED = path_number("write to a shared frame")
WRITE_REUSE = path_number("write to a frame of one user")
FAULT_END = path_number("end of a fault")
ZAP_TABLE = path_number("zap, per table")
ZAP_ENTRIES = path_number("zap, entries")
ZAP_NONPRESENT = path_number("zap of a swap or migration entry")
FILE_TABLE = path_number("fault on a file, table there")

MAX_RECLAIM_RETRIES = 16
ZERO_PAGE = 0  # frame 0: never written, never counted
ZERO_PTE = ZERO_PAGE << PAGE_SHIFT | PRESENT | USER | ACCESSED
MMAP_LOCKED, SET_PTE_LOCKED = point_number("fault.mmap-locked"), point_number("set_pte.locked")
SET_PTE_DONE = point_number("set_pte.done")
ZAP_LOCKED, ZAP_CLEARED = point_number("zap.locked"), point_number("zap.cleared")


@kernel_inline
def set_pte(m, cpu, mm, table, pmd, pte, entry):
    """Fill an empty PTE if it is empty still, and count it; True if done.

    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    pte_lock(m, cpu, table)
    point(m, cpu, SET_PTE_LOCKED, table, entry)
    empty = read_once(m.entry, pte) == 0
    if empty:
        took(m, cpu, NONE_ENTRY)
        write_once(m.entry, pte, entry)
        pte_get(m, cpu, pmd)
    point(m, cpu, SET_PTE_DONE, table, data_race(m.ptdesc.pte_refcount, table))
    pte_unlock(m, cpu, table)
    return empty


@kernel_inline
def do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, addr, write):
    """Fault on an empty PTE: map the zero page for a read, a fresh zeroed frame for a write. 0 or -ENOMEM.

    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    if not write:
        set_pte(m, cpu, mm, table, pmd, pte, ZERO_PTE)
        return 0
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    clear_page(m, frame)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    page_add_new_anon_rmap(m, mm, vma, addr, frame)
    if set_pte(m, cpu, mm, table, pmd, pte, frame << PAGE_SHIFT | ANON_PTE):
        add_mm_rss(m, cpu, mm, 1)
    else:
        m.page.mapcount[frame] = 0
        put_page(m, cpu, frame)
    return 0


@kernel_inline
def same_but_bits(entry, orig):
    """True if an entry is still what it was: the hardware may have set its accessed and dirty bits meanwhile."""
    return entry & ~(ACCESSED | DIRTY) == orig & ~(ACCESSED | DIRTY)


@kernel
def wp_page_reuse(m, mm, pte, addr):
    """Let a write-protected frame be written. Locking: caller must hold ptl, and know that nobody shares the frame."""
    entry = read_once(m.entry, pte)
    if DEBUG:
        shadow_own(m, mm, entry >> PAGE_SHIFT, addr)
    while cmpxchg(m.entry, pte, entry, entry | RW | ACCESSED | DIRTY | SOFT_DIRTY | ANON_EXCLUSIVE) != entry:
        entry = read_once(m.entry, pte)  # the hardware of other CPUs sets bits


@kernel
def wp_page_copy(m, cpu, mm, vma, table, pte, addr, orig):
    """Give a write-protected PTE, of the zero page or of a shared frame, a frame of its own. 0 or -ENOMEM.

    The old translation is flushed before the new one is set, under ptl (ptep_clear_flush). The entry stays counted.
    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    anon_vma_prepare(m, mm, vma)
    frame = alloc_page(m, cpu)
    if frame == 0:
        return -ENOMEM
    old = orig >> PAGE_SHIFT
    if old == ZERO_PAGE:
        took(m, cpu, WRITE_ZERO_PAGE)
        clear_page(m, frame)
    else:
        copy_page(m, frame, old)
        if DEBUG:
            shadow_own(m, mm, frame, addr)
    smp_wmb()  # __SetPageUptodate: the contents before the entry that leads to them
    pte_lock(m, cpu, table)
    same = same_but_bits(read_once(m.entry, pte), orig)
    if same:
        page = addr & -PAGE
        xchg(m.entry, pte, 0)
        flush_tlb_mm_range(m, cpu, mm, page, page + PAGE, 0)
        page_add_new_anon_rmap(m, mm, vma, addr, frame)
        write_once(m.entry, pte, frame << PAGE_SHIFT | ANON_PTE)
        if old == ZERO_PAGE:
            add_mm_rss(m, cpu, mm, 1)
        else:
            atomic_add(m.page.mapcount, old, -1)
    pte_unlock(m, cpu, table)
    if not same:
        put_page(m, cpu, frame)
    elif old != ZERO_PAGE:
        free_page_and_swap_cache(m, cpu, old)
    return 0


@kernel
def get_page_of(m, cpu, table, pte, orig):
    """Take a reference on the frame of a PTE if that is the same still; True if so.

    Locking: takes and releases ptl; caller must hold a reference on the table.
    """
    pte_lock(m, cpu, table)
    same = same_but_bits(read_once(m.entry, pte), orig)
    if same:
        atomic_add(m.page.refcount, orig >> PAGE_SHIFT, 1)
    pte_unlock(m, cpu, table)
    return same


@kernel
def do_wp_page(m, cpu, mm, vma, table, pte, addr, orig):
    """Write fault on a present read-only PTE: break COW. 0 or -ENOMEM.

    A frame with one user is this entry's alone: fork, which would add another, needs mmap_lock for writing.
    Locking: takes and releases ptl; caller must hold mmap_lock and a reference on the table.
    """
    frame = orig >> PAGE_SHIFT
    if frame == ZERO_PAGE:
        return wp_page_copy(m, cpu, mm, vma, table, pte, addr, orig)
    if read_once(m.page_slot, frame) != 0 and get_page_of(m, cpu, table, pte, orig):
        free_page_and_swap_cache(m, cpu, frame)  # or the cache would be taken for somebody who shares it
    pte_lock(m, cpu, table)
    entry = read_once(m.entry, pte)
    same = same_but_bits(entry, orig)
    users = read_once(m.page.refcount, frame)
    if knob(m.config.reuse_by_mapcount):
        users = read_once(m.page.mapcount, frame)
    alone = users == 1 and read_once(m.page.mapping, frame) != 0  # KSM's are copied
    shared = same and entry & ANON_EXCLUSIVE == 0 and not alone
    if shared:
        took(m, cpu, WRITE_SHARED)
        atomic_add(m.page.refcount, frame, 1)  # get_page: it stays while it is copied
    elif same:
        took(m, cpu, WRITE_REUSE)
        wp_page_reuse(m, mm, pte, addr)
    pte_unlock(m, cpu, table)
    if not shared:
        return 0
    result = wp_page_copy(m, cpu, mm, vma, table, pte, addr, orig)
    put_page(m, cpu, frame)
    return result


@kernel
def swap_and_wp_fault(m, cpu, entry):
    """do_swap_page, and do_wp_page behind it for a write to a page that others have as well: what those return.

    One fault does both, as in Linux: a page that comes in, is write-protected, and is reclaimed for its own copy would
    otherwise be let in for ever.
    """
    result = do_swap_page(m, cpu, entry)
    if result == 0 and m.vmf.flags[cpu] & FAULT_FLAG_WRITE:
        mm, table, addr = m.vmf.mm[cpu], m.vmf.table[cpu], m.vmf.addr[cpu]
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if pte_present(entry) and entry & (RW | FILE) == 0:
            return do_wp_page(m, cpu, mm, m.vmf.vma[cpu], table, pte, addr, entry)
    return result


@kernel
def handle_nonpresent_fault(m, cpu, mm, vma, pmd, table, addr, flags, entry):
    """swap_and_wp_fault for an anonymous VMA: what that returns. The caller's reference is used up."""
    set_vmf(m, cpu, mm, vma, pmd, table, addr, flags)
    result = swap_and_wp_fault(m, cpu, entry)
    pte_put_vmf(m, cpu)
    return result


@kernel_inline
def handle_pte_fault(m, cpu, mm, vma, pmd, addr, flags):
    """Pin the PTE table and resolve the fault in it, or with a huge page. 0, -ENOMEM, -EFAULT at a guard, or
    VM_FAULT_RETRY.

    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped.
    """
    write = flags & FAULT_FLAG_WRITE
    table = pte_try_get(m, cpu, pmd)
    if table == 0:
        table = pte_alloc_or_huge(m, cpu, mm, vma, pmd, addr, write)
        if table <= 0:
            return table
    else:
        took(m, cpu, TABLE_THERE)
    pte = pte_offset(table, addr)
    entry = read_once(m.entry, pte)
    result = 0
    if entry == 0:
        result = do_anonymous_page(m, cpu, mm, vma, table, pmd, pte, addr, write)
    elif entry & PRESENT == 0:
        return handle_nonpresent_fault(m, cpu, mm, vma, pmd, table, addr, flags, entry)
    elif write and entry & RW == 0:
        result = do_wp_page(m, cpu, mm, vma, table, pte, addr, entry)
    if write or not knob(m.config.missing_pte_put):
        took(m, cpu, FAULT_END)
        pte_put(m, cpu, mm, pmd, addr)  # pte_put_vmf
    return result


@kernel
def handle_file_fault(m, cpu, mm, vma, pmd, addr, flags):
    """As handle_pte_fault, for an address that maps a file. Returns VM_FAULT_RETRY with mmap_lock dropped.

    Where there is no table yet, the fault finds its page first and installs one at the end, as in v1.
    """
    table = pte_try_get_retry(m, cpu, pmd)
    set_vmf(m, cpu, mm, vma, pmd, table, addr, flags)
    if table != 0:
        took(m, cpu, FILE_TABLE)
    entry = 0 if table == 0 else read_once(m.entry, pte_offset(table, addr))
    result = 0
    if entry == 0:
        result = do_fault(m, cpu)
    elif not pte_present(entry):
        result = swap_and_wp_fault(m, cpu, entry)
    elif flags & FAULT_FLAG_WRITE and entry & RW == 0:
        if entry & FILE:
            result = do_wp_file(m, cpu, entry)
        else:
            result = do_wp_page(m, cpu, mm, vma, table, pte_offset(table, addr), addr, entry)
    pte_put_vmf(m, cpu)
    return result


@kernel
def handle_missing_fault(m, cpu, mm, vma, pmd, addr, flags):
    """As handle_pte_fault, in a VMA that userfaultfd watches: what is missing is waited for. As handle_file_fault.

    A leaf that is there from before is split.
    """
    table = pte_alloc_split(m, cpu, mm, pmd, addr)
    if table < 0:
        return table
    set_vmf(m, cpu, mm, vma, pmd, table, addr, flags)
    pte = pte_offset(table, addr)
    entry = read_once(m.entry, pte)
    result = 0
    if entry == 0:
        result = handle_userfault(m, cpu)
    elif not pte_present(entry):
        result = swap_and_wp_fault(m, cpu, entry)
    elif flags & FAULT_FLAG_WRITE and entry & RW == 0:
        result = do_wp_page(m, cpu, mm, vma, table, pte, addr, entry)
    pte_put_vmf(m, cpu)
    return result


@kernel
def handle_special_fault(m, cpu, mm, vma, addr, flags):
    """A fault that is not that of plain anonymous memory. As handle_file_fault."""
    if m.vma.flags[vma] & VM_HUGETLB:
        return hugetlb_fault(m, cpu, mm, vma, addr)
    pmd = pmd_alloc(m, cpu, mm, addr)
    if pmd < 0:
        return pmd
    if m.vma.flags[vma] & VM_FILE:
        return handle_file_fault(m, cpu, mm, vma, pmd, addr, flags)
    return handle_missing_fault(m, cpu, mm, vma, pmd, addr, flags)


@kernel_inline
def __handle_mm_fault(m, cpu, mm, vma, addr, flags):
    """Resolve a page fault that the VMA allows: 0, -errno (-EFAULT at a guard), or VM_FAULT_RETRY.

    Locking: caller must hold mmap_lock for reading, which VM_FAULT_RETRY means was dropped: not with FAULT_FLAG_TRIED.
    """
    if m.vma.flags[vma] & VM_SPECIAL_FAULT:
        result = handle_special_fault(m, cpu, mm, vma, addr, flags)
    else:
        result = pmd_alloc(m, cpu, mm, addr)
        if result >= 0:
            result = handle_pte_fault(m, cpu, mm, vma, result, addr, flags)
    if result == 0:
        m.cpu.faults[cpu] += 1  # mm_account_fault: those that fail do not count
    return result


@kernel
def handle_mm_fault(m, cpu, mm, addr, write):
    """Resolve a page fault: 0, or -EFAULT if no VMA allows it, -EBUS past the end of a file, -ENOMEM, with a signal.

    What reclaim wins may be what the fault itself needs, so it is asked a few times and no more (should_reclaim_retry).
    Locking: takes and releases mmap_lock for reading. Source: do_user_addr_fault and handle_mm_fault.
    """
    flags = write
    retries = 0
    while True:
        mmap_read_lock(m, cpu, mm)
        point(m, cpu, MMAP_LOCKED, addr, write)
        result = -EFAULT
        vma = find_vma(m, mm, addr)
        allowed = VM_WRITE if write else VM_ACCESS_FLAGS
        if vma < vma_limit(m, mm) and m.vma.start[vma] <= addr:
            result = -EACCES
            if m.vma.flags[vma] & allowed:
                result = __handle_mm_fault(m, cpu, mm, vma, addr, flags)
        if result == VM_FAULT_RETRY:
            flags |= FAULT_FLAG_TRIED
        else:
            mmap_read_unlock(m, cpu, mm)
            if result == 0:
                return 0
            retries += 1
            reclaim = result == -ENOMEM and m.cpu.oom_zone[cpu] == FRAMES and retries <= MAX_RECLAIM_RETRIES
            if not reclaim or not try_to_free_pages(m, cpu):
                return mm_fault_error(m, cpu, mm, addr, result)
        cond_resched(m, cpu)
        if stopped(m):
            return -EINTR


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
def zap_nonpresent_pte(m, cpu, mm, pte, entry, drop_markers):
    """Clear a swap entry, a migration entry, or a marker if told to; True if cleared. No hardware looks at them, so
    nothing is flushed. Locking: caller must hold ptl.
    """
    only = m.cpu.gather_only[cpu]
    if entry & only != only:
        return False
    if is_swap_entry(entry):
        atomic_add(m.mm.rss_swap, mm, -1)
        free_swap_and_cache(m, cpu, entry >> PAGE_SHIFT)
    elif is_migration_entry(entry):
        atomic_add(m.mm.rss_file, mm, -1 if entry & FILE else 0)
        atomic_add(m.mm.rss_anon, mm, 0 if entry & FILE else -1)
    elif not drop_markers:
        return False
    took(m, cpu, ZAP_NONPRESENT)
    write_once(m.entry, pte, 0)
    return True


@kernel
def zap_pte_range(m, cpu, mm, pmd, table, addr, end, drop_markers):
    """Clear the entries of [addr, end) in one PTE table, markers only if told to; the address where it stopped: short
    of `end` if the gather was full, which is flushed then.

    Locking: takes and releases ptl; caller must hold a reference on the table and an open gather.
    """
    took(m, cpu, ZAP_ENTRIES)
    start = addr
    cleared = 0
    full = False
    only = m.cpu.gather_only[cpu]
    pte_lock(m, cpu, table)
    point(m, cpu, ZAP_LOCKED, table, data_race(m.ptdesc.pte_refcount, table))
    while addr < end and not full:
        pte = pte_offset(table, addr)
        entry = read_once(m.entry, pte)
        if pte_present(entry):
            if entry & only == only:
                cleared += 1
                full = zap_present_pte(m, cpu, mm, pte, addr)
        elif entry != 0 and zap_nonpresent_pte(m, cpu, mm, pte, entry, drop_markers):
            cleared += 1
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
def zap_or_split(m, cpu, mm, pmd, addr, end):
    """Zap the huge page at `pmd` if [addr, end) is all of it, else split it. Locking: as zap_pmd_range."""
    if end - addr == PMD_SIZE:
        zap_huge_pmd(m, cpu, mm, pmd, addr)
    else:
        split_huge_pmd(m, cpu, mm, pmd, addr)


@kernel
def zap_pmd_range(m, cpu, mm, pud, addr, end, drop_markers):
    """Zap [addr, end) within one GiB, table by table. A dying table is empty: skip it. A leaf that a fault brings
    between the two looks came after the call: skip it as well, and do not take it for a table (pmd_trans_unstable).

    Locking: caller must hold mmap_lock and an open gather.
    """
    while addr < end:
        following = pmd_addr_end(addr, end)
        pmd = pmd_offset(m, pud, addr)
        if pmd_trans_huge(read_once(m.entry, pmd)):
            zap_or_split(m, cpu, mm, pmd, addr, following)
        table = 0
        if read_once(m.entry, pmd) != 0:
            table = pte_try_get(m, cpu, pmd)
        if table != 0:
            took(m, cpu, ZAP_TABLE)
            start = addr
            while addr < following:
                addr = zap_pte_range(m, cpu, mm, pmd, table, addr, following, drop_markers)
            if knob(m.config.advanced_address):
                start = addr
            pte_put_many_tlb(m, cpu, mm, pmd, start, 1)
        addr = following
        cond_resched(m, cpu)


@kernel
def unmap_page_range(m, cpu, mm, addr, end, drop_markers):
    """Clear every entry of [addr, end) into this CPU's gather; markers only if told to, as where the VMA goes.

    Locking: caller must hold mmap_lock, or i_mmap_lock of the file mapped there. Source: unmap_page_range, mm/memory.c.
    """
    if detecting(m) and m.cpu.gather_only[cpu] == 0:
        shadow_release(m, cpu, mm, addr, end)
    while addr < end:
        following = pgd_addr_end(addr, end)
        pgd = pgd_offset(m, mm, addr)
        if read_once(m.entry, pgd) != 0:
            while addr < following:
                in_pud = pud_addr_end(addr, following)
                pud = pud_offset(m, pgd, addr)
                if read_once(m.entry, pud) != 0:
                    zap_pmd_range(m, cpu, mm, pud, addr, in_pud, drop_markers)
                addr = in_pud
        addr = following


@kernel
def zap_page_range(m, cpu, mm, start, end):
    """Clear [start, end), which lies in one VMA, in one gather. Guards stay. Locking: caller must hold mmap_lock."""
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_page_range(m, cpu, mm, start, end, 0)
    tlb_finish_mmu(m, cpu)
