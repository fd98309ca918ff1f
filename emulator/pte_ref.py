"""Who uses a PTE table, and who frees it: the reference count of the series, and the seam of all policies.

A table's pte_refcount counts its entries that are not none, one each, and its visitors: whoever walks it right now.
The pmd that names it holds none. Whoever takes the last reference away unhooks the table and frees it.

Zero is absorbing. A visitor may come only by inc-not-zero, so a successful pte_try_get proves that the count was
positive, hence that nobody has cleared the pmd, and nobody will until the matching pte_put: a pinned table's pmd is
stable. A visitor that meets zero finds a dying table; its freer will clear the pmd, so it looks again.

    fault                                    zap (MADV_DONTNEED)
    =====                                    ===================
    pte_try_get(): pins, count n + 2         (the zap has pinned it, too)
                                             clears the entries, pte_put_many_tlb(n)
                                             pte_put_many_tlb(1): not the last, leaves
    sets its entry, pte_get()
    pte_put(): the entry keeps it

    pte_try_get(): count is 0, fails         pte_put_many_tlb(1) -> 0: free_pte_table_tlb
      reads the pmd again                      pmd_lock, clear the pmd, pmd_unlock
      none: installs a new table               tlb_remove_table: flush, grace period, free

Under policy `none` the same functions pin nothing and count nothing; every walker calls them, so a policy is decided
here and in mmu_gather.py. Only teardown (mmap.py:free_pte_range) and the checks ask as well whether tables are counted.

Source: pte_ref v1, 2021-07-18, patches 2, 5, 6 and 7; pte_ref_init before pmd_populate as in v3.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add_return,
    atomic_inc_not_zero,
    cpu_relax,
    data_race,
    kernel,
    kernel_inline,
    knob,
    or_words,
    read_once,
    sched_yield,
    smp_store_release,
    write_once,
)
from emulator.bugs import Bug
from emulator.kernel import BUG, ENOMEM, Wait, detecting, waits_for
from emulator.mmu_gather import pte_free_tlb, tlb_remove_table_free
from emulator.page_alloc import free_table
from emulator.paths import path_number, took
from emulator.pgtable import (
    PMD_SIZE,
    PRESENT,
    PTRS_PER_PTE,
    TABLE_ALLOCATED,
    TABLE_INSTALLED,
    TABLE_LIMBO,
    TABLE_UNHOOKED,
    mm_dec_nr_tables,
    mm_inc_nr_tables,
    pgtable_of,
    pmd_pgtable,
    pmd_trans_huge,
    populate,
)
from emulator.points import mark_life, point_number
from emulator.rcu import account_rcu_age, rcu_read_lock, rcu_read_unlock
from emulator.spinlock import PMD_LOCK, PTE_LOCK, spin_lock, spin_lock_pair, spin_unlock, spin_unlock_pair
from emulator.tlb import flush_tlb_mm_range, point, take_interrupts
from emulator.vmscan import pte_alloc_one

PMD_NONE = path_number("fault, pmd none")
NO_MEMORY = path_number("fault, no memory")
TABLE_DYING = path_number("fault, table dying")

BUG_UNDERFLOW, BUG_NOT_EMPTY = int(Bug.COUNT_UNDERFLOW), int(Bug.FREED_TABLE_NOT_EMPTY)
BUG_SATURATED, BUG_FROM_ZERO = int(Bug.COUNT_SATURATED), int(Bug.COUNT_FROM_ZERO)
BUG_PMD_CHANGED, BUG_RETRY = int(Bug.PMD_CHANGED_UNDER_PIN), int(Bug.RETRY_BOUND)
BUG_USE_AFTER_FREE, BUG_DOUBLE_FREE = int(Bug.TABLE_USE_AFTER_FREE), int(Bug.TABLE_DOUBLE_FREE)
BUG_PTLOCK_DEAD = int(Bug.PTLOCK_DEAD)
DYING_TABLE, NOTHING = int(Wait.DYING_TABLE), int(Wait.NOTHING)
READ_PMD, TRY_GET_LOCKED = point_number("pte_try_get.read-pmd"), point_number("pte_try_get.locked")
CHECKED, PINNED = point_number("pte_try_get.checked"), point_number("pte_try_get.pinned")
REF_READ, PUT_DROPPED = point_number("pte_ref.read"), point_number("pte_put.dropped")
INSTALL_LOCKED, PUBLISHED = point_number("pmd_install.locked"), point_number("pmd_install.published")
ZERO, UNHOOK_CHECKED = point_number("free_pte_table.zero"), point_number("free_pte_table.checked")
UNHOOKED = point_number("free_pte_table.unhooked")
_RETRIES_YIELD, _RETRIES_BUG = 100, 10_000_000


@kernel_inline
def pte_ref_init(m, table, count):
    """Start the count of a table: 1, the visitor that installs it. Locking: the table must be private still."""
    write_once(m.ptdesc.pte_refcount, table, count)


@kernel_inline
def pte_ref_add(m, cpu, table, n):
    """Change the count by n; the value after."""
    if knob(m.config.plain_count):
        count = read_once(m.ptdesc.pte_refcount, table)
        point(m, cpu, REF_READ, table, count)
        write_once(m.ptdesc.pte_refcount, table, count + n)
        return count + n
    return atomic_add_return(m.ptdesc.pte_refcount, table, n)


@kernel
def check_count(m, cpu, table, n, count):
    """Detector: a count that was raised by n to `count` is one: 512 entries and a visitor per CPU, and of each CPU in a
    zap 512 more that it has cleared and not yet uncounted."""
    if count > (PTRS_PER_PTE + 1) * (m.config.n_cpu[0] + 1):
        BUG(m, cpu, BUG_SATURATED, table, count - n, count)


@kernel
def check_raised(m, cpu, table, n, count):
    """Detector: a count that was raised by n to `count` was a count before, and not zero."""
    if count <= n:
        BUG(m, cpu, BUG_FROM_ZERO, table, count - n, count)
    check_count(m, cpu, table, n, count)


@kernel_inline
def pte_get_many(m, cpu, pmd, n):
    """Count n more entries. Locking: caller must hold a reference."""
    if m.config.pte_counted[0]:
        entry = read_once(m.entry, pmd)
        table = pgtable_of(entry)
        if detecting(m) and pmd_pgtable(entry) == 0:
            BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
        count = pte_ref_add(m, cpu, table, n)
        mark_life(m, cpu, m.life.get, table)
        if detecting(m):
            check_raised(m, cpu, table, n, count)


@kernel_inline
def pte_get(m, cpu, pmd):
    """Count one more entry. Locking: caller must hold a reference."""
    pte_get_many(m, cpu, pmd, 1)


@kernel_inline
def pte_get_unless_zero(m, cpu, table):
    """Take a reference unless the table is dying. Locking: caller must hold pmd_lock or rcu_read_lock."""
    if knob(m.config.check_then_increment):
        count = read_once(m.ptdesc.pte_refcount, table)
        point(m, cpu, CHECKED, table, count)
        if count == 0:
            return False
        count = atomic_add_return(m.ptdesc.pte_refcount, table, 1)
        if detecting(m):
            check_raised(m, cpu, table, 1, count)
        return True
    return atomic_inc_not_zero(m.ptdesc.pte_refcount, table)


@kernel
def pinned(m, cpu, pmd, table):
    """Detector: what was pinned is the table at `pmd`, and a count; remember which one it is.

    With the setting rcu_retract nothing is pinned by mmap_lock: who found a table looks at the pmd again.
    """
    if m.config.pte_counted[0]:
        check_count(m, cpu, table, 1, read_once(m.ptdesc.pte_refcount, table))
    generation = m.ptdesc.generation[table]
    installed = read_once(m.ptdesc.state, table) == TABLE_INSTALLED and m.ptdesc.pmd[table] == pmd
    if not installed and m.config.rcu_retract[0] == 0:
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, generation, m.ptdesc.state[table])
    m.cpu.pin_table[cpu] = table
    m.cpu.pin_generation[cpu] = generation


@kernel_inline
def pin_also(m, cpu):
    """Detector: what this CPU has pinned stays pinned beside what it pins next, until pin_alone."""
    if detecting(m):
        m.cpu.pin_outer[cpu] = m.cpu.pin_table[cpu]
        m.cpu.pin_outer_generation[cpu] = m.cpu.pin_generation[cpu]


@kernel_inline
def pin_alone(m, cpu):
    """Detector: this CPU has one table pinned again, or none."""
    if detecting(m):
        m.cpu.pin_outer[cpu] = 0


@kernel
def check_use(m, cpu, table):
    """Detector: the table a walker uses is the one it found, and installed; in a read section it may be in limbo."""
    generation = m.ptdesc.generation[table]
    changed = m.cpu.pin_table[cpu] == table and m.cpu.pin_generation[cpu] != generation
    if m.cpu.pin_outer[cpu] == table and m.cpu.pin_outer_generation[cpu] != generation:
        changed = True
    state = read_once(m.ptdesc.state, table)
    limbo = m.cpu.rcu_nesting[cpu] != 0 and (state == TABLE_UNHOOKED or state == TABLE_LIMBO)
    if changed or (state != TABLE_INSTALLED and not limbo):
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, m.cpu.pin_generation[cpu], m.ptdesc.state[table])


@kernel_inline
def pte_lock(m, cpu, table):
    """Take the ptl of a PTE table. Locking: caller must hold a reference; returns with the ptl held."""
    if detecting(m) and read_once(m.ptdesc.ptl_dead, table) != 0:
        BUG(m, cpu, BUG_PTLOCK_DEAD, table, 0, 1)
    spin_lock(m, cpu, m.ptdesc.ptl, table, PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)


@kernel_inline
def pte_unlock(m, cpu, table):
    """Release the ptl of a PTE table. Locking: caller must hold it."""
    if detecting(m):
        check_use(m, cpu, table)
    spin_unlock(m, cpu, m.ptdesc.ptl, table, PTE_LOCK)


@kernel
def pte_lock_pair(m, cpu, table, other):
    """Take the ptls of two PTE tables, which may be one. Locking: caller must hold references; returns with both."""
    spin_lock_pair(m, cpu, m.ptdesc.ptl, table, other, PTE_LOCK)
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)


@kernel
def pte_unlock_pair(m, cpu, table, other):
    """Release the ptls of two PTE tables. Locking: caller must hold them."""
    if detecting(m):
        check_use(m, cpu, table)
        check_use(m, cpu, other)
    spin_unlock_pair(m, cpu, m.ptdesc.ptl, table, other, PTE_LOCK)


@kernel
def pte_try_get_locked(m, cpu, pmd):
    """pte_try_get of patch 5. Locking: takes and releases pmd_lock."""
    pmd_lock = pmd >> 9
    table = 0
    spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    entry = read_once(m.entry, pmd)
    found = pmd_pgtable(entry)
    point(m, cpu, TRY_GET_LOCKED, found, entry)
    if found != 0 and pte_get_unless_zero(m, cpu, found):
        table = found
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    return table


@kernel_inline
def pte_try_get_rcu(m, cpu, pmd):
    """pte_try_get of patch 6: one look at the pmd, no lock."""
    table = 0
    rcu_read_lock(m, cpu)
    entry = read_once(m.entry, pmd)
    found = pmd_pgtable(entry)
    generation = m.ptdesc.generation[found] if detecting(m) else 0
    point(m, cpu, READ_PMD, found, entry)
    if found != 0 and pte_get_unless_zero(m, cpu, found):
        table = found
    if detecting(m) and found != 0:
        account_rcu_age(m, cpu, found, generation)
    rcu_read_unlock(m, cpu)
    return table


@kernel_inline
def pte_try_get(m, cpu, pmd):
    """Pin the table at `pmd`: its number, or 0 if there is none, it is dying, or the pmd is a leaf.

    Locking: returns with one reference. Source: patch 6; patch 5 did it under pmd_lock.
    """
    if not m.config.pte_counted[0]:
        table = pmd_pgtable(read_once(m.entry, pmd))
    elif m.config.try_get_rcu[0]:
        table = pte_try_get_rcu(m, cpu, pmd)
    else:
        table = pte_try_get_locked(m, cpu, pmd)
    if DEBUG and table != 0:
        mark_life(m, cpu, m.life.get, table)
        point(m, cpu, PINNED, table, data_race(m.ptdesc.pte_refcount, table))
        if detecting(m):
            pinned(m, cpu, pmd, table)
    return table


@kernel_inline
def any_zero_frees(m):
    """True on a machine where whoever sees the count at zero tries to free the table, not only who made it zero."""
    return DEBUG and m.config.any_zero_frees[0] != 0


@kernel
def clear_pmd(m, cpu, pmd, table):
    """Clear the pmd if it names `table` still; True if so. Locking: takes and releases pmd_lock."""
    pmd_lock = pmd >> 9
    if not knob(m.config.unhook_unlocked):
        spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    entry = read_once(m.entry, pmd)
    point(m, cpu, UNHOOK_CHECKED, table, entry)
    same = entry & PRESENT != 0 and (pmd_pgtable(entry) == table or knob(m.config.pmd_recheck_only))
    if same:
        write_once(m.entry, pmd, 0)
    if not knob(m.config.unhook_unlocked):
        spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    if not same and not any_zero_frees(m):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, table, entry)
    return same


@kernel
def unhook_pte_table(m, cpu, mm, pmd, table):
    """Clear the pmd of `table`, whose count is zero, and take it out of VmPTE: nobody can find it any more.

    False if the pmd names something else: another freer was first. Locking: takes and releases pmd_lock.
    """
    if not clear_pmd(m, cpu, pmd, table):
        return False
    if detecting(m) and read_once(m.ptdesc.state, table) != TABLE_INSTALLED:
        BUG(m, cpu, BUG_DOUBLE_FREE, table, m.ptdesc.generation[table], m.ptdesc.state[table])
    left = or_words(m.entry, table * PTRS_PER_PTE, PTRS_PER_PTE)
    if left != 0:
        BUG(m, cpu, BUG_NOT_EMPTY, table, 0, left)
    if DEBUG:
        m.ptdesc.gp_seq[table] = read_once(m.rcu.gp_completed, 0)
    smp_store_release(m.ptdesc.state, table, TABLE_UNHOOKED)  # behind gp_seq; pairs with account_rcu_age
    mark_life(m, cpu, m.life.unhooked, table)
    point(m, cpu, UNHOOKED, table, data_race(m.entry, pmd))
    mm_dec_nr_tables(m, mm)
    m.cpu.tables_freed[cpu] += 1
    return True


@kernel
def free_pte_table(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero, outside of any gather.

    Locking: takes and releases pmd_lock; caller must hold no reference. Source: patches 5 and 6.
    """
    if not unhook_pte_table(m, cpu, mm, pmd, table):
        return
    if knob(m.config.early_ptlock_free):
        m.ptdesc.ptl_dead[table] = 1
    start = addr & -PMD_SIZE
    if not knob(m.config.no_flush):
        flush_tlb_mm_range(m, cpu, mm, start, start + PMD_SIZE, 1)
    tlb_remove_table_free(m, cpu, table)


@kernel
def free_pte_table_tlb(m, cpu, mm, pmd, table, addr):
    """Free a table whose count is zero through this CPU's open gather: one flush for all of them. Source: patch 7."""
    if not m.config.table_free_gather[0]:
        free_pte_table(m, cpu, mm, pmd, table, addr)
    elif unhook_pte_table(m, cpu, mm, pmd, table):
        pte_free_tlb(m, cpu, table, addr)


@kernel_inline
def pte_put_last(m, cpu, pmd, n):
    """Drop n references: the table if they were the last, else 0."""
    entry = read_once(m.entry, pmd)
    table = pmd_pgtable(entry)
    if table == 0 or (detecting(m) and table != m.cpu.pin_table[cpu] and table != m.cpu.pin_outer[cpu]):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], entry)
    if detecting(m):
        check_use(m, cpu, table)
    count = pte_ref_add(m, cpu, table, -n)
    mark_life(m, cpu, m.life.put, table)
    if count < 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, count + n, count)
    point(m, cpu, PUT_DROPPED, table, count)
    if any_zero_frees(m):
        count = read_once(m.ptdesc.pte_refcount, table)
    if count != 0:
        return 0
    mark_life(m, cpu, m.life.zero, table)
    point(m, cpu, ZERO, table, count)
    return table


@kernel_inline
def pte_put_many(m, cpu, mm, pmd, addr, n):
    """Drop n references; the last one frees the table. Locking: caller must hold the references and no ptl."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table(m, cpu, mm, pmd, table, addr)


@kernel_inline
def pte_put(m, cpu, mm, pmd, addr):
    """Drop a reference; the last one frees the table. Locking: as pte_put_many."""
    pte_put_many(m, cpu, mm, pmd, addr, 1)


@kernel_inline
def pte_put_many_tlb(m, cpu, mm, pmd, addr, n):
    """Drop n references; the last one frees the table through this CPU's gather. Locking: as pte_put."""
    if m.config.pte_counted[0]:
        table = pte_put_last(m, cpu, pmd, n)
        if table != 0:
            free_pte_table_tlb(m, cpu, mm, pmd, table, addr)


@kernel
def pmd_install(m, cpu, mm, pmd, table):
    """Install `table` at `pmd` unless one is there; True if installed, and then with one reference.

    Locking: takes and releases pmd_lock. Source: patch 2 (pte_install there, pmd_install from v2).
    """
    pmd_lock = pmd >> 9
    installed = False
    if detecting(m) and read_once(m.ptdesc.state, table) != TABLE_ALLOCATED:
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, m.ptdesc.generation[table], m.ptdesc.state[table])
    spin_lock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    point(m, cpu, INSTALL_LOCKED, table, pmd)
    if read_once(m.entry, pmd) == 0:
        mm_inc_nr_tables(m, mm)
        if knob(m.config.publish_before_init):
            populate(m, mm, pmd, table)
            point(m, cpu, PUBLISHED, table, data_race(m.ptdesc.pte_refcount, table))
            pte_ref_init(m, table, 1)
        else:
            pte_ref_init(m, table, 1)
            populate(m, mm, pmd, table)
        mark_life(m, cpu, m.life.installed, table)
        m.cpu.tables_installed[cpu] += 1
        took(m, cpu, PMD_NONE)
        installed = True
    spin_unlock(m, cpu, m.ptdesc.ptl, pmd_lock, PMD_LOCK)
    if detecting(m) and installed:
        pinned(m, cpu, pmd, table)
    return installed


@kernel
def pte_alloc_new(m, cpu, mm, pmd):
    """Allocate a table for an empty pmd and install it: the table, 0 if somebody else was first, or -ENOMEM."""
    table = pte_alloc_one(m, cpu)
    if table == 0:
        took(m, cpu, NO_MEMORY)
        return -ENOMEM
    if pmd_install(m, cpu, mm, pmd, table):
        return table
    m.cpu.install_lost[cpu] += 1
    free_table(m, cpu, table)
    return 0


@kernel_inline
def pte_alloc_try_get(m, cpu, mm, pmd):
    """Pin the table at `pmd`, allocating one if there is none: the table, -ENOMEM, or 0 if the pmd is a leaf.

    A dying table is waited for: its freer will clear the pmd.
    Locking: returns with one reference; caller must hold mmap_lock and no spinlock.
    """
    table = pte_try_get(m, cpu, pmd)
    if table != 0:
        return table
    return pte_alloc_try_get_slow(m, cpu, mm, pmd)


@kernel
def pte_alloc_try_get_slow(m, cpu, mm, pmd):
    """The rest of pte_alloc_try_get: there was no table, or it was dying."""
    while True:
        table = pte_try_get_retry(m, cpu, pmd)
        if table == 0:
            table = pte_alloc_new(m, cpu, mm, pmd)
        if table != 0 or pmd_trans_huge(read_once(m.entry, pmd)):
            return table


@kernel
def pte_try_get_retry(m, cpu, pmd):
    """Pin the table at `pmd`: its number, or 0 if there is none, or a leaf. A dying one is waited for until it is none.

    Locking: as pte_alloc_try_get. Source: the `goto retry` of mprotect, mremap and fork in patch 5.
    """
    retries = 0
    table = 0
    while table == 0:
        entry = read_once(m.entry, pmd)
        if entry == 0 or pmd_trans_huge(entry):
            break
        table = pte_try_get(m, cpu, pmd)
        if table == 0:
            retries += 1
            wait_for_freer(m, cpu, pgtable_of(entry), retries)
    if retries != 0:
        waits_for(m, cpu, NOTHING, 0)
    return table


@kernel
def wait_for_freer(m, cpu, table, retries):
    """One turn of waiting until the freer of a dying table has cleared its pmd."""
    took(m, cpu, TABLE_DYING)
    waits_for(m, cpu, DYING_TABLE, table)
    m.cpu.try_get_failed[cpu] += 1
    take_interrupts(m, cpu)
    if retries < _RETRIES_YIELD:
        cpu_relax()
    else:
        sched_yield()
    if retries == _RETRIES_BUG:
        BUG(m, cpu, BUG_RETRY, table, 0, retries)
