"""mmu_gather: collect what was unmapped, flush once, and only then give the memory back.

    zap                               another CPU, same mm
    ===                               ===================
    clear the PTE                     (may still use it: TLB)
    tlb_remove_page(frame)
    unhook the pmd                    (may still walk it: paging-structure cache)
    tlb_remove_table(table)
    tlb_finish_mmu()
      flush all CPUs of the mm        forgets both
      call_rcu(tables)                a lockless pte_try_get may still look at the count
      free the frames                 cannot reach them any more

Freeing before the flush hands memory to others that this mm can still write. Freeing a table before the grace period
lets pte_try_get count up another owner's page. mm.tlb_flush_pending counts open gathers: a CPU that finds entries
already cleared by another, whose flush is still to come, must flush as well (99baac21e458).
"""

from emulator.atomic import DEBUG, atomic_add, kernel, kernel_inline, knob, read_once
from emulator.cpu.flush import flush_tlb_mm_range
from emulator.cpu.interrupts import point
from emulator.mm_types import GATHER_BLOCKS, GATHER_PAGES, GATHER_TABLES
from emulator.pages.huge_page import put_huge_page
from emulator.pages.page_alloc import free_table, put_page
from emulator.pages.swap_state import try_to_free_swap
from emulator.pgtable_types import FILE, PAGE, TASK_SIZE
from emulator.tables.rcu import call_rcu, synchronize_rcu
from emulator.watch.pass_point import mark_life
from emulator.watch.points import point_number

UNFLUSHED = point_number("gather.unflushed")
FLUSHED = point_number("gather.flushed")
ZAP_DROP_MARKERS = 1  # details of a zap: markers go as well, as where the VMA goes
ZAP_KEEP_COWS = FILE  # private copies stay (not details->even_cows): this bit is what an entry must have to go
ZAP_RECLAIM = 2  # it may free a table that it empties (details->reclaim_pt)


@kernel_inline
def tlb_reset_range(m, cpu):
    """Forget the range: nothing is left to flush."""
    m.cpu.gather_start[cpu] = TASK_SIZE
    m.cpu.gather_end[cpu] = 0
    m.cpu.gather_freed[cpu] = 0


@kernel_inline
def tlb_gather_mmu(m, cpu, mm, fullmm):
    """Open this CPU's gather on `mm`. Locking: caller must hold mmap_lock or i_mmap_lock."""
    m.cpu.gather_mm[cpu] = mm + 1
    m.cpu.gather_full[cpu] = fullmm
    tlb_reset_range(m, cpu)
    atomic_add(m.mm.tlb_flush_pending, mm, 1)
    if DEBUG:
        m.own_zaps[cpu * m.config.n_mm[0] + mm] += 1
        atomic_add(m.mm.zaps, mm, 1)


@kernel_inline
def tlb_adjust_range(m, cpu, addr, size):
    """Extend the range to flush."""
    m.cpu.gather_start[cpu] = min(m.cpu.gather_start[cpu], addr)
    m.cpu.gather_end[cpu] = max(m.cpu.gather_end[cpu], addr + size)


@kernel_inline
def tlb_remove_tlb_entry(m, cpu, addr):
    """Note that the PTE for `addr` was cleared."""
    tlb_adjust_range(m, cpu, addr, PAGE)


@kernel_inline
def tlb_remove_page(m, cpu, frame):
    """Free `frame` after the flush. True if the batch is full: drop the locks and call tlb_flush_mmu."""
    count = m.cpu.gather_pages[cpu]
    m.gather_page[cpu * GATHER_PAGES + count] = frame
    m.cpu.gather_pages[cpu] = count + 1
    return count + 1 == GATHER_PAGES


@kernel
def tlb_remove_huge_page(m, cpu, head):
    """Free the frames of a huge page after the flush. True if there is no room for another: call tlb_flush_mmu."""
    count = m.cpu.gather_blocks[cpu]
    m.gather_block[cpu * GATHER_BLOCKS + count] = head
    m.cpu.gather_blocks[cpu] = count + 1
    return count + 1 == GATHER_BLOCKS


@kernel_inline
def tlb_flush_mmu_tlbonly(m, cpu):
    """Flush what was gathered, on every CPU that has the mm loaded."""
    if m.cpu.gather_end[cpu] == 0:
        return
    mm = m.cpu.gather_mm[cpu] - 1
    freed = m.cpu.gather_freed[cpu]
    if m.cpu.gather_full[cpu]:
        flush_tlb_mm_range(m, cpu, mm, 0, TASK_SIZE, 1)
    elif freed == 0 or not knob(m.config.no_flush):
        flush_tlb_mm_range(m, cpu, mm, m.cpu.gather_start[cpu], m.cpu.gather_end[cpu], freed)
    tlb_reset_range(m, cpu)


@kernel
def tlb_remove_table_free(m, cpu, table):
    """Free one flushed table: after a grace period, or at once where the policy defers nothing."""
    mark_life(m, cpu, m.life.flushed, table)
    if knob(m.config.ipi_for_grace_period):
        flush_tlb_mm_range(m, cpu, m.ptdesc.mm[table] - 1, 0, PAGE, 0)
        free_table(m, cpu, table)
    elif m.config.table_free_rcu[0] and not knob(m.config.no_grace_period):
        call_rcu(m, cpu, table)
    else:
        free_table(m, cpu, table)


@kernel_inline
def tlb_table_flush(m, cpu):
    """Flush, then free the gathered tables."""
    tlb_flush_mmu_tlbonly(m, cpu)
    if m.cpu.gather_tables[cpu] != 0:
        point(m, cpu, FLUSHED, m.gather_table[cpu * GATHER_TABLES], m.cpu.gather_tables[cpu])
    first = cpu * GATHER_TABLES
    for i in range(m.cpu.gather_tables[cpu]):
        tlb_remove_table_free(m, cpu, m.gather_table[first + i])
    m.cpu.gather_tables[cpu] = 0


@kernel
def tlb_remove_table(m, cpu, table):
    """Free `table` after the flush and, if the policy says so, a grace period.

    Without a batch it goes alone, flushed first (d86564a2f085), by its own callback. Where a table has no room for one,
    a grace period is waited for here (1fb3d8c20bfa).
    Source: patch 7; tlb_remove_table, mm/mmu_gather.c.
    """
    if DEBUG and m.config.no_gather_batch[0]:
        if not knob(m.config.one_table_unflushed):
            tlb_flush_mmu_tlbonly(m, cpu)
        if m.config.table_free_sync[0]:
            synchronize_rcu(m, cpu)
            mark_life(m, cpu, m.life.flushed, table)
            free_table(m, cpu, table)
        else:
            tlb_remove_table_free(m, cpu, table)
        return
    count = m.cpu.gather_tables[cpu]
    m.gather_table[cpu * GATHER_TABLES + count] = table
    m.cpu.gather_tables[cpu] = count + 1
    if count + 1 == GATHER_TABLES:
        tlb_table_flush(m, cpu)


@kernel_inline
def tlb_note_table(m, cpu, addr):
    """Note that a page-table page was unhooked that mapped `addr`."""
    tlb_adjust_range(m, cpu, addr & -PAGE, PAGE)
    m.cpu.gather_freed[cpu] = 1


@kernel
def pte_free_tlb(m, cpu, table, addr):
    """Free a page-table page that was unhooked; `addr` lies in the range it mapped.

    Source: pte_free_tlb, pmd_free_tlb and pud_free_tlb, asm-generic/tlb.h.
    """
    tlb_note_table(m, cpu, addr)
    if knob(m.config.early_ptlock_free):
        m.ptnote.ptl_dead[table] = 1
    tlb_remove_table(m, cpu, table)


@kernel
def tlb_flush_mmu(m, cpu):
    """Flush what was gathered so far and free it."""
    tlb_flush_mmu_tlbonly(m, cpu)
    tlb_table_flush(m, cpu)
    first = cpu * GATHER_PAGES
    if m.config.n_swap[0] != 0:  # free_pages_and_swap_cache
        for i in range(m.cpu.gather_pages[cpu]):
            try_to_free_swap(m, cpu, m.gather_page[first + i])
    for i in range(m.cpu.gather_pages[cpu]):
        put_page(m, cpu, m.gather_page[first + i])
    m.cpu.gather_pages[cpu] = 0
    for i in range(m.cpu.gather_blocks[cpu]):
        put_huge_page(m, cpu, m.gather_block[cpu * GATHER_BLOCKS + i])
    m.cpu.gather_blocks[cpu] = 0


@kernel
def tlb_finish_mmu(m, cpu):
    """Close this CPU's gather: flush and free everything. Locking: caller must hold mmap_lock."""
    mm = m.cpu.gather_mm[cpu] - 1
    point(m, cpu, UNFLUSHED, mm, m.cpu.gather_tables[cpu])
    nested = read_once(m.mm.tlb_flush_pending, mm) > 1  # others cleared entries we found empty
    if nested and knob(m.config.nested_reset):
        m.cpu.gather_freed[cpu] = 0
    elif nested and not knob(m.config.no_nested_flush):
        m.cpu.gather_full[cpu] = 1
        m.cpu.gather_end[cpu] = TASK_SIZE
    tlb_flush_mmu(m, cpu)
    atomic_add(m.mm.tlb_flush_pending, mm, -1)
    m.cpu.gather_mm[cpu] = 0
