"""Flushes of other CPUs, handed to the flush agent in the coordinator.

A flush of an mm concerns the CPUs that have it loaded and are not in lazy-TLB mode. mm.tlb_gen counts the flushes;
cpu.tlb_gen says up to which a CPU has followed.

    CPU that flushes                     CPU that goes idle and comes back
    ================                     =================================
    clear entries
    tlb_gen += 1     (full barrier)      lazy = 1
    lazy == 1?  then no IPI                 (sleeps; touches no user memory)
    lazy == 0?  then IPI, wait for       lazy = 0
      the ack or for lazy == 1           full barrier
                                         tlb_gen behind mm's?  then flush everything

Either the first sees lazy == 0 and interrupts, or the second sees the new tlb_gen and flushes before it can use a
stale entry.

A CPU that loads another mm (idle.py:switch_mm) is the same pattern: cpu.mm is in the place of lazy.
"""

from emulator.atomic import (
    atomic_add_return,
    cpu_relax,
    kernel,
    knob,
    sched_yield,
    smp_load_acquire,
    smp_mb,
    smp_store_release,
    write_once,
)
from emulator.bug import waits_for
from emulator.cpu.idle import leave_lazy_tlb
from emulator.cpu.interrupts import coordinator_wake, point, take_interrupts
from emulator.cpu.tlb import flush_tlb_func
from emulator.cpu.wait import wait_on, wake_up
from emulator.mm_types import FLUSH_DONE, FLUSH_NONE, FLUSH_PENDING
from emulator.watch.lockdep import might_sleep, rcu_assert_not_held
from emulator.watch.pass_point import perturb_here, point_noirq
from emulator.watch.points import point_number
from emulator.watch.waits import Wait

ACKED = point_number("coordinator.acked")
FLUSH_REQUESTED = point_number("flush.requested")
IPIS_SENT = point_number("coordinator.ipis-sent")
WAIT_FLUSH = int(Wait.FLUSH)
WAIT_IRQ = int(Wait.IRQ_OFF)
WAIT_NOTHING = int(Wait.NOTHING)

_YIELD, _SLEEP = 100, 120


@kernel
def has_remote_cpu(m, cpu, mm):
    """True if another CPU has `mm` loaded and is not lazy."""
    for other in range(m.config.n_cpu[0]):
        if other != cpu and smp_load_acquire(m.cpu.mm, other) == mm and smp_load_acquire(m.cpu.lazy, other) == 0:
            return True
    return False


@kernel
def note_flush(m, cpu, mm, start, end, freed_tables, gen):
    """Write down the flush that this CPU, or the coordinator, is about to ask for."""
    m.cpu.flush_mm[cpu] = mm
    m.cpu.flush_start[cpu] = start
    m.cpu.flush_end[cpu] = end
    m.cpu.flush_freed[cpu] = freed_tables
    m.cpu.flush_gen[cpu] = gen


@kernel
def flush_tlb_others(m, cpu, mm, start, end, freed_tables, gen):
    """Hand a flush of `mm` to the flush agent and sleep until all other CPUs that run it have carried it out."""
    note_flush(m, cpu, mm, start, end, freed_tables, gen)
    smp_store_release(m.cpu.flush_state, cpu, FLUSH_PENDING)  # pairs with the acquire in flush_agent
    coordinator_wake(m)
    point(m, cpu, FLUSH_REQUESTED, start, gen)
    waits_for(m, cpu, WAIT_FLUSH, gen)
    write_once(m.cpu.lazy, cpu, 1)  # two CPUs that flush need not wait for each other
    smp_mb()
    take_interrupts(m, cpu)
    turns = 0
    while smp_load_acquire(m.cpu.flush_state, cpu) != FLUSH_DONE:
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        elif turns < _SLEEP:
            sched_yield()
        else:
            wake = smp_load_acquire(m.cpu.wake, cpu)
            if smp_load_acquire(m.cpu.flush_state, cpu) != FLUSH_DONE:
                wait_on(m, cpu, m.cpu.wake, m.cpu.wake_sleepers, cpu, wake)
    smp_store_release(m.cpu.flush_state, cpu, FLUSH_NONE)
    leave_lazy_tlb(m, cpu)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def flush_tlb_mm_range(m, cpu, mm, start, end, freed_tables):
    """Make every CPU forget its translations of [start, end) of `mm`; its table pointers too if tables were freed.

    This CPU may run another mm: it has none of them then. CPUs in lazy-TLB mode forget before they use any again.

    Locking: caller must be outside of rcu_read_lock. Source: flush_tlb_mm_range, arch/x86/mm/tlb.c.
    """
    rcu_assert_not_held(m, cpu)
    perturb_here(m, cpu)
    if knob(m.config.leaf_only_flush):
        freed_tables = 0
    gen = atomic_add_return(m.mm.tlb_gen, mm, 1)
    if m.cpu.mm[cpu] == mm:
        flush_tlb_func(m, cpu, start, end, freed_tables, gen)
    if has_remote_cpu(m, cpu, mm):
        m.cpu.flushes_remote[cpu] += 1
        flush_tlb_others(m, cpu, mm, start, end, freed_tables, gen)
    else:
        m.cpu.flushes_local[cpu] += 1


@kernel
def tlb_remove_table_sync_one(m, cpu):
    """Wait until each CPU has had its interrupts on: a CPU that looked at a table without a lock is done with it.

    An IPI to all of them, which they take once interrupts are on; here the look takes its place. A flush whose IPIs
    have been acknowledged says the same of the CPUs that run the mm. One that reaches CPUs in another way (setting
    broadcast_flush) does not. Locking: caller must hold no spinlock. Source: mm/mmu_gather.c.
    """
    might_sleep(m, cpu)
    smp_mb()  # what it has cleared comes first; pairs with the barrier in local_irq_disable
    for other in range(m.config.n_cpu[0]):
        waits_for(m, cpu, WAIT_IRQ, other)
        while other != cpu and smp_load_acquire(m.cpu.irq_off, other) != 0:
            take_interrupts(m, cpu)
            cpu_relax()
            sched_yield()
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def serve_flush(m, me, caller):
    """Send the IPIs of a flush that `caller` has written down, and wait for their acks. Runs in the coordinator."""
    mm = m.cpu.flush_mm[caller]
    m.rcu.remote_flushes[0] += 1
    for target in range(m.config.n_cpu[0]):
        if target == caller or smp_load_acquire(m.cpu.mm, target) != mm or smp_load_acquire(m.cpu.lazy, target) != 0:
            continue
        m.cpu.ipi_mm[target] = mm
        m.cpu.ipi_start[target] = m.cpu.flush_start[caller]
        m.cpu.ipi_end[target] = m.cpu.flush_end[caller]
        m.cpu.ipi_freed[target] = m.cpu.flush_freed[caller]
        m.cpu.ipi_gen[target] = m.cpu.flush_gen[caller]
        m.rcu.ipis[0] += 1
        smp_store_release(m.cpu.ipi_request, target, m.cpu.ipi_request[target] + 1)
    smp_mb()  # the requests before the look at lazy in wait_for_ack; pairs with the barrier in enter_idle
    point_noirq(m, me, IPIS_SENT, caller, m.cpu.flush_gen[caller])
    for target in range(m.config.n_cpu[0]):
        wait_for_ack(m, me, target)


@kernel
def flush_by_coordinator(m, me, mm, start, end):
    """flush_tlb_mm_range of unhooked tables, by the coordinator itself, whose row of `cpu` is `me`."""
    note_flush(m, me, mm, start, end, 1, atomic_add_return(m.mm.tlb_gen, mm, 1))
    serve_flush(m, me, me)


@kernel
def flush_agent(m, me):
    """Serve one round of flush requests: IPI the CPUs concerned, wait for their acks, release the callers.

    Returns the number served. Runs in the coordinator, whose row of `cpu` is `me`.
    """
    served = 0
    for caller in range(m.config.n_cpu[0]):
        if smp_load_acquire(m.cpu.flush_state, caller) != FLUSH_PENDING:
            continue
        serve_flush(m, me, caller)
        point_noirq(m, me, ACKED, caller, m.cpu.flush_gen[caller])
        smp_store_release(m.cpu.flush_state, caller, FLUSH_DONE)
        wake_up(m, m.cpu.wake, m.cpu.wake_sleepers, caller)
        served += 1
    return served


@kernel
def wait_for_ack(m, me, target):
    """Wait until `target` has handled its IPI, or is lazy and will catch up by itself."""
    turns = 0
    while True:
        wake = smp_load_acquire(m.rcu.wake, 0)
        if smp_load_acquire(m.cpu.ipi_ack, target) == m.cpu.ipi_request[target]:
            return
        if smp_load_acquire(m.cpu.lazy, target) != 0:
            return
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        else:
            wait_on(m, me, m.rcu.wake, m.rcu.asleep, 0, wake)
