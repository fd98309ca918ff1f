"""Constants and small helpers that every kernel file shares: bugs, waiting, errno, the stop flag."""

from enum import IntEnum

from emulator.atomic import cmpxchg, kernel, read_once, smp_store_release

EINTR, ENOMEM, EFAULT, EINVAL = 4, 12, 14, 22


class Bug(IntEnum):
    """What BUG can find. The text of each is in BUG_TEXT."""

    NONE = 0
    COUNT_UNDERFLOW = 1
    FREED_TABLE_NOT_EMPTY = 2
    TABLE_LEFT_AT_TEARDOWN = 3
    UNLOCK_NOT_OWNER = 4
    PMD_CHANGED_UNDER_PIN = 5
    PAGE_COUNT = 6
    DOUBLE_FREE = 7
    NO_PROGRESS = 8


BUG_TEXT = {
    Bug.COUNT_UNDERFLOW: "pte_put: the reference count of table {subject} fell to {seen}",
    Bug.FREED_TABLE_NOT_EMPTY: "free_pte_table: the count of table {subject} is zero, but an entry is {seen:#x}",
    Bug.TABLE_LEFT_AT_TEARDOWN: "free_pte_range: table {subject} is still there, count {seen}; zap ought to free it",
    Bug.UNLOCK_NOT_OWNER: "spin_unlock: the lock (row {subject}) holds {seen}, not this CPU's number + 1",
    Bug.PMD_CHANGED_UNDER_PIN: "pte_put: the pmd {subject} of a pinned table reads {seen:#x}",
    Bug.PAGE_COUNT: "put_page: the reference count of frame {subject} fell to {seen}",
    Bug.DOUBLE_FREE: "pte_free: table {subject} is freed in state {seen}",
    Bug.NO_PROGRESS: "pte_alloc_try_get: table {subject} is dying and its pmd is never cleared",
}


class Wait(IntEnum):
    """What a CPU waits for, with the meaning of cpu.waits_index."""

    NOTHING = 0
    BARRIER = 1
    MMAP_LOCK = 2
    SPINLOCK = 3
    FLUSH = 4
    MEMORY = 5


WAIT_TEXT = {
    Wait.BARRIER: "the other CPUs at barrier {}",
    Wait.MMAP_LOCK: "mmap_lock of mm {}",
    Wait.SPINLOCK: "a spinlock (row {})",
    Wait.FLUSH: "the flush agent (tlb_gen {})",
    Wait.MEMORY: "a grace period to give memory back (zone {})",
}


@kernel
def BUG(m, cpu, bug, subject, seen):
    """Report a broken protocol and stop the machine. The first report wins; the CPU goes on to its next boundary."""
    if cmpxchg(m.run.bug, 0, 0, bug) == 0:
        m.run.bug_cpu[0] = cpu
        m.run.bug_subject[0] = subject
        m.run.bug_seen[0] = seen
    smp_store_release(m.run.stop, 0, 1)


@kernel
def waits_for(m, cpu, what, index):
    """Say what this CPU waits for, for whoever looks at a machine that does not move."""
    m.cpu.waits_index[cpu] = index
    m.cpu.waits_for[cpu] = what


@kernel
def stopped(m):
    """True once the run must end."""
    return read_once(m.run.stop, 0) != 0
