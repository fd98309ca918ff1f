"""percpu_ref, 2022: the count of a table is a word on each CPU, until MADV_DONTNEED wants to know whether it is zero.

    MADV_DONTNEED                                   another CPU
    =============                                   ===========
    pins T, clears entries: own word of T           fault: own word of T + 1 (visitor), + 1 (entry), - 1
    T's mode: on each CPU -> one word, with a bias
    waits for a grace period                        sees the new mode: adds to the one word, atomically
                                                    (a CPU that saw the old mode has left it)
    one word += sum of the words - bias
    unpins: 0 left?
      pmd_lock; the pmd names T still?              pte_try_get(): 0 is never raised: frees T itself
      clears the pmd, flushes the 2 MiB
      drops it; call_rcu(T)

A fault adds only to a cache line of its CPU. The price is a grace period with mmap_lock held for reading, once in a
table's life. The table stays in the mode with one word, for going back has cost more than it gave (the author). To
reach zero does nothing. A page-out that takes the last entry leaves an empty table until a visitor sees zero and frees
it. Entries are counted where they change, so the count is exact under the ptl.

As posted, a freer does not look whether the pmd names its own table still (D10, knob pmd-recheck-only). A freer that
goes back to words on each CPU pins the pmd's table again. Then it goes on with the old one (D12, setting switch_back,
knob stale-table-after-switch). Here both are mended. Adapted: the call is at the end of the zap of each table, with the
zapper's pin for the call's. A second caller does not wait for the first one's grace period, for the last of the two to
unpin sees zero. MADV_FREE tries only where a zap does.

Source: the RFC of 2022-04-29 (Qi Zheng, "Try to free user PTE page table pages", percpu_ref), 8, 9, 13, 14, 16 of 18.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    atomic_add_return,
    atomic_inc_not_zero,
    cmpxchg,
    kernel,
    kernel_inline,
    knob,
    read_once,
    smp_load_acquire,
    smp_store_release,
    write_once,
)
from emulator.bug import BUG, detecting, stopped
from emulator.cpu.interrupts import point
from emulator.locking.spinlock import pmd_lock, pmd_unlock
from emulator.mm_types import PERCPU_COUNT_BIAS
from emulator.pgtable import address_of, pmd_pgtable, table_of
from emulator.policy.pins import check_use, note_pin
from emulator.tables.mmu_gather import ZAP_DROP_MARKERS, ZAP_KEEP_COWS, tlb_remove_table_free
from emulator.tables.rcu import rcu_read_lock, rcu_read_unlock, synchronize_rcu
from emulator.tables.unhook import check_empty, flush_table, note_unhooked
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import might_sleep, rcu_assert_held
from emulator.watch.paths import path_number, took
from emulator.watch.points import point_number

BUG_PMD_CHANGED = int(Bug.PMD_CHANGED_UNDER_PIN)
BUG_UNDERFLOW = int(Bug.COUNT_UNDERFLOW)
MODE_READ = point_number("percpu_ref.mode")
SWITCHING = point_number("percpu_ref.switching")
UNPINNED = point_number("percpu_ref.unpinned")
CLEARED = point_number("percpu_ref.cleared")
SWITCHED = path_number("zap switches a count to one word")
ZERO_GOES = path_number("a table whose count is zero goes")
PERCPU, SWITCHES, ATOMIC, BACK = 0, 1, 2, 3  # ptnote.policy_word: where the count of a table is


@kernel_inline
def percpu_word(m, cpu, table):
    """Row of `cpu_word` with the part of a table's count that this CPU has."""
    return cpu * m.config.cpu_words[0] + table


@kernel_inline
def bias(m):
    """What the one word holds beside the count while it is not the count."""
    return 0 if knob(m.config.percpu_no_bias) else PERCPU_COUNT_BIAS


@kernel
def percpu_init(m, table, count):
    """Start the count of a table, on each CPU. Locking: the table must be private still."""
    for cpu in range(m.config.n_cpu[0]):
        write_once(m.cpu_word, percpu_word(m, cpu, table), count if cpu == 0 else 0)
    write_once(m.ptdesc.pte_refcount, table, bias(m))
    write_once(m.ptnote.policy_word, table, PERCPU)


@kernel
def percpu_add(m, cpu, table, n):
    """Change the count of a table by n: True if it is known to be zero then.

    Locking: caller must be in a read section, and hold a reference or be about to give up its last.
    """
    rcu_assert_held(m, cpu)
    mode = smp_load_acquire(m.ptnote.policy_word, table)  # pairs with the release in switch_back
    point(m, cpu, MODE_READ, table, mode)
    if mode == PERCPU:
        word = percpu_word(m, cpu, table)
        write_once(m.cpu_word, word, m.cpu_word[word] + n)
        return False
    count = atomic_add_return(m.ptdesc.pte_refcount, table, n)
    if detecting(m) and count < 0 and bias(m) != 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, count - n, count)
    return count == 0


@kernel
def percpu_tryget(m, cpu, table):
    """Take a reference on a table unless its count is known to be zero. Locking: caller must be in a read section."""
    rcu_assert_held(m, cpu)
    if smp_load_acquire(m.ptnote.policy_word, table) != PERCPU:
        return atomic_inc_not_zero(m.ptdesc.pte_refcount, table)
    percpu_add(m, cpu, table, 1)
    return True


@kernel
def free_user_pte(m, cpu, pmd, table):
    """Take a table whose count is zero out, unless another freer was first, and free it after a grace period.

    Locking: takes and releases pmd_lock, and flushes under it; caller must hold no reference and no ptl.
    """
    mm = m.ptdesc.mm[table_of(pmd)] - 1
    pmd_lock(m, cpu, pmd)
    named = pmd_pgtable(read_once(m.entry, pmd))
    gone = named != 0 and (named == table or knob(m.config.pmd_recheck_only))
    if gone:
        if detecting(m):
            check_empty(m, cpu, named)
        write_once(m.entry, pmd, 0)
        note_unhooked(m, cpu, mm, pmd, named)
        took(m, cpu, ZERO_GOES)
        point(m, cpu, CLEARED, named, pmd)
        flush_table(m, cpu, mm, address_of(m, pmd))
    pmd_unlock(m, cpu, pmd)
    if gone:
        tlb_remove_table_free(m, cpu, named)


@kernel
def pte_try_get_percpu(m, cpu, pmd):
    """pte_try_get where the count is on each CPU; a visitor that meets zero frees the table."""
    rcu_read_lock(m, cpu)
    table = pmd_pgtable(read_once(m.entry, pmd))
    pinned = table != 0 and percpu_tryget(m, cpu, table)
    rcu_read_unlock(m, cpu)
    if table == 0 or pinned:
        return table
    free_user_pte(m, cpu, pmd, table)
    return 0


@kernel
def percpu_entries(m, cpu, table, n):
    """n more entries of a table are not none. Locking: caller must hold the ptl and a reference."""
    rcu_read_lock(m, cpu)
    percpu_add(m, cpu, table, n)
    rcu_read_unlock(m, cpu)


@kernel
def percpu_put(m, cpu, pmd):
    """Leave the table at `pmd`. To be the last changes nothing. Locking: caller must hold a reference and no ptl."""
    rcu_read_lock(m, cpu)
    percpu_unpin(m, cpu, pmd, pmd_pgtable(read_once(m.entry, pmd)))
    rcu_read_unlock(m, cpu)


@kernel
def percpu_unpin(m, cpu, pmd, table):
    """Drop a reference on the table at `pmd`: True if the count is zero then. Locking: caller must be in a read
    section.
    """
    rcu_assert_held(m, cpu)
    if table == 0 or (detecting(m) and table != m.cpu.pin_table[cpu] and table != m.cpu.pin_outer[cpu]):
        BUG(m, cpu, BUG_PMD_CHANGED, pmd, m.cpu.pin_table[cpu], table)
    if detecting(m):
        check_use(m, cpu, table)
    return percpu_add(m, cpu, table, -1)


@kernel
def switch_to_atomic(m, cpu, table):
    """Have the count of a table in one word. Locking: caller must hold a reference, no spinlock, no read section."""
    might_sleep(m, cpu)
    if cmpxchg(m.ptnote.policy_word, table, PERCPU, SWITCHES) != PERCPU:
        return
    took(m, cpu, SWITCHED)
    point(m, cpu, SWITCHING, table, m.cpu_word[percpu_word(m, cpu, table)])
    synchronize_rcu(m, cpu)  # no CPU is between the look at the mode and its addition any more
    if stopped(m):
        return
    count = -bias(m)
    for other in range(m.config.n_cpu[0]):
        count += read_once(m.cpu_word, percpu_word(m, other, table))
        write_once(m.cpu_word, percpu_word(m, other, table), 0)
    atomic_add(m.ptdesc.pte_refcount, table, count)
    smp_store_release(m.ptnote.policy_word, table, ATOMIC)


@kernel
def switch_to_percpu(m, cpu, table):
    """Have the count of a table on each CPU again. Locking: caller must hold a reference."""
    if cmpxchg(m.ptnote.policy_word, table, ATOMIC, BACK) == ATOMIC:
        atomic_add(m.ptdesc.pte_refcount, table, bias(m))
        smp_store_release(m.ptnote.policy_word, table, PERCPU)


@kernel
def switch_back(m, cpu, pmd, table):
    """Nothing was to be freed: pin the table at `pmd` again, and have its count on each CPU.

    Locking: caller must be in a read section and hold no reference.
    """
    rcu_assert_held(m, cpu)
    point(m, cpu, UNPINNED, table, pmd)
    named = pmd_pgtable(read_once(m.entry, pmd))
    if named == 0 or not percpu_tryget(m, cpu, named):
        return
    note_pin(m, cpu, pmd, named)
    ours = table if knob(m.config.stale_table_after_switch) else named
    switch_to_percpu(m, cpu, ours)
    percpu_unpin(m, cpu, pmd, ours)


@kernel
def try_to_free_user_pte(m, cpu, pmd):
    """Leave the table at `pmd`, and free it if it has no other visitor and no entry.

    Locking: as switch_to_atomic.
    """
    table = pmd_pgtable(read_once(m.entry, pmd))
    switch_to_atomic(m, cpu, table)
    rcu_read_lock(m, cpu)
    zero = percpu_unpin(m, cpu, pmd, table)
    if not zero and DEBUG and m.config.switch_back[0] != 0:
        switch_back(m, cpu, pmd, table)
    rcu_read_unlock(m, cpu)
    if zero:
        free_user_pte(m, cpu, pmd, table)


@kernel_inline
def percpu_zapped(m, cpu, table, details):
    """A zap is at its end: MADV_DONTNEED, truncate and their like try to free the table when they leave it."""
    if details & (ZAP_DROP_MARKERS | ZAP_KEEP_COWS) == 0:
        m.cpu.emptied[cpu] = table


@kernel
def percpu_put_tlb(m, cpu, pmd):
    """Leave the table at `pmd`, with a gather open. Locking: as try_to_free_user_pte."""
    tries = m.cpu.emptied[cpu] != 0
    m.cpu.emptied[cpu] = 0
    if tries:
        try_to_free_user_pte(m, cpu, pmd)
    else:
        percpu_put(m, cpu, pmd)
