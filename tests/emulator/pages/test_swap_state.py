"""The swap cache and the counts of its slots.

Covers: emulator/walks/mincore
"""

import pytest
from support import BASE, FAMILIES, SLOT, run_programs
from swapping import PAGE, PAGEOUT, PAGES, SOME, Left, run

from emulator.checks import audit
from emulator.mm_types import Geometry
from emulator.pgtable_types import SWAP_ENTRY
from emulator.syscalls import madvise
from workers.machine import Machine
from workers.programs.program import (
    EXIT,
    STOP,
    advise,
    fork,
    mincore,
    read,
    swapout,
    touch,
)


def test_willneed_reads_into_the_swap_cache_and_mincore_sees_that():
    ahead = [*SOME, PAGEOUT, advise(madvise.MADV_WILLNEED, BASE, 4 * PAGE), mincore(BASE, SLOT)]

    assert run([*SOME, PAGEOUT, mincore(BASE, SLOT)]).loaded == 0
    left = run(ahead)
    assert (left.loaded, left.cached, left.swap) == (4, 4, PAGES)
    assert run([*ahead, read(BASE, SLOT)]).cached == 0


@pytest.mark.parametrize("policy", FAMILIES)
def test_exit_leaves_no_slot_in_use(policy):
    left = Left([*SOME, fork(hold=True), swapout(5), touch(BASE, 2 * PAGE), swapout(2), EXIT], policy)

    assert (left.swap, left.slots, left.anon) == (0, 0, 0)


@pytest.mark.parametrize(
    ("view", "row", "field"),
    [("cache", -1, "swap_map"), ("mm", 0, "rss_swap"), ("page", 1, "mapping"), ("entry", None, "word")],
)
def test_the_audit_misses_no_swap_entry_slot_or_mapping(view, row, field):
    program = [*SOME, advise(madvise.MADV_PAGEOUT, BASE, PAGE), STOP]
    geometry = Geometry(insns=len(program), frames=64, tables=64, swap_pages=4)
    with Machine(geometry, "refcount") as machine:
        run_programs(machine, [program])
        assert not any(audit(machine.views, geometry).values())
        rows = machine.views[view][field]
        if view == "entry":
            rows[rows & 0xFFF == SWAP_ENTRY] += 1 << 12
        elif view == "page":
            rows[rows != 0] += 1 << 12
        else:
            rows[row] += 1
        assert any(audit(machine.views, geometry)[check] for check in ("swap", "rss", "rmap"))
