"""Huge pages: a pmd that is a leaf maps 2 MiB at once, and keeps the PTE table that a split will need.

    none --fault--> leaf + deposited table --split--> that table, 512 entries
    table --collapse (khugepaged.py)--> leaf + the table it was, deposited
    leaf --zap--> none; the deposited table is freed

A leaf appears under mmap_lock held for reading (a fault) or for writing (collapse), and may be zapped or split under it
held for reading. Between two looks at a pmd anything may happen, unless its table is pinned. A path that acts on a leaf
takes pmd_lock and looks again. A path that wants a table and finds a leaf splits it or leaves it alone. It must not
take a leaf for a table, nor wait for it to become one.

A split makes the leaf not present and flushes, but the bit that says leaf stays: nobody takes it for none meanwhile.
A leaf allows stores if its VMA does, unless fork has shared it or it is the huge zero page. A VMA that begins or ends
inside of a leaf splits it.

A deposited table counts in VmPTE and belongs to its pmd (in Linux to a PMD table, any leaf of which may take it).
Nobody can reach it, so its count means nothing; it is 0, and 512 once it is withdrawn.

Source: mm/huge_memory.c; pgtable_trans_huge_deposit and _withdraw, mm/pgtable-generic.c; patch 5, pte_ref_init.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    kernel,
    kernel_inline,
    memset,
    read_once,
    smp_store_release,
    smp_wmb,
    write_once,
    xchg,
)
from emulator.bug import BUG
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.huge.file_leaf import forget_file_leaf, split_file_leaf
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.mm_types import LARGE, MAPPING_SHIFT
from emulator.pages.huge_page import add_mapcounts, alloc_huge_page, clear_huge_page, put_huge_page, sole_user
from emulator.pages.page_alloc import free_table
from emulator.pages.rmap import anon_mapping
from emulator.pages.rss import add_mm_rss
from emulator.pages.vma import anon_vma_prepare
from emulator.pages.vmscan import pte_alloc_one
from emulator.pgtable import (
    clear_bits,
    entry_at,
    huge_piece,
    is_hugetlb,
    mm_dec_nr_tables,
    mm_inc_nr_tables,
    note_lock,
    pmd_lookup,
    pmd_trans_huge,
    populate,
    set_bits,
    table_of,
)
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    ANON_PTE,
    DIRTY,
    FILE,
    HPAGE_PMD_NR,
    PAGE,
    PAGE_SHIFT,
    PMD_SIZE,
    PRESENT,
    PSE,
    RW,
    TABLE_DEPOSITED,
    TABLE_UNHOOKED,
    UFFD_WP,
    USER,
)
from emulator.policy.policies import GOES_NOW
from emulator.policy.pte_alloc import pte_alloc_try_get, pte_alloc_try_get_slow
from emulator.policy.pte_ref import pte_table_goes, pte_table_init
from emulator.tables.mmu_gather import tlb_adjust_range, tlb_flush_mmu, tlb_remove_huge_page
from emulator.tables.unhook import note_pmd_cleared
from emulator.uapi import ENOMEM, VM_HUGEPAGE, VM_UFFD_WP
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import assert_gather_open, assert_ptl_held, mmap_assert_locked, mmap_assert_write_locked
from emulator.watch.pass_point import mark_life
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number
from emulator.watch.shadow import shadow_own

BUG_DEPOSIT_MISSING = int(Bug.DEPOSIT_MISSING)
HUGE_ZERO_PAGE = 0  # in a leaf: the zero page, 512 times
FALLBACK = 1  # no huge page: go on with a PTE table
FOLLOW_HUGE = path_number("GUP, slow, huge page")
HUGE_FAULT = path_number("huge page, fault")
HUGE_WRITE = path_number("huge page, write fault")
HUGE_ZAP = path_number("huge page, zap")
SPLIT = path_number("huge page, split")
HUGE_INSTALLED = point_number("huge.installed")
HUGE_SPLIT = point_number("huge.split")


@kernel
def pgtable_trans_huge_deposit(m, cpu, mm, pmd, table):
    """Keep a table under the leaf that is about to stand at `pmd`. Locking: caller must hold pmd_lock."""
    assert_ptl_held(m, cpu, table_of(pmd))
    m.ptdesc.pmd[table] = pmd
    m.ptdesc.mm[table] = mm + 1
    note_lock(m, mm, pmd, table)
    if DEBUG:
        m.ptnote.gp_seq[table] = read_once(m.rcu.gp_completed, 0)
    pte_table_init(m, table, 0, 0, 0)
    smp_store_release(m.ptdesc.state, table, TABLE_DEPOSITED)  # behind gp_seq, as in unhook_pte_table
    m.ptdesc.next[table] = m.ptnote.deposit[table_of(pmd)]
    m.ptnote.deposit[table_of(pmd)] = table


@kernel
def pgtable_trans_huge_withdraw(m, cpu, pmd):
    """Take back the table that was deposited for `pmd`. Locking: caller must hold pmd_lock."""
    assert_ptl_held(m, cpu, table_of(pmd))
    before = 0
    table = m.ptnote.deposit[table_of(pmd)]
    while table != 0 and m.ptdesc.pmd[table] != pmd:
        before, table = table, m.ptdesc.next[table]
    if table == 0:
        BUG(m, cpu, BUG_DEPOSIT_MISSING, pmd, 0, read_once(m.entry, pmd))
    if before == 0:
        m.ptnote.deposit[table_of(pmd)] = m.ptdesc.next[table]
    else:
        m.ptdesc.next[before] = m.ptdesc.next[table]
    return table


@kernel_inline
def transhuge_vma_suitable(m, row, addr):
    """True if the VMA at `row` is anonymous and covers the 2 MiB of `addr`. Locking: caller must hold mmap_lock."""
    start = addr & -PMD_SIZE
    return m.vma.file[row] == 0 and m.vma.start[row] <= start and start + PMD_SIZE <= m.vma.end[row]


@kernel
def install_huge_pmd(m, cpu, mm, pmd, table, entry):
    """Let a leaf stand at `pmd`, over a fresh table, unless something does; True if done.

    Locking: takes and releases pmd_lock.
    """
    pmd_lock(m, cpu, pmd)
    done = read_once(m.entry, pmd) == 0
    if done:
        mm_inc_nr_tables(m, mm)
        pgtable_trans_huge_deposit(m, cpu, mm, pmd, table)
        smp_store_release(m.entry, pmd, entry)
        m.cpu.tables_installed[cpu] += 1
    pmd_unlock(m, cpu, pmd)
    if done:
        point(m, cpu, HUGE_INSTALLED, table, pmd)
    return done


@kernel
def page_add_huge_anon_rmap(m, mm, row, addr, head):
    """The first leaf is about to map a fresh block, at the 2 MiB of `addr`. Locking: as page_add_new_anon_rmap."""
    first = anon_mapping(m, mm, row, addr & -PMD_SIZE) | LARGE
    memset(m.page.mapcount, head, HPAGE_PMD_NR, 1)
    for i in range(HPAGE_PMD_NR):
        write_once(m.page.mapping, head + i, first + (i << MAPPING_SHIFT))


@kernel
def do_huge_pmd_anonymous_page(m, cpu, mm, row, pmd, addr, write):
    """Fault on an empty pmd: a huge page, or the huge zero page for a load. 0, FALLBACK or -ENOMEM.

    Another fault may have been first; then this one is done as well. Locking: caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    anon_vma_prepare(m, mm, row)
    table = pte_alloc_one(m, cpu)
    if table == 0:
        return -ENOMEM
    head = alloc_huge_page(m, cpu) if write else HUGE_ZERO_PAGE
    if write and head == 0:
        free_table(m, cpu, table)
        return FALLBACK
    entry = PSE | PRESENT | USER | ACCESSED
    if write:
        clear_huge_page(m, head)
        page_add_huge_anon_rmap(m, mm, row, addr, head)
        smp_wmb()  # the contents before the entry that leads to them
        entry = head << PAGE_SHIFT | PSE | ANON_PTE
    took(m, cpu, HUGE_FAULT)
    if install_huge_pmd(m, cpu, mm, pmd, table, entry):
        if write:
            add_mm_rss(m, cpu, mm, HPAGE_PMD_NR)
        return 0
    m.cpu.install_lost[cpu] += 1
    free_table(m, cpu, table)
    if write:
        add_mapcounts(m, head, -1)
        put_huge_page(m, cpu, head)
    return 0


@kernel_inline
def uffd_wp(m, row, entry):
    """True if a store to what `entry` maps, in the VMA at `row`, is for userfaultfd."""
    return entry & UFFD_WP != 0 and m.vma.flags[row] & VM_UFFD_WP != 0


@kernel
def huge_zero_wp(m, cpu, mm, row, pmd, addr):
    """Write fault on the huge zero page: a huge page in its place. 0 or FALLBACK. Locking: takes, releases pmd_lock."""
    head = alloc_huge_page(m, cpu)
    if head == 0:
        return FALLBACK
    clear_huge_page(m, head)
    page_add_huge_anon_rmap(m, mm, row, addr, head)
    smp_wmb()
    start = addr & -PMD_SIZE
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    done = pmd_trans_huge(entry) and entry >> PAGE_SHIFT == HUGE_ZERO_PAGE and not uffd_wp(m, row, entry)
    if done:
        xchg(m.entry, pmd, PSE)  # a leaf still, for other CPUs
        flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 0)
        smp_store_release(m.entry, pmd, head << PAGE_SHIFT | PSE | ANON_PTE)
    pmd_unlock(m, cpu, pmd)
    if done:
        add_mm_rss(m, cpu, mm, HPAGE_PMD_NR)
    else:
        add_mapcounts(m, head, -1)
        put_huge_page(m, cpu, head)
    return 0


@kernel
def huge_reuse(m, cpu, mm, row, pmd, addr):
    """Write fault on a leaf that fork has shared: let it be written if nobody else uses it; False if somebody does.

    Locking: takes and releases pmd_lock.
    """
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    done = not pmd_trans_huge(entry) or entry & RW != 0 or uffd_wp(m, row, entry)
    head = entry >> PAGE_SHIFT
    if not done and head != HUGE_ZERO_PAGE and sole_user(m, head):
        done = True
        if DEBUG:
            for i in range(HPAGE_PMD_NR):
                shadow_own(m, mm, head + i, (addr & -PMD_SIZE) + i * PAGE)
        set_bits(m, pmd, RW | ACCESSED | DIRTY | ANON_EXCLUSIVE)
    pmd_unlock(m, cpu, pmd)
    return done


@kernel
def do_huge_pmd_wp_page(m, cpu, mm, row, pmd, addr):
    """Write fault on a leaf that does not allow stores: 0, or FALLBACK with the leaf split. Locking: as above."""
    took(m, cpu, HUGE_WRITE)
    entry = read_once(m.entry, pmd)
    if entry >> PAGE_SHIFT == HUGE_ZERO_PAGE and huge_zero_wp(m, cpu, mm, row, pmd, addr) == 0:
        return 0
    if huge_reuse(m, cpu, mm, row, pmd, addr):
        return 0
    split_huge_pmd(m, cpu, mm, pmd, addr)
    return FALLBACK


@kernel
def huge_page_fits(m, row, pmd, addr):
    """True if a fault at `addr`, where nothing is, takes a huge page in the VMA at `row`. Locking: as the fault."""
    return read_once(m.entry, pmd) == 0 and m.vma.flags[row] & VM_HUGEPAGE and transhuge_vma_suitable(m, row, addr)


@kernel
def pte_alloc_or_huge(m, cpu, mm, row, pmd, addr, write):
    """As pte_alloc_try_get, when there was no table or it was dying; 0 if a huge page has resolved the fault.

    Locking: caller must hold mmap_lock. Source: __handle_mm_fault; the three answers are those of v1.
    """
    mmap_assert_locked(m, cpu, mm)
    entry = read_once(m.entry, pmd)
    result = FALLBACK
    if pmd_trans_huge(entry):
        result = do_huge_pmd_wp_page(m, cpu, mm, row, pmd, addr) if write and entry & RW == 0 else 0
    elif huge_page_fits(m, row, pmd, addr):
        result = do_huge_pmd_anonymous_page(m, cpu, mm, row, pmd, addr, write)
    if result <= 0:
        return result
    return pte_alloc_try_get_slow(m, cpu, mm, pmd)


@kernel
def split_huge_pmd_locked(m, cpu, mm, pmd, addr):
    """split_huge_pmd of a leaf. Locking: caller must hold pmd_lock."""
    assert_ptl_held(m, cpu, table_of(pmd))
    if read_once(m.entry, pmd) & FILE:
        split_file_leaf(m, cpu, mm, pmd, addr)
        return
    entry = clear_bits(m, pmd, PRESENT)  # pmdp_invalidate
    start = addr & -PMD_SIZE
    flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 0)
    table = pgtable_trans_huge_withdraw(m, cpu, pmd)
    took(m, cpu, SPLIT)
    for i in range(HPAGE_PMD_NR):
        write_once(m.entry, entry_at(table, i), huge_piece(entry, i << PAGE_SHIFT))
    pte_table_init(m, table, 0, HPAGE_PMD_NR, huge_piece(entry, 0))
    populate(m, mm, pmd, table)
    mark_life(m, cpu, m.life.installed, table)


@kernel
def split_huge_pmd(m, cpu, mm, pmd, addr):
    """If a leaf stands at `pmd`, other than of hugetlbfs, let the table that was deposited for it map the same pages.

    One of a file has none, and is taken away.

    Locking: takes and releases pmd_lock, and flushes under it; caller must hold mmap_lock or that of an rmap walk.
    Source: __split_huge_pmd.
    """
    entry = read_once(m.entry, pmd)
    if not pmd_trans_huge(entry) or is_hugetlb(entry):
        return
    pmd_lock(m, cpu, pmd)
    if pmd_trans_huge(read_once(m.entry, pmd)):
        split_huge_pmd_locked(m, cpu, mm, pmd, addr)
    pmd_unlock(m, cpu, pmd)
    point(m, cpu, HUGE_SPLIT, 0, pmd)


@kernel
def vma_adjust_trans_huge(m, cpu, mm, start, end):
    """VMAs are about to begin at `start` and at `end`: no leaf may reach across either.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    pmd = pmd_lookup(m, mm, start)
    if start & (PMD_SIZE - 1) and pmd != 0:
        split_huge_pmd(m, cpu, mm, pmd, start)
    pmd = pmd_lookup(m, mm, end)
    if end & (PMD_SIZE - 1) and pmd != 0:
        split_huge_pmd(m, cpu, mm, pmd, end)


@kernel
def pte_alloc_split(m, cpu, mm, pmd, addr):
    """Pin the table at `pmd`, as pte_alloc_try_get; a leaf is split, as often as faults bring one back.

    Locking: as pte_alloc_try_get.
    """
    while True:
        table = pte_alloc_try_get(m, cpu, mm, pmd)
        if table != 0:
            return table
        split_huge_pmd(m, cpu, mm, pmd, addr)


@kernel
def zap_huge_pmd(m, cpu, mm, pmd, addr):
    """If a leaf stands at `pmd`, clear it, gather its pages, and free the table that was deposited.

    No walker can know that table: collapse waited for those that had found it. Locking: takes and releases pmd_lock;
    caller must hold an open gather and mmap_lock, or that of the file. Source: zap_huge_pmd, zap_deposited_table.
    """
    assert_gather_open(m, cpu)
    table = 0
    entry = 0
    pmd_lock(m, cpu, pmd)
    if pmd_trans_huge(read_once(m.entry, pmd)):
        entry = xchg(m.entry, pmd, 0)
        tlb_adjust_range(m, cpu, addr & -PMD_SIZE, PMD_SIZE)
        if entry & FILE == 0:
            table = pgtable_trans_huge_withdraw(m, cpu, pmd)
    pmd_unlock(m, cpu, pmd)
    if entry == 0:
        return
    took(m, cpu, HUGE_ZAP)
    m.cpu.zapped[cpu] += 1
    head = entry >> PAGE_SHIFT
    if entry & FILE:
        forget_file_leaf(m, mm, pmd, head)
    else:
        mmap_assert_locked(m, cpu, mm)
        mm_dec_nr_tables(m, mm)
        note_pmd_cleared(m, mm, pmd)
        m.cpu.tables_freed[cpu] += 1
        if pte_table_goes(m, cpu, pmd, table) == GOES_NOW:
            free_table(m, cpu, table)
        else:
            smp_store_release(m.ptdesc.state, table, TABLE_UNHOOKED)
        if head != HUGE_ZERO_PAGE:
            add_mapcounts(m, head, -1)
            add_mm_rss(m, cpu, mm, -HPAGE_PMD_NR)
    if head != HUGE_ZERO_PAGE and tlb_remove_huge_page(m, cpu, head):
        tlb_flush_mmu(m, cpu)


@kernel
def mark_touched(m, entry):
    """The look at an entry is for a store to come: FOLL_TOUCH. MADV_FREE before that says nothing any more.

    Locking: caller must hold the lock of the entry.
    """
    if read_once(m.entry, entry) & DIRTY == 0:
        set_bits(m, entry, ACCESSED | DIRTY)


@kernel
def follow_trans_huge_pmd(m, cpu, pmd, addr, write, get):
    """As follow_page_pte where a leaf stood; 0 as well if it is gone. Locking: takes and releases pmd_lock."""
    found = 0
    pmd_lock(m, cpu, pmd)
    entry = read_once(m.entry, pmd)
    if pmd_trans_huge(entry) and entry & PRESENT and (not write or entry & RW):
        took(m, cpu, FOLLOW_HUGE)
        if write:
            mark_touched(m, pmd)
        found = huge_piece(entry, addr)
        if get and found >> PAGE_SHIFT != HUGE_ZERO_PAGE:
            atomic_add(m.page.refcount, found >> PAGE_SHIFT, 1)
    pmd_unlock(m, cpu, pmd)
    return found
