"""Bits of page-table entries, sizes of the levels, states of a table; no kernel lives here."""

PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT, PGDIR_SHIFT = 12, 21, 30, 39
PAGE, PMD_SIZE, PUD_SIZE, PGDIR_SIZE = 1 << PAGE_SHIFT, 1 << PMD_SHIFT, 1 << PUD_SHIFT, 1 << PGDIR_SHIFT
USER_PGTABLES_CEILING = 1 << 47  # what the lower half of the top-level table maps
TASK_SIZE = USER_PGTABLES_CEILING - PAGE  # the last page is never user space: TASK_SIZE_MAX of x86-64
PTRS_SHIFT = 9
PTRS_PER_PTE = 1 << PTRS_SHIFT  # and of every other table
HPAGE_PMD_ORDER = 9
HPAGE_PMD_NR = 1 << HPAGE_PMD_ORDER  # frames of a huge page
PTE_LEVEL, PMD_LEVEL, PUD_LEVEL, PGD_LEVEL = 1, 2, 3, 4

# bits of an entry
PRESENT, RW, USER, ACCESSED, DIRTY = 0x1, 0x2, 0x4, 0x20, 0x40
SOFT_DIRTY = 0x8  # stored to since CLEAR_REFS write-protected it: the write fault sets it. Linux has bit 58 for this
UFFD_WP = 0x10  # write-protected by userfaultfd: a store is for it, if its VMA says so still
PSE = 0x80  # in a pmd: a leaf, which maps 512 frames; the bit stays while the leaf is not present
PROTNONE = 0x100  # in place of PRESENT under PROT_NONE: the frame is mapped, no access is allowed
SPECIAL = 0x200  # a device's frame: not counted, not freed by zap
HUGETLB = 0x200  # the same bit of a leaf: a page of hugetlbfs, which nothing splits
ANON_EXCLUSIVE = 0x400  # PageAnonExclusive, kept in the one entry of such a frame: nobody shares it, it may be written
FILE = 0x800  # a page of a file: shared with the page cache. Linux asks the page; a bit costs anonymous faults nothing
PTE_MARKER = 0x800  # the same bit, with neither PRESENT nor PROTNONE: no frame
PTE_MARKER_GUARD = 4 << PAGE_SHIFT | PTE_MARKER  # MADV_GUARD_INSTALL: an access is a fault for good
PTE_MARKER_UFFD_WP = 1 << PAGE_SHIFT | PTE_MARKER  # nothing is there, and a page that comes is UFFD_WP
SWAP_ENTRY = 0x2  # the low 12 bits, but for UFFD_WP, of an entry whose page is in swap: row of `cache` << 12
MIGRATION_ENTRY = 0x4  # the page in this frame is on its way to another; ANON_EXCLUSIVE, UFFD_WP, ... are kept
MIGRATION_NONE, MIGRATION_WRITE = 0x40, 0x20  # of a migration entry: the PTE had PROTNONE; it had RW
ANON_PTE = PRESENT | RW | USER | ACCESSED | DIRTY | SOFT_DIRTY | ANON_EXCLUSIVE  # of a frame mapped for a store
TABLE_FLAGS = PRESENT | RW | USER | ACCESSED | DIRTY  # _PAGE_TABLE

POISON = 0x6B6B6B6B6B6B6A6A  # entries of a freed table: not present, not none
POISON_COUNT = 0x6B6B6B6B  # what a freed table's count reads: another use of the word, like v1's page->index

# ptdesc.state. INSTALLED is written before publication, UNHOOKED after the pmd was cleared, LIMBO by call_rcu;
# DEPOSITED under pmd_lock: the table is kept for the split of the leaf that stands at its pmd.
TABLE_FREE, TABLE_ALLOCATED, TABLE_INSTALLED, TABLE_UNHOOKED, TABLE_LIMBO, TABLE_DEPOSITED = 0, 1, 2, 3, 4, 5
TABLE_STATES = ("free", "allocated", "installed", "unhooked", "in limbo", "deposited")

ZERO_PAGE = 0  # frame 0: never written, never counted
ZERO_PTE = ZERO_PAGE << PAGE_SHIFT | PRESENT | USER | ACCESSED
SOME_PTE = 1 << PAGE_SHIFT | PRESENT  # stands for many entries none of which is none or maps the zero page
