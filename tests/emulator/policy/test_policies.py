"""The rows: what a policy asks for is there."""

from dataclasses import replace

import pytest

from emulator.mm_types import CACHE_LINE, Geometry
from emulator.policy.policies import POLICIES
from emulator.segment import Segment
from workers.instruments import PLAIN
from workers.machine import power_up


@pytest.mark.parametrize(("own", "of_a_table"), [(0, 0), (1, 0), (8, 0), (9, 0), (1, 2)])
def test_a_cpus_words_are_cache_lines_of_its_own(own: int, of_a_table: int) -> None:
    policy = replace(POLICIES["none"], cpu_words=own, cpu_table_words=of_a_table)
    geometry = policy.room_for(Geometry(cpus=3, tables=20))
    words = geometry.cpu_words
    assert own + 20 * of_a_table <= words < own + 20 * of_a_table + CACHE_LINE // 8
    assert words * 8 % CACHE_LINE == 0
    segment = Segment(geometry, shared=False)
    assert len(segment.views["cpu_word"]) == max(1, 4 * words)  # the coordinator's are the last
    power_up(segment.views, geometry, "none", PLAIN, [0, 0, 0], 1000)
    assert segment.views["config"]["cpu_words"][0] == words
