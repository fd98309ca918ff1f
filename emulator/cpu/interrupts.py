"""TLB-flush IPIs and when a CPU takes them; `point`, which takes them too.

IPIs are sent by the flush agent (flush.py). A CPU takes them at each page it accesses, at each table it zaps, between
instructions and while it spins.
"""

from emulator.atomic import (
    DEBUG,
    POINTS_PASS,
    data_race,
    kernel,
    kernel_inline,
    read_once,
    smp_load_acquire,
    smp_mb,
    smp_store_release,
    write_once,
)
from emulator.cpu.tlb import flush_tlb_func
from emulator.cpu.wait import wake_up
from emulator.watch.pass_point import begin_steering, pass_point, point_noirq, steered
from emulator.watch.points import point_number

IPI_FLUSHED = point_number("ipi.flushed")
IPI_TAKEN = point_number("ipi.taken")


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
    wake_up(m, m.rcu.wake, m.rcu.asleep, 0)  # coordinator_loop has a barrier of its own between asleep and wake
