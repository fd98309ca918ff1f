"""What a CPU can wait for."""

from enum import IntEnum


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
    HTABLE_LOCK = 10
    PMAP_LOCK = 9
    BARRIER = 16
    FLUSH = 17
    MEMORY = 18
    DYING_TABLE = 19
    WRITEBACK = 20
    RECLAIM = 21
    IRQ_OFF = 22
    GRACE_PERIOD = 23
    RMAP_WALK = 24
    USERFAULT = 40
    POST = 41


WAIT_TEXT = {
    Wait.MMAP_LOCK: "mmap_lock of mm {}",
    Wait.PMD_LOCK: "pmd_lock (ptl of table {})",
    Wait.PTE_LOCK: "ptl of table {}",
    Wait.ZONE_LOCK: "the zone lock of zone {} (0 frames, 1 tables)",
    Wait.HTABLE_LOCK: "htable lock {}",
    Wait.BARRIER: "the other CPUs at barrier {}",
    Wait.FLUSH: "the flush agent (tlb_gen {})",
    Wait.MEMORY: "a grace period to give memory back (zone {})",
    Wait.DYING_TABLE: "the freer of table {} to clear its pmd",
    Wait.WRITEBACK: "write-back of {}",
    Wait.RECLAIM: "write-back of {}, in reclaim",
    Wait.IRQ_OFF: "CPU {} to let interrupts in",
    Wait.GRACE_PERIOD: "grace period {} to end",
    Wait.POST: "CPU {} to come further",
    Wait.RMAP_WALK: "CPU {} to end its rmap walk",
    Wait.PMAP_LOCK: "the lock of the tables of mm {}",
    Wait.USERFAULT: "somebody to fill a missing page of mm {}",
}
