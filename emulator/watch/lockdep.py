"""Which locks a CPU holds, and in which order it takes them. Debug build with --checks online.

Lock order is learned while the machine runs: a class taken inside another is an edge. A cycle of edges is a deadlock
that has not happened yet. What a kernel says its caller must hold is asked when it begins.

Source: lockdep, kernel/locking/lockdep.c; classes are Wait below BARRIER.
"""

from emulator.atomic import DEBUG, EXPLORES, cmpxchg, data_race, kernel, kernel_inline, read_once
from emulator.bug import BUG, detecting
from emulator.mm_types import NR_LOCK_CLASSES
from emulator.pgtable import ptl_of
from emulator.pgtable_types import PTE_LEVEL
from emulator.watch.bugs import Bug
from emulator.watch.pass_point import perturb_here
from emulator.watch.waits import Wait

BUG_LOCK_ORDER = int(Bug.LOCK_ORDER)
BUG_RECURSION = int(Bug.LOCK_RECURSION)
BUG_NOT_HELD = int(Bug.LOCK_NOT_HELD)
BUG_MAY_SLEEP = int(Bug.SLEEP_IN_ATOMIC)
BUG_READ_SECTION = int(Bug.READ_SECTION)
BUG_IRQS = int(Bug.INTERRUPTS_ON)
BUG_GATHER = int(Bug.GATHER_NOT_OPEN)
MMAP_LOCK = int(Wait.MMAP_LOCK)
PMD_LOCK = int(Wait.PMD_LOCK)
PTE_LOCK = int(Wait.PTE_LOCK)
PAGE_LOCK = int(Wait.PAGE_LOCK)
SPINLOCKS = 1 << Wait.PMD_LOCK | 1 << Wait.PTE_LOCK | 1 << Wait.ZONE_LOCK  # of held_classes
SPINLOCKS |= 1 << Wait.PMAP_LOCK | 1 << Wait.HTABLE_LOCK


@kernel
def reaches(m, source, target):
    """True if `target` was ever taken inside of `source`, directly or through other classes."""
    seen = 1 << source
    for _ in range(NR_LOCK_CLASSES):
        for outer in range(NR_LOCK_CLASSES):
            if seen >> outer & 1:
                for inner in range(NR_LOCK_CLASSES):
                    if read_once(m.lock_order.taken, outer * NR_LOCK_CLASSES + inner) != 0:
                        seen |= 1 << inner
    return seen >> target & 1 != 0


@kernel
def new_order(m, cpu, outer, inner, i):
    """Enter the edge outer -> inner if it is new; a BUG if it closes a cycle."""
    if outer == inner:
        BUG(m, cpu, BUG_RECURSION, i, outer, inner)
    if cmpxchg(m.lock_order.taken, outer * NR_LOCK_CLASSES + inner, 0, 1) == 0 and reaches(m, inner, outer):
        BUG(m, cpu, BUG_LOCK_ORDER, i, outer, inner)


@kernel
def learn_order(m, cpu, lock_class, i):
    """Look at every class this CPU holds."""
    for outer in range(NR_LOCK_CLASSES):
        if m.cpu.held_classes[cpu] >> outer & 1:
            if outer == lock_class or read_once(m.lock_order.taken, outer * NR_LOCK_CLASSES + lock_class) == 0:
                new_order(m, cpu, outer, lock_class, i)


@kernel_inline
def lock_acquire(m, cpu, lock_class, i):
    """Note that this CPU is about to take lock `i` of a class."""
    perturb_here(m, cpu)
    if detecting(m) and not EXPLORES:  # there a deadlock is met, not foretold
        if m.cpu.held_classes[cpu] != 0:
            learn_order(m, cpu, lock_class, i)
        m.cpu.held_classes[cpu] |= 1 << lock_class


@kernel_inline
def lock_acquired(m, cpu, lock_class):
    """Note that this CPU took a lock without waiting: no order is learned, for it cannot be part of a deadlock yet."""
    if detecting(m) and not EXPLORES:
        m.cpu.held_classes[cpu] |= 1 << lock_class


@kernel_inline
def lock_release(m, cpu, lock_class):
    """Note that this CPU is about to release its lock of a class."""
    perturb_here(m, cpu)
    if detecting(m) and not EXPLORES:
        m.cpu.held_classes[cpu] &= ~(1 << lock_class)


# --- what the `Locking:` lines say, asked when a kernel begins; in the debug build, and not under the explorer, where
# --- it would be one more look at each step


@kernel
def check_mmap_locked(m, cpu, mm, write):
    """A BUG unless this CPU holds mmap_lock of `mm`, for writing if `write`; to read, the lock of a VMA will do.

    Fork holds a child's in its word alone.
    """
    held, vma = m.cpu.mmap_lock_held[cpu], m.cpu.vma_lock_held[cpu]
    ours = held == 2 * mm + 2 or data_race(m.mm.mmap_writer, mm) == cpu + 1
    if not write:
        ours = ours or held == 2 * mm + 1 or (vma != 0 and (vma - 1) // m.config.vma_per_mm[0] == mm)
    if detecting(m) and not ours:
        BUG(m, cpu, BUG_NOT_HELD, mm, MMAP_LOCK, held)


@kernel_inline
def mmap_assert_locked(m, cpu, mm):
    """The caller must hold mmap_lock of `mm`."""
    if DEBUG and not EXPLORES:
        check_mmap_locked(m, cpu, mm, False)


@kernel_inline
def mmap_assert_write_locked(m, cpu, mm):
    """The caller must hold mmap_lock of `mm` for writing."""
    if DEBUG and not EXPLORES:
        check_mmap_locked(m, cpu, mm, True)


@kernel
def check_ptl(m, cpu, table):
    """A BUG unless this CPU holds the ptl of `table`."""
    owner = data_race(m.ptdesc.ptl, ptl_of(m, table))
    if detecting(m) and owner != cpu + 1:
        BUG(m, cpu, BUG_NOT_HELD, table, PTE_LOCK if m.ptdesc.level[table] == PTE_LEVEL else PMD_LOCK, owner)


@kernel_inline
def assert_ptl_held(m, cpu, table):
    """The caller must hold the ptl of `table`: pmd_lock, if it is an upper one."""
    if DEBUG and not EXPLORES:
        check_ptl(m, cpu, table)


@kernel
def check_mutex(m, cpu, i):
    """A BUG unless this CPU holds row `i` of the sleeping locks."""
    owner = data_race(m.mutex.owner, i)
    if detecting(m) and owner != cpu + 1:
        BUG(m, cpu, BUG_NOT_HELD, i, PAGE_LOCK, owner)


@kernel_inline
def lockdep_assert_held(m, cpu, i):
    """The caller must hold row `i` of the sleeping locks: a page lock, an inode lock, i_mmap_lock or anon_vma lock."""
    if DEBUG and not EXPLORES:
        check_mutex(m, cpu, i)


@kernel
def check_may_sleep(m, cpu):
    """A BUG if this CPU holds a spinlock, is in a read section or has interrupts off."""
    classes = m.cpu.held_classes[cpu] & SPINLOCKS
    if detecting(m) and (classes != 0 or m.cpu.rcu_nesting[cpu] != 0 or m.cpu.irq_off[cpu] != 0):
        BUG(m, cpu, BUG_MAY_SLEEP, classes, m.cpu.rcu_nesting[cpu], m.cpu.irq_off[cpu])


@kernel_inline
def might_sleep(m, cpu):
    """The caller must hold no spinlock, be outside of rcu_read_lock and have interrupts on."""
    if DEBUG and not EXPLORES:
        check_may_sleep(m, cpu)


@kernel
def check_rcu(m, cpu, inside):
    """A BUG if this CPU is in a read section and must not be, or the other way round."""
    depth = m.cpu.rcu_nesting[cpu]
    if detecting(m) and (depth != 0) != inside:
        BUG(m, cpu, BUG_READ_SECTION, cpu, inside, depth)


@kernel_inline
def rcu_assert_held(m, cpu):
    """The caller must be in a read section."""
    if DEBUG and not EXPLORES:
        check_rcu(m, cpu, 1)


@kernel_inline
def rcu_assert_not_held(m, cpu):
    """The caller must be outside of rcu_read_lock: a wait for a grace period would wait for it."""
    if DEBUG and not EXPLORES:
        check_rcu(m, cpu, 0)


@kernel
def check_irqs(m, cpu):
    """A BUG unless this CPU has interrupts off."""
    if detecting(m) and m.cpu.irq_off[cpu] == 0:
        BUG(m, cpu, BUG_IRQS, cpu, 1, m.cpu.irq_off[cpu])


@kernel_inline
def lockdep_assert_irqs_disabled(m, cpu):
    """The caller must have interrupts off."""
    if DEBUG and not EXPLORES:
        check_irqs(m, cpu)


@kernel
def check_gather(m, cpu):
    """A BUG unless this CPU has a gather open."""
    if detecting(m) and m.cpu.gather_mm[cpu] == 0:
        BUG(m, cpu, BUG_GATHER, cpu, 1, m.cpu.gather_mm[cpu])


@kernel_inline
def assert_gather_open(m, cpu):
    """The caller must have a gather open: what it clears is flushed and freed through it."""
    if DEBUG and not EXPLORES:
        check_gather(m, cpu)
