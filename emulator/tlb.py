"""What a CPU caches of the page tables, and how it is told to forget: TLB, paging-structure cache, flushes, IPIs, idle.

The TLB holds PTEs, the paging-structure cache PMD entries (the PTE table an address leads to). They are two things: a
flush of a range that freed no table leaves the second alone. Both are per CPU and nobody else touches them.

Who must be told of a flush of an mm: the CPUs that have it loaded and are not in lazy-TLB mode. mm.tlb_gen counts the
flushes; cpu.tlb_gen says up to which a CPU has followed.

    CPU that flushes                     CPU that goes idle and comes back
    ================                     =================================
    clear entries
    tlb_gen += 1     (full barrier)      lazy = 1
    lazy == 1?  then no IPI                 (sleeps; touches no user memory)
    lazy == 0?  then IPI, wait for       lazy = 0
      the ack or for lazy == 1           full barrier
                                         tlb_gen behind mm's?  then flush everything

Either the first sees lazy == 0 and interrupts, or the second sees the new tlb_gen and flushes before it can use a
stale entry. IPIs are sent by the flush agent (coordinator); a CPU takes them at each page it
accesses, at each table it zaps, between instructions and while it spins.

A CPU that loads another mm (switch_mm) is the same pattern: cpu.mm is in the place of lazy.
"""

from emulator.atomic import (
    DEBUG,
    atomic_add,
    atomic_add_return,
    cpu_relax,
    data_race,
    kernel,
    kernel_inline,
    knob,
    memset,
    read_once,
    sched_yield,
    sleep_on,
    smp_load_acquire,
    smp_mb,
    smp_mb__after_atomic,
    smp_mb__before_atomic,
    smp_store_release,
    wake_all,
    write_once,
)
from emulator.kernel import Wait, waits_for
from emulator.mm_types import PSC_ENTRIES, TLB_ENTRIES
from emulator.points import POINTS_PASS, begin_steering, pass_point, point_noirq, point_number, steered

EPOCH_BITS = 20
EPOCH_MAX = (1 << EPOCH_BITS) - 1
FLUSH_CEILING = 33  # pages; above that the whole TLB goes, Linux's tlb_single_page_flush_ceiling
NONE, REQUESTED, DONE = 0, 1, 2  # cpu.flush_state
NAP_US = 2000
_YIELD, _SLEEP = 100, 120

WAIT_FLUSH, WAIT_IRQ, WAIT_NOTHING = int(Wait.FLUSH), int(Wait.IRQ_OFF), int(Wait.NOTHING)
IPI_TAKEN, IPI_FLUSHED = point_number("ipi.taken"), point_number("ipi.flushed")
FLUSH_REQUESTED = point_number("flush.requested")
IPIS_SENT, ACKED = point_number("coordinator.ipis-sent"), point_number("coordinator.acked")


@kernel_inline
def tlb_lookup(m, cpu, addr):
    """The cached PTE for `addr`, or 0."""
    page = addr >> 12
    slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
    if m.tlb.tag[slot] == (page << EPOCH_BITS | m.cpu.tlb_epoch[cpu]):
        return m.tlb.entry[slot]
    return 0


@kernel_inline
def tlb_fill(m, cpu, addr, entry):
    """Cache the PTE `entry` for `addr`."""
    page = addr >> 12
    slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
    m.tlb.tag[slot] = page << EPOCH_BITS | m.cpu.tlb_epoch[cpu]
    m.tlb.entry[slot] = entry
    if DEBUG:
        m.tlb_generation[slot] = m.page.generation[entry >> 12]


@kernel_inline
def psc_lookup(m, cpu, addr):
    """The cached PTE table for `addr`, or 0."""
    region = addr >> 21
    slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
    if m.psc.tag[slot] == (region << EPOCH_BITS | m.cpu.psc_epoch[cpu]):
        return m.psc.table[slot]
    return 0


@kernel_inline
def psc_fill(m, cpu, addr, table):
    """Cache that `addr` leads to the PTE table `table`."""
    region = addr >> 21
    slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
    m.psc.tag[slot] = region << EPOCH_BITS | m.cpu.psc_epoch[cpu]
    m.psc.table[slot] = table
    if DEBUG:
        m.psc_generation[slot] = m.ptdesc.generation[table]


@kernel_inline
def forget(m, cpu, addr):
    """Drop what is cached for `addr`: a page fault does that (Intel SDM 4.10.4.1)."""
    m.tlb.tag[cpu * TLB_ENTRIES + (addr >> 12 & (TLB_ENTRIES - 1))] = 0
    m.psc.tag[cpu * PSC_ENTRIES + (addr >> 21 & (PSC_ENTRIES - 1))] = 0


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
    if end - start > m.config.flush_ceiling[0] << 12 or m.cpu.tlb_gen[cpu] + 1 != gen:
        tlb_flush_all(m, cpu)
        m.cpu.tlb_gen[cpu] = max(m.cpu.tlb_gen[cpu], gen)
        return
    addr = start
    while addr < end:
        page = addr >> 12
        slot = cpu * TLB_ENTRIES + (page & (TLB_ENTRIES - 1))
        if m.tlb.tag[slot] >> EPOCH_BITS == page:
            m.tlb.tag[slot] = 0
        addr += 4096
    if freed_tables:
        for region in range(start >> 21, ((end - 1) >> 21) + 1):
            slot = cpu * PSC_ENTRIES + (region & (PSC_ENTRIES - 1))
            if m.psc.tag[slot] >> EPOCH_BITS == region:
                m.psc.tag[slot] = 0
    m.cpu.tlb_gen[cpu] = gen


@kernel
def handle_ipi(m, cpu):
    """The interrupt itself: flush what the IPI says and acknowledge it.

    A CPU that was lazy may find the agent writing the next range into a request it has not answered. What it flushes
    then may be a mix; it acknowledges the old number only, and the next has an old tlb_gen, so it flushes everything.
    """
    request = smp_load_acquire(m.cpu.ipi_request, cpu)  # pairs with the release in flush_agent
    point_noirq(m, cpu, IPI_TAKEN, request, data_race(m.cpu.ipi_gen, cpu))
    if data_race(m.cpu.ipi_mm, cpu) == m.cpu.mm[cpu]:  # else it has loaded another since, and flushed everything
        start, end = data_race(m.cpu.ipi_start, cpu), data_race(m.cpu.ipi_end, cpu)
        flush_tlb_func(m, cpu, start, end, data_race(m.cpu.ipi_freed, cpu), data_race(m.cpu.ipi_gen, cpu))
    m.cpu.ipis[cpu] += 1
    point_noirq(m, cpu, IPI_FLUSHED, request, m.cpu.tlb_gen[cpu])
    smp_store_release(m.cpu.ipi_ack, cpu, request)
    coordinator_wake(m)


@kernel_inline
def interrupted(m, cpu):
    """True if a TLB-flush IPI is pending and interrupts are not off, or a flush is no interrupt on this machine."""
    if read_once(m.cpu.ipi_request, cpu) == m.cpu.ipi_ack[cpu]:
        return False
    return m.cpu.irq_off[cpu] == 0 or (DEBUG and m.config.broadcast_flush[0] != 0)


@kernel_inline
def take_interrupts(m, cpu):
    """Take a pending TLB-flush IPI, unless interrupts are off."""
    if interrupted(m, cpu):
        handle_ipi(m, cpu)


@kernel_inline
def local_irq_disable(m, cpu):
    """Take no interrupt until local_irq_enable: a flush of what this CPU may be looking at waits."""
    write_once(m.cpu.irq_off, cpu, m.cpu.irq_off[cpu] + 1)
    smp_mb()  # pairs with the barrier in tlb_remove_table_sync_one


@kernel_inline
def local_irq_enable(m, cpu):
    """Take interrupts again, a pending one at once."""
    smp_store_release(m.cpu.irq_off, cpu, m.cpu.irq_off[cpu] - 1)
    take_interrupts(m, cpu)


@kernel
def steer(m, cpu, at):
    """Wait at a point until another CPU passes the other one, or too long; take interrupts meanwhile."""
    hits, until = begin_steering(m, cpu, at)
    while not steered(m, cpu, at, hits, until):
        take_interrupts(m, cpu)


@kernel_inline
def point(m, cpu, at, subject, value):
    """Pass the point `at`, and take interrupts as the processor does anywhere. Nothing in the plain build."""
    if POINTS_PASS:
        wait = pass_point(m, cpu, at, subject, value)
        take_interrupts(m, cpu)
        if wait:
            steer(m, cpu, at)
    elif DEBUG:  # the explorer sees every access; what it needs of a point are the interrupts, however many
        while interrupted(m, cpu):
            handle_ipi(m, cpu)


@kernel
def coordinator_wake(m):
    """Wake the coordinator if it sleeps."""
    smp_mb__before_atomic()  # what it is woken for comes first
    atomic_add(m.rcu.wake, 0, 1)
    smp_mb__after_atomic()  # pairs with the barrier between asleep and wake in coordinator_loop and wait_for_ack
    if read_once(m.rcu.asleep, 0) != 0:
        wake_all(m, m.rcu.wake, 0)


@kernel
def leave_lazy_tlb(m, cpu):
    """Use user memory again: catch up with the flushes that were not sent here."""
    write_once(m.cpu.lazy, cpu, 0)
    smp_mb()  # pairs with atomic_add_return in flush_tlb_mm_range
    take_interrupts(m, cpu)
    mm = m.cpu.mm[cpu]
    if mm >= 0:
        gen = read_once(m.mm.tlb_gen, mm)
        if gen != m.cpu.tlb_gen[cpu]:
            tlb_flush_all(m, cpu)
            m.cpu.tlb_gen[cpu] = gen
            m.cpu.flushes_late[cpu] += 1


@kernel
def switch_mm(m, cpu, mm):
    """Load another mm. Tags of one mm at a time: everything cached goes.

        CPU that flushes mm A                CPU that loads A                     CPU that leaves A
        =====================                ================                     =================
        clear entries                        cpu.mm = A                           cpu.mm = B
        tlb_gen of A += 1 (full barrier)     full barrier                         full barrier
        cpu.mm == A?  then IPI               read tlb_gen of A                    flush everything
                      else nothing           flush everything                     IPI for A on its way: only an ack

    Whoever is not seen with A loaded walks A after the entries were cleared, or has nothing of A cached when it next
    accesses memory. Locking: caller must hold nothing and not be lazy. Source: switch_mm_irqs_off, arch/x86/mm/tlb.c.
    """
    smp_store_release(m.cpu.mm, cpu, mm)  # what it accessed of the other mm comes first; pairs with has_remote_cpu
    smp_mb()  # pairs with atomic_add_return in flush_tlb_mm_range
    gen = read_once(m.mm.tlb_gen, mm)
    tlb_flush_all(m, cpu)
    m.cpu.tlb_gen[cpu] = gen


@kernel
def enter_idle(m, cpu):
    """Stop using user memory and RCU-protected objects: no flush and no grace period waits for this CPU.

    Locking: caller must be outside of rcu_read_lock.
    """
    smp_store_release(m.cpu.lazy, cpu, 1)  # user accesses come first; pairs with the acquires of lazy
    smp_store_release(m.cpu.idle, cpu, 1)
    smp_mb()
    take_interrupts(m, cpu)  # one that was sent before the agent could see lazy: answer, or it waits for a nap


@kernel
def exit_idle(m, cpu):
    """Come back from enter_idle."""
    write_once(m.cpu.idle, cpu, 0)
    leave_lazy_tlb(m, cpu)  # its barrier orders idle before any later read, too


@kernel
def has_remote_cpu(m, cpu, mm):
    """True if another CPU has `mm` loaded and is not lazy."""
    for other in range(m.config.n_cpu[0]):
        if other != cpu and smp_load_acquire(m.cpu.mm, other) == mm and smp_load_acquire(m.cpu.lazy, other) == 0:
            return True
    return False


@kernel
def flush_tlb_others(m, cpu, mm, start, end, freed_tables, gen):
    """Hand a flush of `mm` to the flush agent and sleep until all other CPUs that run it have carried it out."""
    m.cpu.flush_mm[cpu] = mm
    m.cpu.flush_start[cpu] = start
    m.cpu.flush_end[cpu] = end
    m.cpu.flush_freed[cpu] = freed_tables
    m.cpu.flush_gen[cpu] = gen
    smp_store_release(m.cpu.flush_state, cpu, REQUESTED)  # pairs with the acquire in flush_agent
    coordinator_wake(m)
    point(m, cpu, FLUSH_REQUESTED, start, gen)
    waits_for(m, cpu, WAIT_FLUSH, gen)
    write_once(m.cpu.lazy, cpu, 1)  # two CPUs that flush need not wait for each other
    smp_mb()
    take_interrupts(m, cpu)
    turns = 0
    while smp_load_acquire(m.cpu.flush_state, cpu) != DONE:
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        elif turns < _SLEEP:
            sched_yield()
        else:
            wake = read_once(m.cpu.wake, cpu)
            write_once(m.cpu.wake_sleepers, cpu, 1)
            smp_mb()
            if smp_load_acquire(m.cpu.flush_state, cpu) != DONE:
                m.cpu.sleeps[cpu] += 1
                sleep_on(m, cpu, m.cpu.wake, cpu, wake, NAP_US)
            write_once(m.cpu.wake_sleepers, cpu, 0)
    smp_store_release(m.cpu.flush_state, cpu, NONE)
    leave_lazy_tlb(m, cpu)
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def flush_tlb_mm_range(m, cpu, mm, start, end, freed_tables):
    """Make every CPU forget its translations of [start, end) of `mm`; its table pointers too if tables were freed.

    This CPU may run another mm: it has none of them then. CPUs in lazy-TLB mode forget before they use any again.

    Locking: caller must be outside of rcu_read_lock. Source: flush_tlb_mm_range, arch/x86/mm/tlb.c.
    """
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
    """Wait until each CPU has had its interrupts on: whoever looked at a table without a lock is done with it.

    An IPI to all of them, which they take once interrupts are on; here the look takes its place. A flush whose IPIs
    have been acknowledged says the same of the CPUs that run the mm; one that reaches CPUs in another way (setting
    broadcast_flush) does not. Locking: caller must hold no spinlock. Source: mm/mmu_gather.c.
    """
    smp_mb()  # what it has cleared comes first; pairs with the barrier in local_irq_disable
    for other in range(m.config.n_cpu[0]):
        waits_for(m, cpu, WAIT_IRQ, other)
        while other != cpu and smp_load_acquire(m.cpu.irq_off, other) != 0:
            take_interrupts(m, cpu)
            cpu_relax()
            sched_yield()
    waits_for(m, cpu, WAIT_NOTHING, 0)


@kernel
def flush_agent(m, me):
    """Serve one round of flush requests: IPI the CPUs concerned, wait for their acks, release the callers.

    Returns the number served. Runs in the coordinator, whose row of `cpu` is `me`.
    """
    served = 0
    for caller in range(m.config.n_cpu[0]):
        if smp_load_acquire(m.cpu.flush_state, caller) != REQUESTED:
            continue
        mm = m.cpu.flush_mm[caller]
        m.rcu.remote_flushes[0] += 1
        for target in range(m.config.n_cpu[0]):
            if (
                target == caller
                or smp_load_acquire(m.cpu.mm, target) != mm
                or smp_load_acquire(m.cpu.lazy, target) != 0
            ):
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
        point_noirq(m, me, ACKED, caller, m.cpu.flush_gen[caller])
        smp_store_release(m.cpu.flush_state, caller, DONE)
        smp_mb__before_atomic()
        atomic_add(m.cpu.wake, caller, 1)
        smp_mb__after_atomic()  # pairs with the barrier between wake_sleepers and flush_state in flush_tlb_others
        if read_once(m.cpu.wake_sleepers, caller) != 0:
            wake_all(m, m.cpu.wake, caller)
        served += 1
    return served


@kernel
def wait_for_ack(m, me, target):
    """Wait until `target` has handled its IPI, or is lazy and will catch up by itself."""
    turns = 0
    while True:
        wake = read_once(m.rcu.wake, 0)
        if smp_load_acquire(m.cpu.ipi_ack, target) == m.cpu.ipi_request[target]:
            return
        if smp_load_acquire(m.cpu.lazy, target) != 0:
            return
        turns += 1
        if turns < _YIELD:
            cpu_relax()
        else:
            write_once(m.rcu.asleep, 0, 1)
            smp_mb()
            if read_once(m.rcu.wake, 0) == wake:
                sleep_on(m, me, m.rcu.wake, 0, wake, NAP_US)
            write_once(m.rcu.asleep, 0, 0)
