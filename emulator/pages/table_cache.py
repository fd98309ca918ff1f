"""Free PTE tables that an mm keeps for itself: empty, so a CPU that takes one need not zero it.

A policy puts them there (htable.py); the allocator asks the mm that a CPU runs first, and all others when nothing else
is left. They are not part of VmPTE, and belong to no zone.

Source: hat_ht_cached, htable_alloc and htable_free, uts/i86pc/vm/htable.c, illumos.
"""

from emulator.atomic import kernel, read_once, write_once
from emulator.locking.spinlock import HTABLE_LOCK, spin_lock, spin_unlock
from emulator.mm_types import NR_HTABLE_LOCKS


@kernel
def push_cached(m, cpu, mm, table):
    """Have an mm keep a table, which is free and has no entry. Locking: takes and releases the lock of its list."""
    spin_lock(m, cpu, m.htable.lock, NR_HTABLE_LOCKS + mm, HTABLE_LOCK)
    m.ptdesc.next[table] = m.mm.cached_tables[mm]
    write_once(m.mm.cached_tables, mm, table)
    spin_unlock(m, cpu, m.htable.lock, NR_HTABLE_LOCKS + mm, HTABLE_LOCK)


@kernel
def pop_cached(m, cpu, mm):
    """Take a table that an mm keeps, or 0. Locking: as push_cached."""
    if read_once(m.mm.cached_tables, mm) == 0:
        return 0
    spin_lock(m, cpu, m.htable.lock, NR_HTABLE_LOCKS + mm, HTABLE_LOCK)
    table = m.mm.cached_tables[mm]
    if table != 0:
        write_once(m.mm.cached_tables, mm, m.ptdesc.next[table])
    spin_unlock(m, cpu, m.htable.lock, NR_HTABLE_LOCKS + mm, HTABLE_LOCK)
    return table


@kernel
def pop_any_cached(m, cpu):
    """Take a table that some mm keeps, or 0. Locking: as push_cached. Source: htable_steal."""
    for mm in range(m.config.n_mm[0]):
        table = pop_cached(m, cpu, mm)
        if table != 0:
            return table
    return 0
