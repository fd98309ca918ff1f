"""VMAs: each mm has an array of them, sorted by address.

Neighbours with equal flags are one VMA, unless both were written to before they met (different anon_vma) or one was
moved there (pgoff). That border stays, as in Linux.

A CPU that changes an array holds mmap_lock for writing and the anon_vma lock of the mm's family. A search for an
anonymous page comes through the arrays with that lock alone.
"""

from emulator.atomic import atomic_add_return, cmpxchg, kernel, kernel_inline, read_once, write_once
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.locking.mutex import anon_vma_lock, anon_vma_row, anon_vma_unlock
from emulator.locking.vma_lock import vma_start_read
from emulator.mm_types import ANON_VMA_INHERITED, MAX_MAP_COUNT, PAGE_SIZE
from emulator.pgtable_types import ANON_EXCLUSIVE, DIRTY, PMD_SIZE, PRESENT, PROTNONE, RW, SOFT_DIRTY, SPECIAL
from emulator.uapi import ENOMEM, VM_ACCESS_FLAGS, VM_HUGETLB, VM_PFNMAP, VM_SHARED, VM_WRITE
from emulator.watch.lockdep import lockdep_assert_held, mmap_assert_write_locked

MMAP_BASE = 0x7000_0000_0000  # below it is what the kernel chooses a place for


@kernel
def find_vma(m, mm, addr):
    """Row of the first VMA that ends above `addr`; the row behind the mm's last if there is none.

    Locking: caller must hold mmap_lock.
    """
    low = mm * m.config.vma_per_mm[0]
    high = low + m.mm.vmas[mm]
    while low < high:
        middle = (low + high) >> 1
        if m.vma.end[middle] > addr:
            high = middle
        else:
            low = middle + 1
    return low


@kernel_inline
def pte_modify(entry, flags):
    """A present entry under the permissions of a VMA with `flags`.

    A frame that fork has shared, and the zero page, stay write-protected: the write fault breaks COW. So does a clean
    page of a file, which the write fault makes dirty, and what CLEAR_REFS has protected.
    """
    entry &= ~(PRESENT | PROTNONE | RW)
    entry |= PRESENT if flags & VM_ACCESS_FLAGS else PROTNONE
    own = entry & ANON_EXCLUSIVE or (flags & VM_SHARED and entry & DIRTY)
    if flags & VM_WRITE and (entry & SPECIAL or (own and entry & SOFT_DIRTY)):
        entry |= RW  # can_change_pte_writable
    return entry


@kernel_inline
def vma_limit(m, mm):
    """The row behind the mm's last VMA."""
    return mm * m.config.vma_per_mm[0] + m.mm.vmas[mm]


@kernel_inline
def vma_lookup(m, mm, addr):
    """Row of the VMA at `addr`, -1 if there is none. Locking: caller must hold mmap_lock."""
    row = find_vma(m, mm, addr)
    return row if row < vma_limit(m, mm) and m.vma.start[row] <= addr else -1


@kernel
def vmas_lock(m, cpu, mm):
    """Keep rmap walkers out of the VMA array of `mm`. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    anon_vma_lock(m, cpu, m.mm.family[mm] - 1)


@kernel
def vmas_unlock(m, cpu, mm):
    """Let rmap walkers in again."""
    anon_vma_unlock(m, cpu, m.mm.family[mm] - 1)


@kernel_inline
def assert_vmas_locked(m, cpu, mm):
    """The caller must hold vmas_lock."""
    lockdep_assert_held(m, cpu, anon_vma_row(m, m.mm.family[mm] - 1))


@kernel
def join_family(m, cpu, child, mm):
    """From here on a search for the pages of the family of `mm` comes to `child` as well, which has no VMA yet."""
    vmas_lock(m, cpu, mm)
    write_once(m.mm.family, child, m.mm.family[mm])
    vmas_unlock(m, cpu, mm)


@kernel
def leave_family(m, cpu, mm):
    """No rmap walker comes to `mm` from here on. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    family = m.mm.family[mm] - 1
    anon_vma_lock(m, cpu, family)
    write_once(m.mm.family, mm, 0)
    anon_vma_unlock(m, cpu, family)


@kernel
def lock_vma(m, cpu, mm, start, end):
    """Read-lock the VMA that [start, end) lies in: its row, or -1 if there is no such, with nothing held.

    Locking: returns a row with the VMA's lock held. Source: lock_vma_under_rcu, mm/mmap_lock.c.
    """
    mmap_read_lock(m, cpu, mm)
    row = find_vma(m, mm, start)
    if row == vma_limit(m, mm) or m.vma.start[row] > start or m.vma.end[row] < end:
        mmap_read_unlock(m, cpu, mm)
        return -1
    vma_start_read(m, cpu, mm, row)
    return row


@kernel
def vma_copy(m, to, source):
    """Copy one row of the VMA array."""
    m.vma.start[to] = m.vma.start[source]
    m.vma.end[to] = m.vma.end[source]
    m.vma.flags[to] = m.vma.flags[source]
    m.vma.anon_vma[to] = m.vma.anon_vma[source]
    m.vma.file[to] = m.vma.file[source]
    m.vma.pgoff[to] = m.vma.pgoff[source]


@kernel
def vma_insert(m, cpu, mm, row, start, end, flags, anon_vma, pgoff):
    """Make room at `row` and fill it, without a file. Locking: caller must hold vmas_lock."""
    assert_vmas_locked(m, cpu, mm)
    at = vma_limit(m, mm)
    while at > row:
        vma_copy(m, at, at - 1)
        at -= 1
    m.vma.start[row] = start
    m.vma.end[row] = end
    m.vma.flags[row] = flags
    m.vma.anon_vma[row] = anon_vma
    m.vma.file[row] = 0
    m.vma.pgoff[row] = pgoff
    m.mm.vmas[mm] += 1


@kernel
def vma_delete(m, cpu, mm, row):
    """Close the gap at `row`. Locking: caller must hold vmas_lock."""
    assert_vmas_locked(m, cpu, mm)
    m.mm.vmas[mm] -= 1
    for at in range(row, vma_limit(m, mm)):
        vma_copy(m, at, at + 1)


@kernel
def split_vma(m, cpu, mm, row, addr):
    """Split the VMA at `row` so that a VMA begins at `addr`. Locking: caller must hold vmas_lock."""
    start = m.vma.start[row]
    vma_insert(m, cpu, mm, row, start, addr, m.vma.flags[row], m.vma.anon_vma[row], m.vma.pgoff[row])
    m.vma.start[row + 1] = addr
    m.vma.file[row] = m.vma.file[row + 1]
    m.vma.pgoff[row + 1] += (addr - start) // PAGE_SIZE


@kernel
def may_split(m, mm, addr):
    """False if a huge page of hugetlbfs would reach across `addr` if a VMA began there.

    Locking: caller must hold mmap_lock. Source: hugetlb_vm_op_split.
    """
    row = vma_lookup(m, mm, addr)
    inside = addr & (PMD_SIZE - 1) != 0 and row >= 0 and m.vma.start[row] < addr
    return not inside or m.vma.flags[row] & VM_HUGETLB == 0


@kernel_inline
def linear_page_index(m, row, addr):
    """The page of its file that the VMA at `row` maps at `addr`."""
    return m.vma.pgoff[row] + (addr - m.vma.start[row]) // PAGE_SIZE


@kernel
def follows(m, left, right):
    """True if the VMA `right` begins where `left` ends, in the same file, or did so before either was moved."""
    if m.vma.end[left] != m.vma.start[right] or m.vma.file[left] != m.vma.file[right]:
        return False
    return linear_page_index(m, left, m.vma.end[left]) == m.vma.pgoff[right]


@kernel
def can_merge(m, left, right):
    """True if two VMAs touch and may be one: equal flags, one file on. Not both may have anon_vmas of their own, nor
    one a parent's (is_mergeable_anon_vma).
    """
    if not follows(m, left, right) or m.vma.flags[left] != m.vma.flags[right] or m.vma.flags[left] & VM_PFNMAP:
        return False
    a, b = m.vma.anon_vma[left], m.vma.anon_vma[right]
    return a == b or ((a == 0 or b == 0) and (a | b) & ANON_VMA_INHERITED == 0)


@kernel
def merge_with_next(m, cpu, mm, row):
    """Merge the VMA at `row` with the one behind it if they may be one; True if so."""
    if row + 1 >= vma_limit(m, mm) or not can_merge(m, row, row + 1):
        return False
    m.vma.end[row] = m.vma.end[row + 1]
    m.vma.anon_vma[row] = max(m.vma.anon_vma[row], m.vma.anon_vma[row + 1])
    vma_delete(m, cpu, mm, row + 1)
    return True


@kernel
def vma_merge(m, cpu, mm, row):
    """Merge the VMA at `row` with its neighbours; its row then.

    The one before it comes first: the one behind may have another anon_vma.
    Locking: caller must hold vmas_lock. Source: vma_merge, mm/vma.c.
    """
    if row > mm * m.config.vma_per_mm[0] and merge_with_next(m, cpu, mm, row - 1):
        row -= 1
    merge_with_next(m, cpu, mm, row)
    return row


@kernel
def vmas_short(m, cpu, mm, more):
    """True if there is no room for `more` VMAs; counted as memory that the machine has not, unless Linux has none."""
    if m.mm.vmas[mm] + more <= m.config.vma_per_mm[0]:
        return False
    if m.config.vma_per_mm[0] < MAX_MAP_COUNT:
        m.cpu.oom[cpu] += 1
    return True


@kernel
def get_unmapped_area(m, mm, length):
    """Where `length` bytes are free, as far up as there are, or 0. Locking: caller must hold mmap_lock."""
    above = MMAP_BASE
    row = vma_limit(m, mm) - 1
    while row >= mm * m.config.vma_per_mm[0] and above - m.vma.end[row] < length:
        above = min(above, m.vma.start[row])
        row -= 1
    return max(above - length, 0)


@kernel
def vma_modify_flags(m, cpu, mm, row, start, end, flags):
    """Give [start, end), which lies in the VMA at `row`, other flags: split it off, merge it. Its row, or -ENOMEM.

    Locking: caller must hold mmap_lock for writing. Source: vma_modify_flags, mm/vma.c.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if vmas_short(m, cpu, mm, 2):
        return -ENOMEM
    vmas_lock(m, cpu, mm)
    if m.vma.start[row] < start:
        split_vma(m, cpu, mm, row, start)
        row += 1
    if m.vma.end[row] > end:
        split_vma(m, cpu, mm, row, end)
    m.vma.flags[row] = flags
    row = vma_merge(m, cpu, mm, row)
    vmas_unlock(m, cpu, mm)
    return row


@kernel
def reusable_anon_vma(m, left, right, of):
    """The anon_vma of the VMA `of`, one of two neighbours, if the other may have it too, else 0."""
    if not follows(m, left, right) or (m.vma.flags[left] ^ m.vma.flags[right]) & ~VM_ACCESS_FLAGS:
        return 0
    anon_vma = read_once(m.vma.anon_vma, of)
    return 0 if anon_vma & ANON_VMA_INHERITED else anon_vma


@kernel
def __anon_vma_prepare(m, mm, row):
    """Give the VMA an anon_vma: a neighbour's if they touch, else a new one. Locking: as anon_vma_prepare."""
    number = 0
    if row + 1 < vma_limit(m, mm):
        number = reusable_anon_vma(m, row, row + 1, row + 1)
    if number == 0 and row > mm * m.config.vma_per_mm[0]:
        number = reusable_anon_vma(m, row - 1, row, row - 1)
    if number == 0:
        number = atomic_add_return(m.mm.anon_vmas, mm, 1)
    cmpxchg(m.vma.anon_vma, row, 0, number)


@kernel_inline
def anon_vma_prepare(m, mm, row):
    """Give the VMA an anon_vma before its first anonymous page.

    Locking: caller must hold mmap_lock for reading; two faults may race, the first wins.
    """
    if read_once(m.vma.anon_vma, row) == 0:
        __anon_vma_prepare(m, mm, row)


@kernel
def detach_vmas(m, cpu, mm, start, end):
    """Split off and remove the VMAs of [start, end); how many pages they had. No rmap walker finds them from here on.

    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    row = find_vma(m, mm, start)
    pages = 0
    vmas_lock(m, cpu, mm)
    if row < vma_limit(m, mm) and m.vma.start[row] < start:
        split_vma(m, cpu, mm, row, start)
        row += 1
    while row < vma_limit(m, mm) and m.vma.start[row] < end:
        if m.vma.end[row] > end:
            split_vma(m, cpu, mm, row, end)
        pages += (m.vma.end[row] - m.vma.start[row]) // PAGE_SIZE
        vma_delete(m, cpu, mm, row)
    vmas_unlock(m, cpu, mm)
    m.mm.total_vm[mm] -= pages
    return pages
