"""The segment of shared memory.

Covers: emulator/mm_types
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
