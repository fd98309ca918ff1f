"""mmap, munmap and exit: which addresses exist, and the page tables that go with the last VMA that needs them.

A table of any level goes when the unmapped range overlapped what it maps and no VMA is left there (floor and ceiling).
It need not be empty.
"""

from emulator.atomic import atomic_add_return, kernel, knob, now_ns, read_once, smp_store_release, write_once
from emulator.bug import BUG
from emulator.cpu.interrupts import point
from emulator.fault.zap import unmap_page_range
from emulator.huge.hugetlb import hugetlb_file, unmap_hugetlb_vmas
from emulator.locking.mmap_lock import mmap_read_unlock, mmap_write_downgrade, mmap_write_unlock
from emulator.locking.vma_lock import mmap_write_lock
from emulator.mm_types import MAX_MAP_COUNT
from emulator.pages.vma import (
    clear_vmas,
    detach_vmas,
    find_vma,
    last_vma,
    leave_family,
    may_split,
    remove_vmas,
    unlink_file_vmas,
    vma_alloc,
    vma_complete,
    vma_link,
    vma_merge,
    vma_prepare,
    vmas_short,
)
from emulator.pgtable import entry_at, mm_dec_nr_tables, pgd_offset, pgtable_of, pmd_index, pud_index
from emulator.pgtable_types import (
    PAGE,
    PGDIR_SIZE,
    PMD_SIZE,
    PUD_SIZE,
    TABLE_UNHOOKED,
    TASK_SIZE,
    USER_PGTABLES_CEILING,
)
from emulator.policy.policies import GOES_ALREADY, GOES_NOW
from emulator.policy.pte_ref import policy_exit, pte_table_goes
from emulator.syscalls.device import remap_pfn_range, unlink_file_vma
from emulator.syscalls.mseal import any_sealed
from emulator.tables.mmu_gather import (
    ZAP_DROP_MARKERS,
    pte_free_tlb,
    tlb_finish_mmu,
    tlb_flush_mmu,
    tlb_gather_mmu,
    tlb_note_table,
)
from emulator.tables.rcu import cond_resched
from emulator.uapi import (
    EEXIST,
    EINVAL,
    ENOMEM,
    EPERM,
    MAP_ACCOUNT,
    MAP_DROPPABLE,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_POPULATE,
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_FILE,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_NORESERVE,
    VM_PFNMAP,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
)
from emulator.walks.gup import mm_populate
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.pass_point import mark_life
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

MUNMAP = path_number("munmap")
FREE_PGTABLES = path_number("free_pgtables")
EXIT = path_number("exit, last user of the mm")

BUG_TABLE_LEFT = int(Bug.TABLE_LEFT_AT_TEARDOWN)
BUG_BAD_MM = int(Bug.BAD_MM_AT_EXIT)
BUG_DEPOSIT = int(Bug.DEPOSIT_LEFT)
MMAP_LOCKED = point_number("mmap.locked")
DETACHED = point_number("munmap.detached")
ZAPPED = point_number("munmap.zapped")
UNLINKED = point_number("munmap.unlinked")
EXIT_LOCKED = point_number("exit.mmap-locked")


@kernel
def clear_table_entry(m, cpu, mm, entry, addr, frees):
    """Unhook the table that `entry` names, and gather it if it `frees` that."""
    table = pgtable_of(read_once(m.entry, entry))
    if m.ptnote.deposit[table] != 0:
        BUG(m, cpu, BUG_DEPOSIT, table, 0, m.ptnote.deposit[table])
    write_once(m.entry, entry, 0)  # the hardware of other CPUs may be walking here
    write_once(m.ptdesc.state, table, TABLE_UNHOOKED)
    m.ptnote.unhooked_ns[table] = now_ns(m, cpu)
    mark_life(m, cpu, m.life.unhooked, table)
    if frees:
        pte_free_tlb(m, cpu, table, addr)
    else:
        tlb_note_table(m, cpu, addr)
    mm_dec_nr_tables(m, mm)


@kernel
def free_pte_range(m, cpu, mm, pmd, table, addr):
    """Free one PTE table at teardown. Where the last put frees there must be none: zap has freed it (patch 5)."""
    took(m, cpu, FREE_PGTABLES)
    if not m.config.tables_left[0]:
        BUG(m, cpu, BUG_TABLE_LEFT, table, 0, m.ptdesc.pte_refcount[table])
    goes = pte_table_goes(m, cpu, pmd, table)
    if goes != GOES_ALREADY:
        m.cpu.tables_freed[cpu] += 1
        clear_table_entry(m, cpu, mm, pmd, addr, goes == GOES_NOW)


@kernel
def free_pmd_range(m, cpu, mm, pud, addr, end, floor, ceiling):
    """Free the PTE tables under `pud` for [addr, end), and its PMD table if no VMA is left in the GiB."""
    start = addr
    table = pgtable_of(m.entry[pud])
    while addr < end:
        pmd = entry_at(table, pmd_index(addr))
        entry = read_once(m.entry, pmd)  # an agent of the policy may be clearing it
        if entry != 0:
            free_pte_range(m, cpu, mm, pmd, pgtable_of(entry), addr)
        addr = (addr + PMD_SIZE) & -PMD_SIZE
    if start & -PUD_SIZE >= floor and ((end - 1) & -PUD_SIZE) + PUD_SIZE <= ceiling:
        clear_table_entry(m, cpu, mm, pud, start, True)


@kernel
def free_pud_range(m, cpu, mm, pgd, addr, end, floor, ceiling):
    """Free the tables under `pgd` for [addr, end), and its PUD table if no VMA is left in the 512 GiB."""
    start = addr
    table = pgtable_of(m.entry[pgd])
    while addr < end:
        pud = entry_at(table, pud_index(addr))
        following = (addr + PUD_SIZE) & -PUD_SIZE
        if m.entry[pud] != 0:
            free_pmd_range(m, cpu, mm, pud, addr, min(following, end), floor, ceiling)
        addr = following
        cond_resched(m, cpu)
    if start & -PGDIR_SIZE >= floor and ((end - 1) & -PGDIR_SIZE) + PGDIR_SIZE <= ceiling:
        clear_table_entry(m, cpu, mm, pgd, start, True)


@kernel
def free_pgd_range(m, cpu, mm, addr, end, floor, ceiling):
    """Free the page tables of [addr, end) that no VMA needs; the VMAs around end at `floor` and begin at `ceiling`.

    Locking: caller must hold mmap_lock; nobody else may use addresses between floor and ceiling.
    Source: free_pgd_range, mm/memory.c.
    """
    mmap_assert_locked(m, cpu, mm)
    addr &= -PMD_SIZE
    if addr < floor:
        addr += PMD_SIZE
    if end > ceiling & -PMD_SIZE:
        end = ceiling & -PMD_SIZE
    end = (end + PMD_SIZE - 1) & -PMD_SIZE
    while addr < end:
        pgd = pgd_offset(m, mm, addr)
        following = (addr + PGDIR_SIZE) & -PGDIR_SIZE
        if m.entry[pgd] != 0:
            free_pud_range(m, cpu, mm, pgd, addr, min(following, end), floor, ceiling)
        addr = following


@kernel
def unmap_region(m, cpu, mm, detached, start, end):
    """Clear the entries of [start, end), whose VMAs are detached, and free the tables nobody needs any more.

    `detached` is what detach_vmas has given; the rows are free then. Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    took(m, cpu, MUNMAP)
    row = find_vma(m, mm, start)
    floor = 0
    ceiling = USER_PGTABLES_CEILING
    below = m.vma.prev[row] if row != 0 else last_vma(m, mm)
    if below != 0:
        floor = m.vma.end[below]
    if row != 0:
        ceiling = m.vma.start[row]
    tlb_gather_mmu(m, cpu, mm, 0)
    unmap_hugetlb_vmas(m, cpu, mm, start, end)
    unmap_page_range(m, cpu, mm, start, end, ZAP_DROP_MARKERS)
    point(m, cpu, ZAPPED, start, end)
    if m.device.mm[0] == mm + 1 and start <= m.device.addr[0] < end:
        if not knob(m.config.unlink_before_flush):
            tlb_flush_mmu(m, cpu)  # a driver that finds no VMA takes the frame for unused (b67fbebd4cf9)
        unlink_file_vma(m, cpu, mm)
        point(m, cpu, UNLINKED, start, end)
    unlink_file_vmas(m, cpu, mm, detached)
    remove_vmas(m, mm, detached)
    free_pgd_range(m, cpu, mm, start, end, floor, ceiling)
    tlb_finish_mmu(m, cpu)


@kernel
def can_unmap(m, cpu, mm, start, end, more):
    """0, or -errno if the VMAs of [start, end) cannot be taken out, for which it takes `more` VMAs than there are.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    row = find_vma(m, mm, start)
    hole = row != 0 and m.vma.start[row] < start and m.vma.end[row] > end
    if (hole and m.mm.vmas[mm] >= MAX_MAP_COUNT) or vmas_short(m, cpu, mm, more):
        return -ENOMEM
    if any_sealed(m, mm, start, end):
        return -EPERM
    return 0 if may_split(m, mm, start) and may_split(m, mm, end) else -EINVAL


@kernel
def munmap_locked(m, cpu, mm, start, end):
    """Unmap [start, end): 0 or -errno. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    error = can_unmap(m, cpu, mm, start, end, 2)
    if error != 0:
        return error
    detached = detach_vmas(m, cpu, mm, start, end)
    if detached != 0:
        unmap_region(m, cpu, mm, detached, start, end)
    return 0


@kernel
def do_munmap(m, cpu, mm, start, length):
    """munmap(2): 0 or -errno. The zap runs under mmap_lock for reading, as since 4.20.

    Locking: takes and releases mmap_lock. Source: __do_munmap with downgrade, mm/mmap.c.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if start & (PAGE - 1) or length <= 0 or start < 0 or length > TASK_SIZE or end > TASK_SIZE:
        return -EINVAL
    mmap_write_lock(m, cpu, mm)
    error = can_unmap(m, cpu, mm, start, end, 2)
    if error != 0:
        mmap_write_unlock(m, cpu, mm)
        return error
    detached = detach_vmas(m, cpu, mm, start, end)
    if detached == 0:
        mmap_write_unlock(m, cpu, mm)
        return 0
    point(m, cpu, DETACHED, start, length)
    mmap_write_downgrade(m, cpu, mm)
    unmap_region(m, cpu, mm, detached, start, end)
    mmap_read_unlock(m, cpu, mm)
    return 0


@kernel
def file_to_map(m, start, length, flags, backing):
    """The number of the file that do_mmap is to map, -1 for anonymous memory, or -EINVAL."""
    file = (backing & 255) - 1
    if file >= m.config.n_file[0] or backing < 0:
        return -EINVAL
    if flags & VM_HUGETLB == 0:
        return file
    if (start | length | (backing >> 8) * PAGE) & (PMD_SIZE - 1) or file >= 0 or flags & VM_SHARED == 0:
        return -EINVAL
    return hugetlb_file(m)


@kernel
def mmap_region(m, cpu, mm, start, end, flags, file, pgoff):
    """Enter a VMA at [start, end), where nothing is: 0 or -errno. As do_mmap; `file` is -1 for anonymous memory.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    vma_prepare(m, cpu, mm, file + 1)
    row = vma_alloc(m, mm)
    m.vma.start[row] = start
    m.vma.end[row] = end
    m.vma.flags[row] = flags | VM_FILE if 0 <= file < m.config.n_file[0] else flags
    m.vma.anon_vma[row] = 0
    m.vma.file[row] = file + 1
    m.vma.pgoff[row] = pgoff if file >= 0 else start // PAGE
    vma_link(m, cpu, mm, row)
    vma_merge(m, cpu, mm, row)
    vma_complete(m, cpu, mm, file + 1)
    m.mm.total_vm[mm] += (end - start) // PAGE
    return remap_pfn_range(m, cpu, mm, start) if flags & VM_PFNMAP else 0


@kernel
def flags_to_map(m, mm, flags, how):
    """The VMA flags of a mapping: what mmap was told, with MAP_* flags, and what mlockall has said; or -EINVAL."""
    if how & MAP_GROWSDOWN and (flags & VM_SHARED or how & MAP_DROPPABLE):
        return -EINVAL
    if how & MAP_DROPPABLE and (how & MAP_LOCKED or flags & VM_SHARED):
        return -EINVAL
    if how & MAP_GROWSDOWN:
        flags |= VM_GROWSDOWN
    if how & MAP_LOCKED:
        flags |= VM_LOCKED
    if how & MAP_DROPPABLE:
        return (flags | VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP) & ~VM_LOCKED_MASK
    if how & MAP_ACCOUNT == 0:
        flags |= VM_NORESERVE
    elif flags & (VM_SHARED | VM_WRITE) == VM_WRITE:
        flags |= VM_ACCOUNT
    return flags | m.mm.def_flags[mm]


@kernel
def do_mmap(m, cpu, mm, start, length, flags, backing, how):
    """mmap(2) at an address, with what is there gone unless `how` has MAP_FIXED_NOREPLACE: 0 or -errno.

    `backing` is 0 for anonymous memory, else pgoff << 8 | file + 1; for VM_HUGETLB it is pgoff << 8.
    Locking: takes and releases mmap_lock.
    """
    end = start + ((length + PAGE - 1) & -PAGE)
    if length == 0:
        return -EINVAL
    if length < 0 or length > TASK_SIZE or end > TASK_SIZE:
        return -ENOMEM
    if start & (PAGE - 1) or start < 0:
        return -EINVAL
    file = file_to_map(m, start, length, flags, backing)
    if file == -EINVAL:
        return file
    mmap_write_lock(m, cpu, mm)
    point(m, cpu, MMAP_LOCKED, start, length)
    row = find_vma(m, mm, start)
    flags = flags_to_map(m, mm, flags, how)
    error = min(flags, 0)
    if m.mm.vmas[mm] > MAX_MAP_COUNT:
        error = -ENOMEM
    elif how & MAP_FIXED_NOREPLACE and row != 0 and m.vma.start[row] < end:
        error = -EEXIST
    if error == 0:
        error = can_unmap(m, cpu, mm, start, end, 3)
    detached = detach_vmas(m, cpu, mm, start, end) if error == 0 else 0
    if detached != 0:
        unmap_region(m, cpu, mm, detached, start, end)
    if error == 0:
        error = mmap_region(m, cpu, mm, start, end, flags, file, backing >> 8)
    locked = (flags | m.mm.def_flags[mm]) & VM_LOCKED  # a droppable VMA loses that, but not what it is for here
    if error == 0 and (how & MAP_POPULATE or locked):
        mmap_write_downgrade(m, cpu, mm)
        mm_populate(m, cpu, mm, start, end)  # what fails there does not matter
        mmap_read_unlock(m, cpu, mm)
    else:
        mmap_write_unlock(m, cpu, mm)
    return error


@kernel
def check_mm(m, cpu, mm):
    """An mm that has exited maps nothing and has no table but its top one. Source: check_mm, kernel/fork.c."""
    pages = read_once(m.mm.rss_anon, mm) + read_once(m.mm.rss_file, mm) + read_once(m.mm.rss_swap, mm)
    tables = read_once(m.mm.pgtables_bytes, mm)
    if pages != 0 or tables != 0:
        BUG(m, cpu, BUG_BAD_MM, mm, pages, tables)


@kernel
def exit_mmap(m, cpu, mm):
    """One user of the mm less; the last unmaps everything, and gives a child's mm back: mmput and exit_mmap.

    Locking: takes and releases mmap_lock. No CPU may have a child's mm loaded.
    """
    if atomic_add_return(m.mm.mm_users, mm, -1) != 0:
        return
    root = m.mm.family[mm] == mm + 1
    mmap_write_lock(m, cpu, mm)
    took(m, cpu, EXIT)
    point(m, cpu, EXIT_LOCKED, mm, m.mm.vmas[mm])
    leave_family(m, cpu, mm)
    tlb_gather_mmu(m, cpu, mm, 1)
    unmap_hugetlb_vmas(m, cpu, mm, 0, TASK_SIZE)
    row = m.mm.first_vma[mm]
    while row != 0:
        unmap_page_range(m, cpu, mm, m.vma.start[row], m.vma.end[row], ZAP_DROP_MARKERS)
        row = m.vma.next[row]
    if m.device.mm[0] == mm + 1:
        unlink_file_vma(m, cpu, mm)  # before the tables go: the driver walks them
    unlink_file_vmas(m, cpu, mm, m.mm.first_vma[mm])
    row = m.mm.first_vma[mm]
    while row != 0:
        following = m.vma.next[row]
        ceiling = m.vma.start[following] if following != 0 else USER_PGTABLES_CEILING
        free_pgd_range(m, cpu, mm, m.vma.start[row], m.vma.end[row], 0, ceiling)
        row = following
    tlb_finish_mmu(m, cpu)
    policy_exit(m, cpu, mm)
    clear_vmas(m, mm)
    m.mm.total_vm[mm] = 0
    check_mm(m, cpu, mm)
    mmap_write_unlock(m, cpu, mm)
    if not root:
        m.mm.anon_vmas[mm] = 0
        m.cpu.next_mm[cpu] = min(m.cpu.next_mm[cpu], mm)
        smp_store_release(m.mm.in_use, mm, 0)  # pairs with the cmpxchg in alloc_mm
