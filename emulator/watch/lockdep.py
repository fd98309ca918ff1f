"""Lock order, learned while the machine runs: a class taken inside another is an edge; a cycle of edges is a deadlock
that has not happened yet. Debug build with --checks online.

Source: lockdep, kernel/locking/lockdep.c; classes are Wait below BARRIER.
"""

from emulator.atomic import EXPLORES, cmpxchg, kernel, kernel_inline, read_once
from emulator.bug import BUG, detecting
from emulator.mm_types import NR_LOCK_CLASSES
from emulator.watch.bugs import Bug

BUG_LOCK_ORDER = int(Bug.LOCK_ORDER)
BUG_RECURSION = int(Bug.LOCK_RECURSION)


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
    """Note that this CPU released its lock of a class."""
    if detecting(m) and not EXPLORES:
        m.cpu.held_classes[cpu] &= ~(1 << lock_class)
