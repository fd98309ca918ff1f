"""Page-table entries: x86-64 bits, the walk's index arithmetic, allocation of the tables above the PTE level.

A kernel pointer (`pgd_t *` ... `pte_t *`) is an index into `m.entry`; its table is `table_of`. An entry that names a
table or a frame holds its number << 12. An entry is none (0), present to the kernel, or something else that counts: a
swap entry, a migration entry, a marker. Present is PRESENT, or PROTNONE where the hardware must fault.
"""

from emulator.atomic import (
    DEBUG,
    LOCKS_MM,
    atomic_add,
    cmpxchg,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_store_release,
    write_once,
)
from emulator.pgtable_types import (
    ACCESSED,
    ANON_EXCLUSIVE,
    FILE,
    HUGETLB,
    MIGRATION_ENTRY,
    MIGRATION_NONE,
    MIGRATION_WRITE,
    PAGE,
    PAGE_SHIFT,
    PGD_LEVEL,
    PGDIR_SHIFT,
    PGDIR_SIZE,
    PMD_SHIFT,
    PMD_SIZE,
    PRESENT,
    PROTNONE,
    PSE,
    PTRS_PER_PTE,
    PTRS_SHIFT,
    PUD_SHIFT,
    PUD_SIZE,
    RW,
    SOFT_DIRTY,
    SPECIAL,
    SWAP_ENTRY,
    TABLE_FLAGS,
    TABLE_INSTALLED,
    TASK_SIZE,
    UFFD_WP,
    USER,
    USER_PGTABLES_CEILING,
    ZERO_PAGE,
)


@kernel_inline
def pgtable_of(entry):
    """The table (or frame) an entry names."""
    return entry >> PAGE_SHIFT


@kernel_inline
def table_of(entry):
    """The table that a kernel pointer points into."""
    return entry >> PTRS_SHIFT


@kernel_inline
def entry_at(table, i):
    """The kernel pointer to entry `i` of a table."""
    return table << PTRS_SHIFT | i


@kernel_inline
def pte_index(addr):
    """Which entry of its PTE table maps `addr`."""
    return addr >> PAGE_SHIFT & (PTRS_PER_PTE - 1)


@kernel_inline
def pmd_index(addr):
    """Which entry of its PMD table leads to `addr`."""
    return addr >> PMD_SHIFT & (PTRS_PER_PTE - 1)


@kernel_inline
def pud_index(addr):
    """Which entry of its PUD table leads to `addr`."""
    return addr >> PUD_SHIFT & (PTRS_PER_PTE - 1)


@kernel_inline
def pgd_index(addr):
    """Which entry of the top-level table leads to `addr`."""
    return addr >> PGDIR_SHIFT & (PTRS_PER_PTE - 1)


@kernel_inline
def pmd_trans_huge(entry):
    """True if a pmd is a leaf, whether or not the hardware may use it."""
    return entry & PSE != 0


@kernel_inline
def is_hugetlb(entry):
    """True if a pmd is a leaf that maps a page of hugetlbfs: no table is deposited under it, and nothing splits it."""
    return entry & (PSE | HUGETLB) == PSE | HUGETLB


@kernel_inline
def pmd_pgtable(entry):
    """The PTE table that a pmd names, or 0 if it is none or a leaf."""
    return pgtable_of(entry) if entry & (PRESENT | PSE) == PRESENT else 0


@kernel_inline
def huge_piece(entry, addr):
    """The PTE that maps what a leaf maps at `addr`; frame 0 stands for the huge zero page."""
    piece = entry & ~(PSE | HUGETLB)
    return piece + (addr & (PMD_SIZE - PAGE)) if entry >> PAGE_SHIFT != 0 else piece


@kernel_inline
def pte_present(entry):
    """True if an entry maps a frame, whether or not the hardware may use it."""
    return entry & (PRESENT | PROTNONE) != 0


@kernel_inline
def is_zero_pfn(entry):
    """True if an entry maps the zero page."""
    return pte_present(entry) and entry >> PAGE_SHIFT == ZERO_PAGE and entry & (FILE | SPECIAL) == 0


@kernel_inline
def is_swap_entry(entry):
    """True if the page of an entry is in swap."""
    return entry & (PAGE - 1) & ~UFFD_WP == SWAP_ENTRY


@kernel_inline
def is_migration_entry(entry):
    """True if the page of an entry is being migrated."""
    return entry & (PRESENT | PROTNONE | MIGRATION_ENTRY | SWAP_ENTRY) == MIGRATION_ENTRY


@kernel
def to_migration_entry(entry):
    """The migration entry that takes the place of a PTE; what that allowed is kept."""
    kept = entry & (-PAGE | ANON_EXCLUSIVE | SOFT_DIRTY | UFFD_WP | FILE) | MIGRATION_ENTRY
    return kept | (MIGRATION_WRITE if entry & RW else 0) | (MIGRATION_NONE if entry & PROTNONE else 0)


@kernel
def from_migration_entry(entry, frame):
    """The PTE that a migration entry becomes when the page is in `frame`."""
    kept = frame << PAGE_SHIFT | entry & (ANON_EXCLUSIVE | SOFT_DIRTY | UFFD_WP | FILE) | USER | ACCESSED
    return kept | (RW if entry & MIGRATION_WRITE else 0) | (PROTNONE if entry & MIGRATION_NONE else PRESENT)


@kernel_inline
def pgd_offset(m, mm, addr):
    """The top-level entry for `addr`."""
    return entry_at(m.mm.pgd[mm], pgd_index(addr))


@kernel_inline
def pud_offset(m, pgd, addr):
    """The PUD entry for `addr` in the table `pgd` names."""
    return entry_at(pgtable_of(read_once(m.entry, pgd)), pud_index(addr))


@kernel_inline
def pmd_offset(m, pud, addr):
    """The PMD entry for `addr` in the table `pud` names."""
    return entry_at(pgtable_of(read_once(m.entry, pud)), pmd_index(addr))


@kernel_inline
def pud_lookup(m, mm, addr):
    """The PUD entry for `addr` if the table above it is there, else 0. Locking: caller must hold mmap_lock."""
    pgd = pgd_offset(m, mm, addr)
    if read_once(m.entry, pgd) == 0:
        return 0
    return pud_offset(m, pgd, addr)


@kernel
def pmd_lookup(m, mm, addr):
    """The PMD entry for `addr` if the tables above it are there, else 0. Locking: caller must hold mmap_lock."""
    pud = pud_lookup(m, mm, addr)
    if pud == 0 or read_once(m.entry, pud) == 0:
        return 0
    return pmd_offset(m, pud, addr)


@kernel_inline
def pmd_offset_lockless(m, mm, addr):
    """The PMD entry for `addr`, or 0, without a lock: each entry is read once, a second look may differ."""
    entry = read_once(m.entry, pgd_offset(m, mm, addr))
    if entry & PRESENT == 0:
        return 0
    entry = read_once(m.entry, entry_at(pgtable_of(entry), pud_index(addr)))
    if entry & PRESENT == 0:
        return 0
    return entry_at(pgtable_of(entry), pmd_index(addr))


@kernel_inline
def pte_offset(table, addr):
    """The PTE for `addr` in the PTE table `table`."""
    return entry_at(table, pte_index(addr))


@kernel_inline
def set_bits(m, entry, bits):
    """Set bits of an entry, whatever bits the hardware of other CPUs sets at the same time; the entry as it was.

    Locking: caller must hold the lock of the entry.
    """
    seen = read_once(m.entry, entry)
    while cmpxchg(m.entry, entry, seen, seen | bits) != seen:
        seen = read_once(m.entry, entry)
    return seen


@kernel_inline
def clear_bits(m, entry, bits):
    """Clear bits of an entry, as set_bits sets them; the entry as it was. Locking: as set_bits."""
    seen = read_once(m.entry, entry)
    while cmpxchg(m.entry, entry, seen, seen & ~bits) != seen:
        seen = read_once(m.entry, entry)
    return seen


@kernel_inline
def pmd_addr_end(addr, end):
    """The end of this 2 MiB, or `end` if that comes first."""
    return min((addr + PMD_SIZE) & -PMD_SIZE, end)


@kernel_inline
def pud_addr_end(addr, end):
    """The end of this GiB, or `end` if that comes first."""
    return min((addr + PUD_SIZE) & -PUD_SIZE, end)


@kernel_inline
def pgd_addr_end(addr, end):
    """The end of these 512 GiB, or `end` if that comes first."""
    return min((addr + PGDIR_SIZE) & -PGDIR_SIZE, end)


@kernel
def note_lock(m, mm, entry, table):
    """A table is about to hang at `entry`: where an mm has one lock, it has that of the table above it.

    Of a PMD table that mms have shared that is the installer's, to the end. Locking: caller must hold the entry's lock.
    """
    above = table_of(entry)
    m.ptnote.lock_mm[table] = mm + 1 if m.ptdesc.level[above] == PGD_LEVEL else m.ptnote.lock_mm[above]


@kernel
def populate(m, mm, entry, table):
    """Publish `table` at `entry`; what it holds becomes visible first. Locking: caller must hold the entry's lock."""
    m.ptdesc.pmd[table] = entry
    m.ptdesc.mm[table] = mm + 1
    if (DEBUG or LOCKS_MM) and m.ptdesc.state[table] != TABLE_INSTALLED:  # else mremap moves it: move_table
        note_lock(m, mm, entry, table)
    m.ptdesc.state[table] = TABLE_INSTALLED
    if knob(m.config.no_publish_wmb):
        write_once(m.entry, entry, table << PAGE_SHIFT | TABLE_FLAGS)
    else:
        smp_store_release(m.entry, entry, table << PAGE_SHIFT | TABLE_FLAGS)  # the smp_wmb of patch 3


@kernel
def mm_inc_nr_tables(m, mm):
    """Account one PTE, PMD or PUD table: mm_inc_nr_ptes, mm_inc_nr_pmds, mm_inc_nr_puds."""
    atomic_add(m.mm.pgtables_bytes, mm, PAGE)


@kernel
def mm_dec_nr_tables(m, mm):
    """Take one table out of the account."""
    atomic_add(m.mm.pgtables_bytes, mm, -PAGE)


@kernel
def access_ok(addr, length):
    """True if the range begins in user space. What reaches beyond it faults there: no VMA does."""
    return 0 <= addr <= TASK_SIZE and 0 <= length <= USER_PGTABLES_CEILING


@kernel
def range_end(start, length):
    """The end of [start, start + length) in whole pages, of a length that Linux takes for unsigned: -1 if it wraps."""
    whole = (length + PAGE - 1) & -PAGE
    if whole >= 0:
        return -1 if length < 0 else start + whole
    return -1 if start + whole >= 0 else USER_PGTABLES_CEILING


@kernel_inline
def ptl_of(m, table):
    """Which lock is the ptl of a table: its own, or, without split locks, the one of its mm (page_table_lock)."""
    if (DEBUG or LOCKS_MM) and m.config.one_ptl[0] and m.ptdesc.level[table] != PGD_LEVEL:
        return m.mm.pgd[m.ptnote.lock_mm[table] - 1]
    return table


@kernel
def address_of(m, pmd):
    """The first address that the pmd maps: told by its place, and those of the tables above. Locking: none may move."""
    pud = m.ptdesc.pmd[table_of(pmd)]
    pgd = m.ptdesc.pmd[table_of(pud)]
    i = PTRS_PER_PTE - 1
    return (pgd & i) << PGDIR_SHIFT | (pud & i) << PUD_SHIFT | (pmd & i) << PMD_SHIFT


@kernel_inline
def same_ptl(m, entry, table):
    """True if pmd_lock of `entry` is the ptl of the table as well."""
    return ptl_of(m, table_of(entry)) == ptl_of(m, table)
