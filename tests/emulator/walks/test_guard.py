"""Guards: entries that keep their table."""

import pytest
from support import BASE, SLOT, alone

from emulator.mm_types import PAGE_SIZE
from emulator.policy.policies import POLICIES
from emulator.syscalls import madvise
from workers.programs.program import (
    STOP,
    advise,
    dontneed,
    mmap,
)

COUNTED = [policy for policy in POLICIES if POLICIES[policy].counted]
PAGE, OTHER = PAGE_SIZE, BASE + 4 * SLOT


@pytest.mark.parametrize("policy", COUNTED)
def test_a_guard_keeps_its_table_and_its_removal_frees_it(policy):
    guard = [mmap(BASE, SLOT), advise(madvise.MADV_GUARD_INSTALL, BASE, PAGE), dontneed(BASE, SLOT)]
    remove = advise(madvise.MADV_GUARD_REMOVE, BASE, SLOT)

    assert alone([*guard, STOP], policy)[2] == 0
    assert alone([*guard, remove, STOP], policy)[2] == 1
