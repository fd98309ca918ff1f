"""What a CPU does at a named point (debug build).

It writes one line of its trace, stands still if the machine is frozen, and then does what the run asks for. That is a
random delay (--perturb), a wait until another CPU passes another point, or a signal to itself (--kill, --stall). Such
waits are steering: they lay two windows over each other. `point` in interrupts.py takes interrupts on top, as the
processor does anywhere. `point_noirq` is for where it does not: inside one instruction, in an interrupt, in the
coordinator.
"""

from emulator.atomic import (
    POINTS_PASS,
    atomic_add,
    cpu_relax,
    get_cycles,
    kernel,
    kernel_inline,
    now_ns,
    raise_signal,
    read_once,
    sched_yield,
    sleep_on,
    write_once,
)
from emulator.bug import park
from emulator.mm_types import TRACE_ENTRIES

STARVE_ONE_IN = 4096  # of the delays one in so many is a starvation: the CPU sleeps
STARVE_US = 1500
SHORT_DELAY_BITS = 9  # a random delay is up to 2 to this many pauses


@kernel_inline
def since_start(m, cpu):
    """Cycles since the machine was started."""
    return get_cycles(m, cpu) - m.run.start_cycles[0]


@kernel_inline
def mark_life(m, cpu, event, table):
    """Enter an event into the life of a table: `event` is a field of m.life."""
    if POINTS_PASS:
        event[table] = since_start(m, cpu) << 10 | (cpu + 1)


@kernel
def next_random(m, cpu):
    """This CPU's next random number, 62 bits: two draws of a multiplicative generator modulo 2**31 - 1."""
    high = m.cpu.random[cpu] * 48271 % 0x7FFFFFFF
    low = high * 48271 % 0x7FFFFFFF
    m.cpu.random[cpu] = low
    return high << 31 | low


@kernel
def delay_at_random(m, cpu):
    """Perturbation: nothing most of the time, now and then a delay of any length, rarely a starvation."""
    r = next_random(m, cpu)
    if r % m.config.perturb[0] != 0:
        return
    r = next_random(m, cpu)
    if r % STARVE_ONE_IN == 0:
        sleep_on(m, cpu, m.cpu.random, cpu, m.cpu.random[cpu], STARVE_US)
        return
    pauses = (r >> 16) & ((1 << ((r >> 40) % (SHORT_DELAY_BITS + 1))) - 1)
    for _ in range(pauses):
        cpu_relax()


@kernel_inline
def perturb_here(m, cpu):
    """Between two points: a lock or a flush, where a delay at random lays windows over each other, and no more."""
    if POINTS_PASS and m.config.perturb[0] != 0:
        delay_at_random(m, cpu)


@kernel
def signal_here(m, cpu, at):
    """Kill or stop this process if this is the pass of the point that was asked for."""
    if m.point.signal_cpu[at] == cpu:
        m.point.countdown[at] -= 1
        if m.point.countdown[at] == 0:
            write_once(m.cpu.stalled_ns, cpu, now_ns(m, cpu))
            raise_signal(m.point.signal[at])


@kernel
def pass_point(m, cpu, at, subject, value):
    """What happens at every point: trace, freeze, delay, signal. True if this CPU is to be steered."""
    row = cpu * TRACE_ENTRIES + (m.cpu.trace_at[cpu] & (TRACE_ENTRIES - 1))
    m.trace.stamp[row] = since_start(m, cpu)
    m.trace.point[row] = at
    m.trace.subject[row] = subject
    m.trace.value[row] = value
    m.cpu.trace_at[cpu] += 1
    if read_once(m.run.bug, 0) != 0:
        park(m, cpu)
    if m.config.perturb[0] != 0:
        delay_at_random(m, cpu)
    if m.point.armed[at] == 0:
        return False
    if m.point.watched[at] != 0:
        atomic_add(m.point.hits, at, 1)
    if m.point.signal[at] != 0:
        signal_here(m, cpu, at)
    return m.point.steer_to[at] != 0 and (m.point.steer_cpu[at] < 0 or m.point.steer_cpu[at] == cpu)


@kernel
def steered(m, cpu, at, hits, until):
    """One look of a CPU that is steered: True once another CPU has passed the other point, or it took too long."""
    cpu_relax()
    sched_yield()
    return read_once(m.point.hits, m.point.steer_to[at]) != hits or now_ns(m, cpu) > until


@kernel
def begin_steering(m, cpu, at):
    """What `steered` compares with: how often the other point was passed, and when it is too long."""
    m.cpu.steered[cpu] += 1
    return read_once(m.point.hits, m.point.steer_to[at]), now_ns(m, cpu) + m.point.steer_us[at] * 1000


@kernel
def steer_noirq(m, cpu, at):
    """Wait at a point until another CPU passes the other one, or too long."""
    hits, until = begin_steering(m, cpu, at)
    while not steered(m, cpu, at, hits, until):
        pass


@kernel_inline
def point_noirq(m, cpu, at, subject, value):
    """Pass the point `at` without taking interrupts. Nothing in the plain build."""
    if POINTS_PASS:
        if pass_point(m, cpu, at, subject, value):
            steer_noirq(m, cpu, at)
