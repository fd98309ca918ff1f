"""Grace periods (QSBR): a table's memory returns only when no CPU can still hold a pointer it read before.

A reader costs nothing: rcu_read_lock counts a private word. A CPU reports a quiescent state at each page and each
instruction, when it is outside of any read section, by copying gp_seq. A CPU that sleeps is idle and counts as
quiescent. Callbacks are tables: call_rcu pushes one on the CPU's list, the coordinator takes all lists, runs a grace
period and frees them.

    reader (pte_try_get)              freer (free_pte_table)           coordinator
    ====================              ======================           ===========
    rcu_read_lock()
    table = *pmd
                                      *pmd = none
                                      flush TLBs
                                      call_rcu(table)
                                                                       take the lists
                                                                       gp_seq += 1
    inc_not_zero(table's count)                                        reader's rcu_qs < gp_seq: wait
      -> fails, the count is 0
    rcu_read_unlock()
    page boundary: rcu_qs = gp_seq                                     all CPUs there: free, poison

A table is on a list only after it was unhooked, and gp_seq moves only after the list was taken. So a CPU that copies
the new gp_seq cannot have read the old pmd since.
"""

from emulator.atomic import (
    atomic_add,
    cmpxchg,
    data_race,
    kernel,
    kernel_inline,
    knob,
    now_ns,
    read_once,
    smp_load_acquire,
    smp_mb,
    smp_mb__after_atomic,
    smp_store_release,
    wake_all,
    write_once,
    xchg,
)
from emulator.bug import BUG, detecting, stopped, waits_for
from emulator.cpu.idle import enter_idle, exit_idle
from emulator.cpu.interrupts import coordinator_wake, point, take_interrupts
from emulator.cpu.wait import wait_on, wake_up
from emulator.locking.spinlock import ZONE_LOCK, spin_lock, spin_unlock
from emulator.mm_types import GP_BUCKETS, RCU_AGES, TABLES
from emulator.pages.page_alloc import poison_table
from emulator.pgtable_types import TABLE_INSTALLED, TABLE_LIMBO, TABLE_UNHOOKED
from emulator.watch.bugs import Bug
from emulator.watch.lockdep import might_sleep, rcu_assert_held, rcu_assert_not_held
from emulator.watch.pass_point import mark_life, point_noirq
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

WAIT_GRACE_PERIOD, WAIT_NOTHING = int(Wait.GRACE_PERIOD), int(Wait.NOTHING)

BUG_DOUBLE_FREE = int(Bug.TABLE_DOUBLE_FREE)
BUG_FREED_UNDER_READER = int(Bug.FREED_UNDER_RCU_READER)
CALL_RCU_QUEUED = point_number("call_rcu.queued")
CALLBACKS_TAKEN = point_number("coordinator.callbacks")
GP_ENDED = point_number("coordinator.gp-ended")


@kernel_inline
def rcu_read_lock(m, cpu):
    """Enter a read section: no table this CPU can see returns to the pool before it leaves."""
    m.cpu.rcu_nesting[cpu] += 1


@kernel_inline
def rcu_read_unlock(m, cpu):
    """Leave a read section."""
    m.cpu.rcu_nesting[cpu] -= 1


@kernel_inline
def rcu_qs(m, cpu):
    """Report a quiescent state. Locking: caller must be outside of rcu_read_lock."""
    rcu_assert_not_held(m, cpu)
    seq = smp_load_acquire(m.rcu.gp_seq, 0)
    if m.cpu.rcu_qs[cpu] != seq:
        smp_store_release(m.cpu.rcu_qs, cpu, seq)


@kernel_inline
def cond_resched(m, cpu):
    """A point inside the kernel where nothing is held: take interrupts, report a quiescent state."""
    take_interrupts(m, cpu)
    if m.cpu.rcu_nesting[cpu] == 0:
        rcu_qs(m, cpu)


@kernel
def account_rcu_age(m, cpu, table, generation):
    """At the end of a read section that found `table` at `generation`: how many grace periods ago was it removed?

    0 while it is installed, 1 for a grace period that had begun before; more is a BUG.

    Locking: caller must be inside of rcu_read_lock. Source: rcutorture.
    """
    rcu_assert_held(m, cpu)
    age = 0
    if m.ptdesc.generation[table] != generation:
        age = RCU_AGES - 1
    elif smp_load_acquire(m.ptdesc.state, table) != TABLE_INSTALLED:  # before gp_seq; pairs with unhook_pte_table
        age = min(read_once(m.rcu.gp_completed, 0) - m.ptnote.gp_seq[table], RCU_AGES - 1)
    atomic_add(m.rcu_age.count, age, 1)
    if age > 1:
        BUG(m, cpu, BUG_FREED_UNDER_READER, table, 1, age)


@kernel
def call_rcu(m, cpu, table):
    """Free `table` after a grace period. The coordinator is woken only if it sleeps for want of work."""
    call_rcu_on(m, cpu, cpu, table)


@kernel
def call_rcu_on(m, cpu, list_, table):
    """call_rcu by the list of another CPU: the coordinator has none of its own."""
    if detecting(m) and m.ptdesc.state[table] != TABLE_UNHOOKED:
        BUG(m, cpu, BUG_DOUBLE_FREE, table, m.ptdesc.generation[table], m.ptdesc.state[table])
    smp_store_release(m.ptdesc.state, table, TABLE_LIMBO)  # a reader that sees it looks at gp_seq: account_rcu_age
    mark_life(m, cpu, m.life.deferred, table)
    m.cpu.tables_deferred[cpu] += 1
    while True:
        head = read_once(m.cpu.cb_head, list_)
        m.ptdesc.next[table] = head
        if cmpxchg(m.cpu.cb_head, list_, head, table) == head:
            break
    if head == 0 and read_once(m.rcu.asleep, 0) == 2:
        coordinator_wake(m)
    point(m, cpu, CALL_RCU_QUEUED, table, data_race(m.ptdesc.generation, table))


@kernel
def synchronize_rcu(m, cpu):
    """Wait until every read section that is open now has ended. This CPU is idle meanwhile: nobody waits for it.

    Locking: caller must hold no spinlock and be outside of rcu_read_lock. Source: synchronize_rcu, kernel/rcu/tree.c.
    """
    might_sleep(m, cpu)
    atomic_add(m.rcu.synchronizing, 0, 1)
    smp_mb__after_atomic()  # what was unhooked comes first; pairs with the barrier in grace_period_agent
    goal = read_once(m.rcu.gp_seq, 0) + 1  # one that is running may have begun before
    waits_for(m, cpu, WAIT_GRACE_PERIOD, goal)
    coordinator_wake(m)
    while not stopped(m):
        seen = smp_load_acquire(m.rcu.sync_seq, 0)
        if smp_load_acquire(m.rcu.gp_completed, 0) >= goal:
            break
        enter_idle(m, cpu)
        wait_on(m, cpu, m.rcu.sync_seq, m.rcu.sync_sleepers, 0, seen)
        exit_idle(m, cpu)
    atomic_add(m.rcu.synchronizing, 0, -1)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def all_quiescent(m, seq):
    """True once every CPU has been quiescent since grace period `seq` began."""
    cpus = m.config.n_cpu[0]
    if knob(m.config.gp_ignores_reader):
        cpus -= 1
    for cpu in range(cpus):
        if smp_load_acquire(m.cpu.rcu_qs, cpu) < seq and smp_load_acquire(m.cpu.idle, cpu) == 0:
            return False
    return True


@kernel
def take_callbacks(m):
    """Move the callback list of each CPU to its cb_taken, unless something is there. Noted first, then taken: a
    coordinator that finds the note sees by the list whether it was.
    """
    for cpu in range(m.config.n_cpu[0]):
        head = read_once(m.cpu.cb_head, cpu)
        if head == 0 or m.cpu.cb_taken[cpu] != 0:
            continue
        if knob(m.config.callbacks_in_hand):
            write_once(m.cpu.cb_taken, cpu, xchg(m.cpu.cb_head, cpu, 0))
            continue
        write_once(m.cpu.cb_taken, cpu, head)
        while cmpxchg(m.cpu.cb_head, cpu, head, 0) != head:
            head = read_once(m.cpu.cb_head, cpu)
            write_once(m.cpu.cb_taken, cpu, head)


@kernel
def first_taken(m):
    """A table of the callbacks that were taken, or 0."""
    for cpu in range(m.config.n_cpu[0]):
        if m.cpu.cb_taken[cpu] != 0:
            return m.cpu.cb_taken[cpu]
    return 0


@kernel
def free_taken_bulk(m, me, cpu):
    """Move up to a batch of poisoned tables from a CPU's taken callbacks to the zone, each there before it leaves here.

    Locking: takes and releases the zone lock, under which both happen.
    """
    spin_lock(m, me, m.zone.lock, TABLES, ZONE_LOCK)
    table = m.cpu.cb_taken[cpu]
    for _ in range(m.zone.batch[TABLES]):
        if table != 0:
            count = m.zone.count[TABLES]
            m.zone_slot[m.zone.slots[TABLES] + count] = table
            smp_store_release(m.zone.count, TABLES, count + 1)
            table = m.ptdesc.next[table]
            smp_store_release(m.cpu.cb_taken, cpu, table)
            m.rcu.freed[0] += 1
    spin_unlock(m, me, m.zone.lock, TABLES, ZONE_LOCK)


@kernel
def account_limbo(m):
    """Note how many tables wait for a grace period, if they were never more."""
    waiting = -m.rcu.freed[0]
    for cpu in range(m.config.n_cpu[0] + 1):
        waiting += data_race(m.cpu.tables_deferred, cpu)
    m.rcu.limbo_peak[0] = max(m.rcu.limbo_peak[0], waiting)


@kernel
def rcu_free_done(m, me):
    """Free the tables whose grace period has ended: poison them, then hand them to the zone."""
    account_limbo(m)
    point_noirq(m, me, GP_ENDED, first_taken(m), m.rcu.gp_seq[0])
    for cpu in range(m.config.n_cpu[0]):
        table = m.cpu.cb_taken[cpu]
        while table != 0:
            poison_table(m, me, table)
            table = m.ptdesc.next[table]
        while m.cpu.cb_taken[cpu] != 0:
            free_taken_bulk(m, me, cpu)


@kernel
def account_grace_period(m, nanoseconds):
    """Enter one latency into the histogram."""
    m.rcu.gp_sum_ns[0] += nanoseconds
    m.rcu.gp_max_ns[0] = max(m.rcu.gp_max_ns[0], nanoseconds)
    bucket = 0
    while nanoseconds > 1 and bucket < GP_BUCKETS - 1:
        nanoseconds >>= 1
        bucket += 1
    m.gp_histogram.count[bucket] += 1


@kernel
def grace_period_agent(m, me):
    """Move grace periods along without waiting. Returns 0 if there is nothing to do, 1 waiting for CPUs, 2 moved."""
    seq = m.rcu.gp_seq[0]
    if seq == m.rcu.gp_completed[0]:
        if not wanted(m) and m.rcu.taking[0] == 0:  # set still: the last coordinator died over it
            return 0
        write_once(m.rcu.taking, 0, 1)
        take_callbacks(m)
        point_noirq(m, me, CALLBACKS_TAKEN, first_taken(m), seq)
        m.rcu.gp_start_ns[0] = now_ns(m, me)
        seq += 1
        smp_store_release(m.rcu.gp_seq, 0, seq)
        smp_mb()  # pairs with the barrier in exit_idle
        write_once(m.rcu.taking, 0, 0)
    if not all_quiescent(m, seq):
        return 1
    account_grace_period(m, now_ns(m, me) - m.rcu.gp_start_ns[0])
    rcu_free_done(m, me)
    smp_store_release(m.rcu.gp_completed, 0, seq)
    if read_once(m.rcu.synchronizing, 0) != 0:
        wake_up(m, m.rcu.sync_seq, m.rcu.sync_sleepers, 0)
    if xchg(m.rcu.hurry, 0, 0) != 0:
        wake_all(m, m.rcu.gp_completed, 0)  # alloc_slowpath waits for memory
    return 2


@kernel
def wanted(m):
    """True if somebody needs a grace period: a CPU has queued a callback, or waits in synchronize_rcu."""
    if read_once(m.rcu.synchronizing, 0) != 0:
        return True
    for cpu in range(m.config.n_cpu[0]):
        if read_once(m.cpu.cb_head, cpu) != 0:
            return True
    return False
