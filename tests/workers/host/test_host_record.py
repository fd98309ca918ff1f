"""Which memory a recorded call may change: a length is 64 bits without a sign, and one that overflows fails."""

import pytest

from emulator.uapi import MADV_GUARD_REMOVE, Op
from workers.host.host_record import _ranges
from workers.programs.program import Insn

TOP, AT = 1 << 47, 1 << 44


@pytest.mark.parametrize(("length", "reaches"), [(-(1 << 63), TOP - AT), (-4096, 0), (1 << 62, TOP - AT), (4096, 4096)])
def test_a_length_beyond_user_space_reaches_its_end_unless_the_sum_overflows(length, reaches):
    assert _ranges(Insn(Op.MADVISE, AT, length, arg=MADV_GUARD_REMOVE)) == [(AT, reaches)]
