"""Accesses and traces written by hand, for the tests of what is told of them."""

from dataclasses import replace

from emulator.pgtable_types import PMD_LEVEL, POISON_COUNT, PTE_LEVEL, TABLE_FLAGS
from workers.telling.access import Access
from workers.telling.phrases import Names
from workers.telling.story import Trace, story_of

TASKS = ["CPU 0", "CPU 1", "the coordinator"]
PMD_TABLE, TABLE = 3, 4  # an upper table and a PTE table
LEVELS = {PMD_TABLE: PMD_LEVEL, TABLE: PTE_LEVEL}
PMD = PMD_TABLE << 9 | 511
TABLE_ENTRY = TABLE << 12 | TABLE_FLAGS
FRAME_ENTRY = 7 << 12 | TABLE_FLAGS


def access(task, op, field, index, old, new=None, function="f", callers=(), length=1, instruction=""):
    """One access; `trace` numbers it. A load needs no new value."""
    new = old if new is None else new
    return Access(0, task, op, field, index, length, old, new, function, "f.py:1", callers, instruction)


def trace(*accesses, causal=None, guilty=None, what="count-saturated", tasks=TASKS):
    """A trace of these accesses, all of them causal unless told otherwise."""
    numbered = [replace(one, step=step) for step, one in enumerate(accesses)]
    steps = frozenset(range(len(numbered)) if causal is None else causal)
    return Trace(
        numbered, steps, guilty, Names(LEVELS, list(tasks)), None, what, "0a3f", "ptelab explore race/x --schedule 0a3f"
    )


def texts(*accesses, **more):
    return [line.text for line in story_of(trace(*accesses, **more)).lines]


def publish_before_init():
    """D1, by hand."""
    count = ("ptdesc.pte_refcount", TABLE)
    return trace(
        access(0, "cmpxchg", "ptdesc.ptl", PMD_TABLE, 0, 1, "spin_lock", ("spin_lock", "pmd_install")),
        access(0, "smp_store_release", "entry", PMD, 0, TABLE_ENTRY, "populate", ("populate", "pmd_install")),
        access(1, "plain store", "cpu.rcu_nesting", 1, 0, 1, "rcu_read_lock", ("rcu_read_lock", "pte_try_get_rcu")),
        access(1, "read_once", "entry", PMD, TABLE_ENTRY, None, "pte_try_get", instruction="touch 0x1000 0x1000"),
        access(1, "cmpxchg", *count, POISON_COUNT, POISON_COUNT + 1, "pte_try_get", instruction="touch 0x1000 0x1000"),
        access(0, "write_once", *count, POISON_COUNT + 1, 1, "pte_ref_init", ("pte_ref_init", "pmd_install")),
        guilty=(1, 4),
    )
