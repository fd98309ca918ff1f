"""One access to shared memory, as the explorer's trace has it."""

from __future__ import annotations

from dataclasses import dataclass


def names(text: str, prefix: str = "") -> frozenset[str]:
    """A set of names, each behind a prefix."""
    return frozenset(prefix + name for name in text.split())


LOADS = frozenset({"load", "read_once", "smp_load_acquire", "plain load", "or_words", "data_race"})
BUFFERED = ("issue", "commit")  # a store on its way through the store buffer of a CPU
# Functions that say little by themselves: the story names their callers.
HELPERS = names(
    """spin_lock spin_lock_slow spin_unlock pmd_lock pmd_unlock pmd_lock_pair pmd_unlock_pair pte_lock pte_unlock
    rcu_read_lock rcu_read_unlock atomic_inc_not_zero set_bits clear_bits pte_get_unless_zero pte_ref_add
    pte_get_many pte_put_last pte_try_get_rcu pte_try_get_locked populate mmap_get_reader mmap_put_reader
    mmap_read_lock mmap_read_lock_slow mmap_read_unlock mmap_write_lock mmap_write_unlock mmap_write_downgrade
    mmap_lock_wake coordinator_wake wait_idle wait_on wait_on_timeout wake_up BUG"""
)


@dataclass(frozen=True)
class Access:
    """One access to shared memory of a traced execution; plain ones too.

    `op` is the primitive, "plain load", "plain store", "memset", "or_words", "issue" (a store enters the store buffer)
    or "commit" (it reaches memory). `callers` begins with the innermost; an entry is a function's name, and behind a
    space its position, if it is known.
    """

    step: int  # position among all accesses of the execution
    task: int  # CPU number; the number of CPUs for the coordinator
    op: str
    field: str  # "ptdesc.pte_refcount", "entry" ...; "" for a barrier
    index: int
    length: int  # words; 1 but for memset and or_words
    old: int
    new: int  # == old for loads
    function: str
    source: str  # "pte_ref.py:214"
    callers: tuple[str, ...]
    instruction: str  # "touch 0xfffe00000 0x1000" or ""

    @property
    def is_load(self) -> bool:
        """True if it changed nothing and was not meant to: a load, or an exchange that found another value."""
        return self.op in LOADS or (self.op == "cmpxchg" and self.old == self.new)

    @property
    def changes(self) -> bool:
        """True if it leaves another value than it found; a store in a store buffer has still to do so."""
        return self.old != self.new or self.op in BUFFERED

    @property
    def teller(self) -> tuple[str, str]:
        """The function the story names, the innermost one that is no helper, and where in it."""
        for caller in self.callers:
            name, _, position = caller.partition(" ")
            if name not in HELPERS:
                return name, position or self.source
        return self.function, self.source
