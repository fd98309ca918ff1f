"""Constants and small helpers that every kernel file shares: BUG, waiting, errno, the stop flag."""

from enum import IntEnum

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

ENOENT, EINTR, ENXIO, ECHILD, EAGAIN, ENOMEM, EACCES = 2, 4, 6, 10, 11, 12, 13
EFAULT, EBUSY, EEXIST, EINVAL = 14, 16, 17, 22
EBUS = ENXIO  # what an instruction ends with where Linux sends SIGBUS; EFAULT is SIGSEGV


class Wait(IntEnum):
    """What a CPU waits for; cpu.waits_index says which one. Those below BARRIER are the lock classes."""

    NOTHING = 0
    MMAP_LOCK = 1
    I_MMAP_LOCK = 2
    PMD_LOCK = 3
    PTE_LOCK = 4
    ZONE_LOCK = 5
    INODE_LOCK = 6
    PAGE_LOCK = 7
    ANON_VMA_LOCK = 8
    BARRIER = 16
    FLUSH = 17
    MEMORY = 18
    DYING_TABLE = 19
    WRITEBACK = 20
    RECLAIM = 21
    IRQ_OFF = 22
    USERFAULT = 40


WAIT_TEXT = {
    Wait.MMAP_LOCK: "mmap_lock of mm {}",
    Wait.PMD_LOCK: "pmd_lock (ptl of table {})",
    Wait.PTE_LOCK: "ptl of table {}",
    Wait.ZONE_LOCK: "the zone lock of zone {} (0 frames, 1 tables)",
    Wait.BARRIER: "the other CPUs at barrier {}",
    Wait.FLUSH: "the flush agent (tlb_gen {})",
    Wait.MEMORY: "a grace period to give memory back (zone {})",
    Wait.DYING_TABLE: "the freer of table {} to clear its pmd",
    Wait.WRITEBACK: "write-back of {}",
    Wait.RECLAIM: "write-back of {}, in reclaim",
    Wait.IRQ_OFF: "CPU {} to let interrupts in",
    Wait.USERFAULT: "somebody to fill a missing page of mm {}",
}


@kernel
def park(m, cpu):
    """Stand still for good, so that the machine can be looked at as it was."""
    write_once(m.cpu.parked, cpu, 1)
    while read_once(m.cpu.parked, cpu) != 0:
        sleep_on(m, cpu, m.cpu.parked, cpu, 1, 0)


@kernel
def BUG(m, cpu, bug, subject, was, seen):
    """Report a broken protocol and freeze the machine. The first report wins; this CPU does not return.

    `subject`, `was` and `seen` are what emulator/bugs.py says of the bug.
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
    """Say what this CPU waits for, for whoever looks at a machine that does not move."""
    m.cpu.waits_index[cpu] = index
    m.cpu.waits_for[cpu] = what


@kernel
def stopped(m):
    """True once the run must end."""
    return read_once(m.run.stop, 0) != 0
