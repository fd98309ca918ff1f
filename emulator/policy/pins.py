"""Detectors of the debug build: what a walker has pinned is a table, is counted, and stays the one it found."""

from emulator.atomic import kernel, kernel_inline, read_once
from emulator.bug import BUG, detecting
from emulator.pgtable_types import PTRS_PER_PTE, TABLE_INSTALLED, TABLE_LIMBO, TABLE_UNHOOKED
from emulator.policy.policies import COUNTED, LOOKS_AGAIN
from emulator.watch.bugs import Bug

BUG_FROM_ZERO = int(Bug.COUNT_FROM_ZERO)
BUG_SATURATED = int(Bug.COUNT_SATURATED)
BUG_USE_AFTER_FREE = int(Bug.TABLE_USE_AFTER_FREE)


@kernel
def check_count(m, cpu, table, n, count):
    """Detector: a count that was raised by n to `count` is one. At most there are 512 entries and a visitor per CPU,
    and per CPU in a zap 512 more, cleared and not yet uncounted.
    """
    if count > (PTRS_PER_PTE + 1) * (m.config.n_cpu[0] + 1):
        BUG(m, cpu, BUG_SATURATED, table, count - n, count)


@kernel
def check_raised(m, cpu, table, n, count):
    """Detector: a count that was raised by n to `count` was a count before, and not zero."""
    if count <= n:
        BUG(m, cpu, BUG_FROM_ZERO, table, count - n, count)
    check_count(m, cpu, table, n, count)


@kernel
def pinned(m, cpu, pmd, table):
    """Detector: what was pinned is the table at `pmd`, and a count; remember which one it is."""
    if m.config.pin[0] & COUNTED:
        check_count(m, cpu, table, 1, read_once(m.ptdesc.pte_refcount, table))
    generation = m.ptdesc.generation[table]
    if read_once(m.ptdesc.state, table) != TABLE_INSTALLED or m.ptdesc.pmd[table] != pmd:
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, generation, m.ptdesc.state[table])
    m.cpu.pin_table[cpu] = table
    m.cpu.pin_generation[cpu] = generation


@kernel_inline
def note_pin(m, cpu, pmd, table):
    """Detector: this CPU has come to the table at `pmd`. Where it is not pinned, pte_lock looks again."""
    if detecting(m) and m.config.pin[0] & LOOKS_AGAIN == 0:
        pinned(m, cpu, pmd, table)


@kernel_inline
def pin_also(m, cpu):
    """Detector: what this CPU has pinned stays pinned beside what it pins next, until pin_alone."""
    if detecting(m):
        m.cpu.pin_outer[cpu] = m.cpu.pin_table[cpu]
        m.cpu.pin_outer_generation[cpu] = m.cpu.pin_generation[cpu]


@kernel_inline
def pin_alone(m, cpu):
    """Detector: this CPU has one table pinned again, or none."""
    if detecting(m):
        m.cpu.pin_outer[cpu] = 0


@kernel
def check_use(m, cpu, table):
    """Detector: the table a walker uses is the one it found, and installed; in a read section it may be in limbo."""
    generation = m.ptdesc.generation[table]
    changed = m.cpu.pin_table[cpu] == table and m.cpu.pin_generation[cpu] != generation
    if m.cpu.pin_outer[cpu] == table and m.cpu.pin_outer_generation[cpu] != generation:
        changed = True
    state = read_once(m.ptdesc.state, table)
    limbo = m.cpu.rcu_nesting[cpu] != 0 and (state == TABLE_UNHOOKED or state == TABLE_LIMBO)
    if changed or (state != TABLE_INSTALLED and not limbo):
        BUG(m, cpu, BUG_USE_AFTER_FREE, table, m.cpu.pin_generation[cpu], m.ptdesc.state[table])
