"""The body of a table that is all none is given back, where entries lie apart from tables (engines/bodies.py).

The list of free bodies has no lock: its word counts its changes, so that a CPU that was late sees that it is.
"""

from emulator.atomic import cmpxchg, kernel, memset, or_words, read_once, write_once
from emulator.mm_types import BODY_CHANGE, PTRS_PER_TABLE
from emulator.watch.lockdep import assert_ptl_held


@kernel
def give_back_body(m, table):
    """Put the body of a table, which is all none, on the list of free ones. Locking: as those that call it."""
    body = m.body[table]
    m.body[table] = 0
    while True:
        head = read_once(m.bodies.free, 0)
        write_once(m.body_next, body, head & (BODY_CHANGE - 1))
        if cmpxchg(m.bodies.free, 0, head, ((head + BODY_CHANGE) & -BODY_CHANGE) | body) == head:
            break


@kernel
def free_body_if_none(m, cpu, table):
    """Entries of a table were cleared: give its body back if it was the last one. Locking: caller must hold its ptl."""
    assert_ptl_held(m, cpu, table)
    if m.body[table] != 0 and or_words(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE) == 0:
        give_back_body(m, table)


@kernel
def drop_body(m, table):
    """A table is free: whatever its entries are, they are none from now on. Locking: nobody may be able to reach it."""
    if m.body[table] != 0:
        memset(m.entry, table * PTRS_PER_TABLE, PTRS_PER_TABLE, 0)
        give_back_body(m, table)
