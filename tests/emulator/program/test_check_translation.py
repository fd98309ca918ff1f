"""A translation that was not flushed is found at the next access through it, whether or not its frame was freed."""

import pytest
from support import SLOT, SLOTS, geometry_for

from workers.instruments import Instruments
from workers.machine import Machine
from workers.programs.program import STOP, load, mmap, mmap_file, mremap_fixed, read, store, touch, writeback
from workers.telling.violation import violation_of

HERE = 0x10_0000_0000
THERE = HERE + (SLOTS + 1) * SLOT
WRITTEN = [mmap_file(HERE, SLOT, 0, shared=True), store(HERE, 5), writeback(0), store(HERE, 7), STOP]
MOVED = [mmap(HERE, SLOT), touch(HERE, 8192), mremap_fixed(HERE, SLOT, THERE), mmap(HERE, SLOT), load(HERE), STOP]
NEVER_ALL = {"flush_ceiling": 1 << 20}  # no flush is so long that it empties everything


def found(program, knobs=(), exact=True, **settings):
    """What stops a machine of one CPU."""
    geometry = geometry_for([program])
    tools = Instruments(online=exact, exact=exact, knobs=knobs, settings=settings)
    with Machine(geometry, "none", tools) as machine:
        machine.load_all([program])
        machine.start()
        machine.wait()
        violation = violation_of(machine.views, geometry)
        return violation.detector if violation is not None else None


@pytest.mark.parametrize(
    ("program", "knob", "detector"),
    [(WRITTEN, "mkclean-unflushed", "stale-translation"), (MOVED, "leaf-only-flush", "stale-table")],
)
def test_a_flush_that_is_left_out_is_found_at_the_next_access(program, knob, detector):
    assert found(program, **NEVER_ALL) is None
    assert found(program, (knob,), **NEVER_ALL) == detector


def test_only_a_machine_that_is_told_to_compares():
    assert found(WRITTEN, ("mkclean-unflushed",), exact=False) is None


def test_a_leaf_and_its_pieces_are_one_translation():
    program = [mmap(HERE, SLOT, huge=True), touch(HERE, 4096), read(HERE, SLOT), mmap(HERE, 4096), load(HERE), STOP]

    assert found(program) is None
