"""VMAs: which addresses of an mm exist. They are a list by address, and a B-tree of two levels over it, for searches.

A VMA keeps its row from mmap to munmap; row 0 is no VMA's. Both kinds of node are an array of `place`: how many entries
there are, then the entries, a first address and a row each. A leaf has up to VMA_LEAF VMAs. The directory has the other
leaves than the first, which has whatever is lower. So an mm of a few VMAs is one array that is searched. In one of
65,530 a VMA that comes or goes moves a leaf at most, and the directory when a leaf comes or goes. Linux has a maple
tree, and until 6.1 had a red-black tree with such a list.

Neighbours with equal flags are one VMA, unless both were written to before they met (different anon_vma) or one was
moved there (pgoff). That border stays, as in Linux.

A CPU that changes list or tree holds mmap_lock for writing and the anon_vma lock of the mm's family. A search for an
anonymous page comes through the list with that lock alone.
"""

from emulator.atomic import atomic_add_return, cmpxchg, kernel, kernel_inline, read_once, write_once
from emulator.locking.mmap_lock import mmap_read_lock, mmap_read_unlock
from emulator.locking.mutex import (
    anon_vma_lock,
    anon_vma_row,
    anon_vma_unlock,
    i_mmap_lock,
    i_mmap_row,
    i_mmap_unlock,
)
from emulator.locking.vma_lock import vma_start_read
from emulator.mm_types import ANON_VMA_INHERITED, MAX_MAP_COUNT, PAGE_SIZE, VMA_LEAF
from emulator.pgtable_types import ANON_EXCLUSIVE, DIRTY, PMD_SIZE, PRESENT, PROTNONE, RW, SOFT_DIRTY, SPECIAL, UFFD_WP
from emulator.uapi import ENOMEM, VM_ACCESS_FLAGS, VM_HUGETLB, VM_PFNMAP, VM_SHARED, VM_UFFD_WP, VM_WRITE
from emulator.watch.lockdep import lockdep_assert_held, mmap_assert_locked, mmap_assert_write_locked

MMAP_BASE = 0x7000_0000_0000  # below it is what the kernel chooses a place for


@kernel_inline
def entries_up_to(m, node, addr):
    """How many entries of a node are not above `addr`."""
    low, high = node, node + m.place.row[node]
    while low < high:
        middle = (low + high + 1) >> 1
        if m.place.start[middle] <= addr:
            low = middle
        else:
            high = middle - 1
    return low - node


@kernel_inline
def leaf_places(m, mm, leaf):
    """Where a leaf of `mm` is in m.place: behind all directories, each of which has a place for each leaf."""
    leaves = m.config.vma_leaves[0]
    return m.config.n_mm[0] * leaves + (mm * leaves + leaf) * (1 + VMA_LEAF)


@kernel_inline
def directory(m, mm):
    """Where the directory of `mm` is in m.place."""
    return mm * m.config.vma_leaves[0]


@kernel_inline
def leaf_at(m, mm, entry):
    """The leaf that an entry of the directory names; the first leaf has none, and is at 0."""
    return m.place.row[directory(m, mm) + entry] if entry != 0 else leaf_places(m, mm, 0)


@kernel
def find_in_tree(m, mm, addr):
    """As find_vma, where that is not the first VMA."""
    leaf = leaf_at(m, mm, entries_up_to(m, directory(m, mm), addr))
    below = entries_up_to(m, leaf, addr)
    if below == 0:
        return 0
    row = m.place.row[leaf + below]
    return row if m.vma.end[row] > addr else m.vma.next[row]


@kernel
def find_vma(m, mm, addr):
    """Row of the first VMA that ends above `addr`, 0 if there is none. Locking: caller must hold mmap_lock."""
    row = m.mm.first_vma[mm]
    return row if m.vma.end[row] > addr else find_in_tree(m, mm, addr)


@kernel_inline
def pte_modify(entry, flags):
    """A present entry under the permissions of a VMA with `flags`.

    A frame that fork has shared, and the zero page, stay write-protected: the write fault breaks COW. So does a clean
    page of a file, which the write fault makes dirty, and what CLEAR_REFS or userfaultfd has protected.
    """
    entry &= ~(PRESENT | PROTNONE | RW)
    entry |= PRESENT if flags & VM_ACCESS_FLAGS else PROTNONE
    own = entry & ANON_EXCLUSIVE or (flags & VM_SHARED and entry & DIRTY)
    protected = entry & UFFD_WP and flags & VM_UFFD_WP
    if flags & VM_WRITE and (entry & SPECIAL or (own and entry & SOFT_DIRTY)) and not protected:
        entry |= RW  # can_change_pte_writable
    return entry


@kernel_inline
def vma_lookup(m, mm, addr):
    """Row of the VMA at `addr`, 0 if there is none. Locking: caller must hold mmap_lock."""
    row = find_vma(m, mm, addr)
    return row if m.vma.start[row] <= addr else 0


@kernel
def last_vma(m, mm):
    """Row of the VMA at the highest address, 0 if there is none. Locking: caller must hold mmap_lock."""
    leaf = leaf_at(m, mm, m.place.row[directory(m, mm)])
    return m.place.row[leaf + m.place.row[leaf]] if m.mm.first_vma[mm] != 0 else 0


@kernel
def vmas_lock(m, cpu, mm):
    """Keep rmap walkers out of the VMAs of `mm`. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    anon_vma_lock(m, cpu, m.mm.family[mm] - 1)


@kernel
def vmas_unlock(m, cpu, mm):
    """Let rmap walkers in again."""
    anon_vma_unlock(m, cpu, m.mm.family[mm] - 1)


@kernel
def vma_prepare(m, cpu, mm, file):
    """Keep rmap walkers out of the VMAs of `mm`, and out of those that map a file, which is its number + 1 or 0.

    Locking: takes i_mmap_lock and vmas_lock; caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    if file != 0:
        i_mmap_lock(m, cpu, file - 1)
    vmas_lock(m, cpu, mm)


@kernel
def vma_complete(m, cpu, mm, file):
    """Let them in again."""
    vmas_unlock(m, cpu, mm)
    if file != 0:
        i_mmap_unlock(m, cpu, file - 1)


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
    """Read-lock the VMA that [start, end) lies in: its row, or 0 if there is no such, with nothing held.

    Locking: returns a row with the VMA's lock held. Source: lock_vma_under_rcu, mm/mmap_lock.c.
    """
    mmap_read_lock(m, cpu, mm)
    row = vma_lookup(m, mm, start)
    if row == 0 or m.vma.end[row] < end:
        mmap_read_unlock(m, cpu, mm)
        return 0
    vma_start_read(m, cpu, mm, row)
    return row


@kernel
def vma_alloc(m, mm):
    """A row for one more VMA, for which vmas_short has said that there is room. Locking: as vma_link."""
    row = read_once(m.mm.free_vma, mm)
    if row != 0:
        write_once(m.mm.free_vma, mm, m.vma.next[row])
        return row
    m.mm.fresh_vmas[mm] += 1
    return mm * m.config.vma_per_mm[0] + m.mm.fresh_vmas[mm]


@kernel
def vma_free(m, mm, row):
    """Give a row back that is in no list any more. Locking: caller must hold mmap_lock; others may give, none takes."""
    head = read_once(m.mm.free_vma, mm)
    found = -1
    while found != head:
        head = found if found >= 0 else head
        m.vma.next[row] = head
        found = cmpxchg(m.mm.free_vma, mm, head, row)


@kernel
def vma_dup(m, mm, source):
    """A new VMA of `mm` like that at `source`, entered nowhere yet: its row. Locking: as vma_link."""
    row = vma_alloc(m, mm)
    m.vma.start[row] = m.vma.start[source]
    m.vma.end[row] = m.vma.end[source]
    m.vma.flags[row] = m.vma.flags[source]
    m.vma.anon_vma[row] = m.vma.anon_vma[source]
    m.vma.file[row] = m.vma.file[source]
    m.vma.pgoff[row] = m.vma.pgoff[source]
    return row


@kernel
def set_neighbours(m, mm, before, after):
    """Let one VMA follow another in the list; 0 is an end of it."""
    if before != 0:
        m.vma.next[before] = after
    else:
        m.mm.first_vma[mm] = after
    if after != 0:
        m.vma.prev[after] = before


@kernel
def move_places(m, source, count, to):
    """Move `count` entries from place `source` on to `to`, which may overlap."""
    for i in range(count):
        at = i if to < source else count - 1 - i
        m.place.start[to + at] = m.place.start[source + at]
        m.place.row[to + at] = m.place.row[source + at]


@kernel
def split_leaf(m, mm, entry, kept):
    """Let a full leaf keep its first `kept` VMAs, and the others be in a new leaf behind it. Locking: as vma_link."""
    top = directory(m, mm)
    m.place.row[top] += 1
    last = m.place.row[top]
    leaf, fresh = leaf_at(m, mm, entry), m.place.row[top + last]
    if fresh == 0:  # no leaf was ever given up there
        fresh = leaf_places(m, mm, last)
    move_places(m, top + entry + 1, last - entry - 1, top + entry + 2)
    move_places(m, leaf + 1 + kept, VMA_LEAF - kept, fresh + 1)
    m.place.row[leaf] = kept
    m.place.row[fresh] = VMA_LEAF - kept
    m.place.row[top + entry + 1] = fresh
    m.place.start[top + entry + 1] = m.place.start[fresh + 1]


@kernel
def merge_leaves(m, mm, entry):
    """Let a leaf have what the next one has, if that is empty or half a leaf will do for both. Locking: as vma_link."""
    top = directory(m, mm)
    last = m.place.row[top]
    if not 0 <= entry < last:
        return
    leaf, other = leaf_at(m, mm, entry), leaf_at(m, mm, entry + 1)
    used, more = m.place.row[leaf], m.place.row[other]
    if more != 0 and used + more > VMA_LEAF // 2:
        return
    move_places(m, other + 1, more, leaf + 1 + used)
    m.place.row[leaf] = used + more
    move_places(m, top + entry + 2, last - entry - 1, top + entry + 1)
    m.place.row[top + last] = other  # behind the directory: the next to be taken
    m.place.row[top] -= 1


@kernel
def name_leaf(m, mm, entry):
    """Let the directory say where a leaf begins that has another VMA as its first. Locking: as vma_link."""
    m.place.start[directory(m, mm) + entry] = m.place.start[leaf_at(m, mm, entry) + 1]


@kernel
def i_mmap_add(m, cpu, row):
    """Enter a VMA behind the others that map its file: a walker comes to a parent before its child. Locking: caller
    must hold i_mmap_lock.
    """
    file = m.vma.file[row] - 1
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    last = m.file.i_mmap_last[file]
    if last != 0:
        m.vma.i_mmap_next[last] = row
    else:
        m.file.i_mmap[file] = row
    m.vma.i_mmap_prev[row] = last
    m.vma.i_mmap_next[row] = 0
    m.file.i_mmap_last[file] = row


@kernel
def i_mmap_remove(m, cpu, row):
    """Take a VMA out of those that map its file; it maps none then. Locking: caller must hold i_mmap_lock."""
    file = m.vma.file[row] - 1
    lockdep_assert_held(m, cpu, i_mmap_row(m, file))
    before, after = m.vma.i_mmap_prev[row], m.vma.i_mmap_next[row]
    if before != 0:
        m.vma.i_mmap_next[before] = after
    else:
        m.file.i_mmap[file] = after
    if after != 0:
        m.vma.i_mmap_prev[after] = before
    else:
        m.file.i_mmap_last[file] = before
    m.vma.file[row] = 0


@kernel_inline
def vma_mm(m, row):
    """The mm of the VMA at `row`."""
    return (row - 1) // m.config.vma_per_mm[0]


@kernel
def vma_link(m, cpu, mm, row):
    """Enter a new VMA, whose fields are set, at its address, and where its file is looked for.

    Locking: caller must hold vmas_lock and, if it maps a file, i_mmap_lock: vma_prepare.
    """
    assert_vmas_locked(m, cpu, mm)
    if m.vma.file[row] != 0:
        i_mmap_add(m, cpu, row)
    start = m.vma.start[row]
    entry = entries_up_to(m, directory(m, mm), start)
    leaf = leaf_at(m, mm, entry)
    below = entries_up_to(m, leaf, start)
    before = m.place.row[leaf + below] if below != 0 else 0
    after = m.vma.next[before] if below != 0 else m.mm.first_vma[mm]
    set_neighbours(m, mm, before, row)
    set_neighbours(m, mm, row, after)
    if m.place.row[leaf] == VMA_LEAF:
        kept = VMA_LEAF // 2 if before != 0 and after != 0 else below  # leaves are full where VMAs come at an end
        split_leaf(m, mm, entry, kept)
        if below > kept or after == 0:
            entry += 1
            below -= kept
        leaf = leaf_at(m, mm, entry)
    move_places(m, leaf + 1 + below, m.place.row[leaf] - below, leaf + 2 + below)
    m.place.start[leaf + 1 + below] = start
    m.place.row[leaf + 1 + below] = row
    m.place.row[leaf] += 1
    name_leaf(m, mm, entry)
    m.mm.vmas[mm] += 1


@kernel
def vma_unlink(m, cpu, mm, row):
    """Take a VMA out of list and tree. Locking: caller must hold vmas_lock."""
    assert_vmas_locked(m, cpu, mm)
    set_neighbours(m, mm, m.vma.prev[row], m.vma.next[row])
    entry = entries_up_to(m, directory(m, mm), m.vma.start[row])
    leaf = leaf_at(m, mm, entry)
    at = entries_up_to(m, leaf, m.vma.start[row])
    move_places(m, leaf + at + 1, m.place.row[leaf] - at, leaf + at)
    m.place.row[leaf] -= 1
    name_leaf(m, mm, entry)
    merge_leaves(m, mm, entry - 1)
    merge_leaves(m, mm, entry)
    m.mm.vmas[mm] -= 1


@kernel
def clear_vmas(m, mm):
    """Forget all VMAs of an mm that nobody uses any more. Locking: caller must hold mmap_lock for writing."""
    m.place.row[directory(m, mm)] = m.place.row[leaf_places(m, mm, 0)] = 0
    m.mm.vmas[mm] = m.mm.first_vma[mm] = m.mm.fresh_vmas[mm] = m.mm.free_vma[mm] = 0


@kernel
def vma_set_start(m, mm, row, start):
    """Let a VMA begin at a lower address, above the one before it. Locking: caller must hold vmas_lock."""
    entry = entries_up_to(m, directory(m, mm), m.vma.start[row])
    leaf = leaf_at(m, mm, entry)
    m.place.start[leaf + entries_up_to(m, leaf, m.vma.start[row])] = start
    name_leaf(m, mm, entry)
    m.vma.start[row] = start


@kernel
def vma_delete(m, cpu, mm, row):
    """Take a VMA out everywhere, and give its row back. Locking: as vma_link."""
    if m.vma.file[row] != 0:
        i_mmap_remove(m, cpu, row)
    vma_unlink(m, cpu, mm, row)
    vma_free(m, mm, row)


@kernel
def split_vma(m, cpu, mm, row, addr):
    """Split the VMA at `row`, so that one begins at `addr`: its row. Locking: as vma_link."""
    upper = vma_dup(m, mm, row)
    m.vma.start[upper] = addr
    m.vma.pgoff[upper] = linear_page_index(m, row, addr)
    m.vma.end[row] = addr
    vma_link(m, cpu, mm, upper)
    return upper


@kernel
def may_split(m, mm, addr):
    """False if a huge page of hugetlbfs would reach across `addr` if a VMA began there.

    Locking: caller must hold mmap_lock. Source: hugetlb_vm_op_split.
    """
    row = vma_lookup(m, mm, addr)
    inside = addr & (PMD_SIZE - 1) != 0 and m.vma.start[row] < addr
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
    following = m.vma.next[row]
    if following == 0 or not can_merge(m, row, following):
        return False
    m.vma.end[row] = m.vma.end[following]
    m.vma.anon_vma[row] = max(m.vma.anon_vma[row], m.vma.anon_vma[following])
    vma_delete(m, cpu, mm, following)
    return True


@kernel
def vma_merge(m, cpu, mm, row):
    """Merge the VMA at `row` with its neighbours; its row then.

    The one before it comes first: the one behind may have another anon_vma.
    Locking: as vma_link. Source: vma_merge, mm/vma.c.
    """
    before = m.vma.prev[row]
    if before != 0 and merge_with_next(m, cpu, mm, before):
        row = before
    merge_with_next(m, cpu, mm, row)
    return row


@kernel
def vmas_short(m, cpu, mm, more):
    """True if there are no rows for `more` VMAs, which an operation may need on its way; counted as memory that the
    machine has not. MAX_MAP_COUNT + 4 rows for each mm are enough.
    """
    if m.mm.vmas[mm] + more <= m.config.vma_per_mm[0]:
        return False
    m.cpu.oom[cpu] += 1
    return True


@kernel
def splits_allowed(m, mm, row, start, end, flags):
    """True if MAX_MAP_COUNT lets [start, end) of the VMA at `row` have other flags: what merges needs no VMA more.

    Source: vma_modify, mm/vma.c.
    """
    more = (m.vma.start[row] < start) + (m.vma.end[row] > end)
    if m.mm.vmas[mm] + more <= MAX_MAP_COUNT or more == 0:
        return True
    before, after = m.vma.prev[row], m.vma.next[row]
    old = m.vma.flags[row]
    m.vma.flags[row] = flags
    merges = before != 0 and m.vma.start[row] == start and can_merge(m, before, row)
    merges = merges or (after != 0 and m.vma.end[row] == end and can_merge(m, row, after))
    m.vma.flags[row] = old
    return merges


@kernel
def get_unmapped_area(m, mm, length):
    """Where `length` bytes are free, as far up as there are, or 0. Locking: caller must hold mmap_lock."""
    above = MMAP_BASE
    row = last_vma(m, mm)
    while row != 0 and above - m.vma.end[row] < length:
        above = min(above, m.vma.start[row])
        row = m.vma.prev[row]
    return max(above - length, 0)


@kernel
def vma_modify_locked(m, cpu, mm, row, start, end, flags):
    """As vma_modify_flags. Locking: caller must hold mmap_lock for writing, and the locks of vma_prepare."""
    mmap_assert_write_locked(m, cpu, mm)
    if vmas_short(m, cpu, mm, 2) or not splits_allowed(m, mm, row, start, end, flags):
        return -ENOMEM
    if m.vma.start[row] < start:
        row = split_vma(m, cpu, mm, row, start)
    if m.vma.end[row] > end:
        split_vma(m, cpu, mm, row, end)
    m.vma.flags[row] = flags
    return vma_merge(m, cpu, mm, row)


@kernel
def vma_modify_flags(m, cpu, mm, row, start, end, flags):
    """Give [start, end), which lies in the VMA at `row`, other flags: split it off, merge it. Its row, or -ENOMEM.

    Locking: caller must hold mmap_lock for writing. Source: vma_modify_flags, mm/vma.c.
    """
    mmap_assert_write_locked(m, cpu, mm)
    file = m.vma.file[row]
    vma_prepare(m, cpu, mm, file)
    row = vma_modify_locked(m, cpu, mm, row, start, end, flags)
    vma_complete(m, cpu, mm, file)
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
    before, after = m.vma.prev[row], m.vma.next[row]
    if after != 0:
        number = reusable_anon_vma(m, row, after, after)
    if number == 0 and before != 0:
        number = reusable_anon_vma(m, before, row, before)
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
def split_at(m, cpu, mm, addr):
    """Split the VMA that has `addr` inside of it, if there is one. Locking: caller must hold mmap_lock for writing."""
    mmap_assert_write_locked(m, cpu, mm)
    row = vma_lookup(m, mm, addr)
    if row != 0 and m.vma.start[row] < addr:
        file = m.vma.file[row]
        vma_prepare(m, cpu, mm, file)
        split_vma(m, cpu, mm, row, addr)
        vma_complete(m, cpu, mm, file)


@kernel
def detach_vmas(m, cpu, mm, start, end):
    """Take the VMAs of [start, end) out of list and tree: the first of them, with the next behind it, or 0.

    No search for an anonymous page comes to them from here on; one for a page of a file does: unlink_file_vmas.
    Locking: caller must hold mmap_lock for writing.
    """
    mmap_assert_write_locked(m, cpu, mm)
    split_at(m, cpu, mm, start)
    split_at(m, cpu, mm, end)
    first = row = find_vma(m, mm, start)
    if row == 0 or m.vma.start[row] >= end:
        return 0
    vmas_lock(m, cpu, mm)
    pages, last = 0, 0
    while row != 0 and m.vma.start[row] < end:
        pages += (m.vma.end[row] - m.vma.start[row]) // PAGE_SIZE
        vma_unlink(m, cpu, mm, row)
        last = row
        row = m.vma.next[row]
    m.vma.next[last] = 0
    vmas_unlock(m, cpu, mm)
    m.mm.total_vm[mm] -= pages
    return first


@kernel
def unlink_file_vmas(m, cpu, mm, row):
    """Let nobody come to the VMA at `row`, and those behind it, from their files any more: they map none then.

    Locking: takes and releases i_mmap_locks; caller must hold mmap_lock.
    """
    mmap_assert_locked(m, cpu, mm)
    while row != 0:
        file = m.vma.file[row]
        if file != 0:
            i_mmap_lock(m, cpu, file - 1)
            i_mmap_remove(m, cpu, row)
            i_mmap_unlock(m, cpu, file - 1)
        row = m.vma.next[row]


@kernel
def remove_vmas(m, mm, row):
    """Give the rows of VMAs that are detached back. Locking: as vma_free."""
    while row != 0:
        following = m.vma.next[row]
        vma_free(m, mm, row)
        row = following
