"""The log of the explore engine: an int for every access to shared memory, and what its bits say."""

from __future__ import annotations

# One entry: task << TASK_BIT | kind << KIND_BIT | (words - 1) << COUNT_BIT | first word.
WORD_BITS, COUNT_BIT, KIND_BIT, TASK_BIT = 22, 22, 32, 37
WORD_MASK, COUNT_MASK, KIND_MASK = (1 << WORD_BITS) - 1, (1 << 10) - 1, 31
MOST_WORDS = COUNT_MASK + 1  # of one entry
KINDS = (
    "read_once",
    "smp_load_acquire",
    "write_once",
    "smp_store_release",
    "read-modify-write",
    "relaxed read-modify-write",  # no barrier
    "lock",  # a read-modify-write that cannot be made before the word is 0
    "atomic_add",
    "look",  # a step that touches no word: the value of an early load is used, a grace period ends
    "smp_mb",  # a step where there are store buffers: it waits until they are empty
    "smp_wmb",
    "plain load",
    "plain store",
    "data_race",
    "issue",  # a store enters a store buffer
    "blocked",  # the task cannot move from here on
    "woken",  # ... and can again
    "smp_rmb",
    "address",  # the address of the task's next access depends on the load at this place of the log
    "depends",  # ... its value, or whether it is made at all
)
READ, ACQUIRE, WRITE, RELEASE, UPDATE, RELAXED, LOCK, ADD, LOOK, MB, WMB = (kind << KIND_BIT for kind in range(11))
PLAIN_LOAD, PLAIN_STORE, DATA_RACE, ISSUE, BLOCKED, WOKEN, RMB, ADDRESS, DEPENDS = (
    kind << KIND_BIT for kind in range(11, len(KINDS))
)


class TooManyTasks(Exception):
    """The program has more tasks and words in flight than a search can tell apart."""


def more(n: int) -> int:
    """What the log says of an access to `n` words. Raises ValueError if it has no room for them."""
    if not 0 < n <= MOST_WORDS:
        raise ValueError(f"{n} words in one access: the log has room for 1 to {MOST_WORDS}")
    return (n - 1) << COUNT_BIT
