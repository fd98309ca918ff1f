"""Entries counted without atomics: two words of a table that change under its ptl, as its entries do.

`nr_entries` is the number of entries that are not none, `policy_word` of those that map the zero page, if the policy
asks for that. Both are zeroed when a table is allocated, and travel with it. There is no visitor in them: what keeps a
table under a walker is another word of the policy.
"""

from emulator.atomic import kernel, kernel_inline, knob, write_once
from emulator.bug import BUG, detecting
from emulator.pgtable import is_zero_pfn
from emulator.pgtable_types import PTRS_PER_PTE
from emulator.policy.policies import ZEROS
from emulator.watch.bugs import Bug

BUG_UNDERFLOW = int(Bug.COUNT_UNDERFLOW)
BUG_SATURATED = int(Bug.COUNT_SATURATED)


@kernel_inline
def entries_of(m, table):
    """How many entries of a table are not none. Locking: caller must hold the ptl, or take it for a hint."""
    return m.ptnote.nr_entries[table]


@kernel
def check_entries(m, cpu, table, before, after):
    """Detector: a count of entries is between none and all."""
    if after < 0:
        BUG(m, cpu, BUG_UNDERFLOW, table, before, after)
    if after > PTRS_PER_PTE:
        BUG(m, cpu, BUG_SATURATED, table, before, after)


@kernel
def count_entries(m, cpu, table, old, new, n):
    """n entries of a table went from `old` to `new`. Locking: caller must hold the ptl."""
    before = m.ptnote.nr_entries[table]
    after = before + n * ((new != 0) - (old != 0))
    if detecting(m):
        check_entries(m, cpu, table, before, after)
    if after != before:
        write_once(m.ptnote.nr_entries, table, after)
    if after == 0 and before != 0:
        m.cpu.emptied[cpu] = table
    if m.config.pin[0] & ZEROS:
        zeros = n * (is_zero_pfn(new) - is_zero_pfn(old))
        write_once(m.ptnote.policy_word, table, m.ptnote.policy_word[table] + zeros)


@kernel
def init_entries(m, table, n, entry):
    """A table begins with n entries of the kind of `entry`. Locking: the table must be private still."""
    write_once(m.ptnote.nr_entries, table, 0 if knob(m.config.demote_uncounted) else n)
    if m.config.pin[0] & ZEROS:
        write_once(m.ptnote.policy_word, table, n if is_zero_pfn(entry) else 0)
