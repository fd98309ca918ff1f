"""BUG and what every kernel file shares beside it: the stop flag, and saying what a CPU waits for."""

from emulator.atomic import (
    DEBUG,
    cmpxchg,
    get_cycles,
    kernel,
    kernel_inline,
    now_ns,
    read_once,
    sleep_on,
    smp_store_release,
    write_once,
)


@kernel
def park(m, cpu):
    """Stand still for good, so that the machine can be looked at as it was."""
    write_once(m.cpu.parked, cpu, 1)
    while read_once(m.cpu.parked, cpu) != 0:
        sleep_on(m, cpu, m.cpu.parked, cpu, 1, 0)


@kernel
def BUG(m, cpu, bug, subject, was, seen):
    """Report a broken protocol and freeze the machine. The first report wins; this CPU does not return.

    `subject`, `was` and `seen` are what emulator/watch/bugs.py says of the bug.
    """
    when = now_ns(m, cpu)
    if cmpxchg(m.run.bug, 0, 0, bug) == 0:
        m.run.bug_cpu[0] = cpu
        m.run.bug_subject[0] = subject
        m.run.bug_was[0] = was
        m.run.bug_seen[0] = seen
        m.run.bug_cycles[0] = get_cycles(m, cpu)
        smp_store_release(m.run.bug_ns, 0, when)
    smp_store_release(m.run.stop, 0, 1)
    park(m, cpu)


@kernel_inline
def detecting(m):
    """True if the detectors look: debug build with --checks online."""
    return DEBUG and m.config.online[0] != 0


@kernel
def waits_for(m, cpu, what, index):
    """Say what this CPU waits for, for a look at a machine that does not move."""
    m.cpu.waits_index[cpu] = index
    m.cpu.waits_for[cpu] = what


@kernel_inline
def stopped(m):
    """True once the run must end."""
    return read_once(m.run.stop, 0) != 0
