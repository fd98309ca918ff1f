"""The segment of shared memory.

Covers: emulator/mm_types, emulator/lazy_numpy
"""

import os

import pytest

from emulator.mm_types import Geometry
from emulator.segment import Segment, SegmentTooLarge


def ours_in_dev_shm():
    return [
        name
        for name in os.listdir("/dev/shm")
        if name.startswith((f"ptelab-{os.getpid()}-", f"sem.ptelab-{os.getpid()}-"))
    ]


def test_a_segment_that_does_not_fit_is_refused_before_anything_is_made():
    with pytest.raises(SegmentTooLarge, match=r"needs \d+"):
        Segment(Geometry(tables=1 << 40))

    assert ours_in_dev_shm() == []


def test_what_nobody_has_touched_takes_no_memory_of_the_host():
    segment = Segment(Geometry(tables=4096))
    before = segment.taken_bytes()

    segment.views["entry"]["word"][: 1000 * 512 : 512] = 1

    assert segment.taken_bytes() - before == 1000 * 4096


def test_a_machine_whose_entries_lie_apart_needs_less_than_its_size():
    geometry = Geometry(frames=1 << 20, bodies=64)

    assert geometry.offsets()[1] - geometry.needs() == 8 * (2 * geometry.frames + geometry.tables)
    assert Geometry().needs() == Geometry().offsets()[1]
