"""What a CPU caches of the page tables: the TLB and the paging-structure cache.

The TLB holds PTEs, the paging-structure cache PMD entries (the PTE table an address leads to). They are two things: a
flush of a range that freed no table leaves the second alone. Both are per CPU and nobody else touches them.
"""

from emulator.atomic import (
    DEBUG,
    kernel,
    kernel_inline,
    memset,
)
from emulator.mm_types import EPOCH_BITS, EPOCH_MAX, PSC_ENTRIES, TLB_ENTRIES
from emulator.pgtable import pgtable_of
from emulator.pgtable_types import PAGE_SHIFT, PMD_SHIFT


@kernel_inline
def tlb_lookup(m, cpu, addr):
    """The cached PTE for `addr`, or 0."""
    page = addr >> PAGE_SHIFT
    slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
    if m.tlb.tag[slot] == (page << EPOCH_BITS | m.cpu.tlb_epoch[cpu]):
        return m.tlb.entry[slot]
    return 0


@kernel_inline
def tlb_fill(m, cpu, addr, entry):
    """Cache the PTE `entry` for `addr`."""
    page = addr >> PAGE_SHIFT
    slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
    m.tlb.tag[slot] = page << EPOCH_BITS | m.cpu.tlb_epoch[cpu]
    m.tlb.entry[slot] = entry
    if DEBUG:
        m.tlb_generation[slot] = m.page.generation[pgtable_of(entry)]


@kernel_inline
def psc_lookup(m, cpu, addr):
    """The cached PTE table for `addr`, or 0."""
    region = addr >> PMD_SHIFT
    slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
    if m.psc.tag[slot] == (region << EPOCH_BITS | m.cpu.psc_epoch[cpu]):
        return m.psc.table[slot]
    return 0


@kernel_inline
def psc_fill(m, cpu, addr, table):
    """Cache that `addr` leads to the PTE table `table`."""
    region = addr >> PMD_SHIFT
    slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
    m.psc.tag[slot] = region << EPOCH_BITS | m.cpu.psc_epoch[cpu]
    m.psc.table[slot] = table
    if DEBUG:
        m.psc_generation[slot] = m.ptdesc.generation[table]


@kernel_inline
def forget(m, cpu, addr):
    """Drop what is cached for `addr`: a page fault does that (Intel SDM 4.10.4.1)."""
    m.tlb.tag[cpu * TLB_ENTRIES + (addr >> PAGE_SHIFT & (TLB_ENTRIES - 1))] = 0
    m.psc.tag[cpu * PSC_ENTRIES + (addr >> PMD_SHIFT & (PSC_ENTRIES - 1))] = 0


@kernel
def tlb_flush_all(m, cpu):
    """Empty this CPU's TLB and paging-structure cache."""
    m.cpu.flushes_full[cpu] += 1
    if m.cpu.tlb_epoch[cpu] == EPOCH_MAX or m.cpu.psc_epoch[cpu] == EPOCH_MAX:
        memset(m.tlb.tag, cpu * TLB_ENTRIES, TLB_ENTRIES, 0)  # epochs are about to repeat: no old tag may stay
        memset(m.psc.tag, cpu * PSC_ENTRIES, PSC_ENTRIES, 0)
        m.cpu.tlb_epoch[cpu] = 0
        m.cpu.psc_epoch[cpu] = 0
    m.cpu.tlb_epoch[cpu] += 1
    m.cpu.psc_epoch[cpu] += 1


@kernel
def flush_tlb_func(m, cpu, start, end, freed_tables, gen):
    """Carry out one flush on this CPU: page by page if it is the next one and short, else everything.

    If tables were freed the paging-structure cache forgets the range, no more: what the weakest hardware does.
    Source: flush_tlb_func, arch/x86/mm/tlb.c.
    """
    if end - start > m.config.flush_ceiling[0] << PAGE_SHIFT or m.cpu.tlb_gen[cpu] + 1 != gen:
        tlb_flush_all(m, cpu)
        m.cpu.tlb_gen[cpu] = max(m.cpu.tlb_gen[cpu], gen)
        return
    addr = start
    while addr < end:
        page = addr >> PAGE_SHIFT
        slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
        if m.tlb.tag[slot] >> EPOCH_BITS == page:
            m.tlb.tag[slot] = 0
        addr += 4096
    if freed_tables:
        for region in range(start >> PMD_SHIFT, ((end - 1) >> PMD_SHIFT) + 1):
            slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
            if m.psc.tag[slot] >> EPOCH_BITS == region:
                m.psc.tag[slot] = 0
    m.cpu.tlb_gen[cpu] = gen
