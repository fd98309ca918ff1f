"""The shards of a search run what the whole runs, none twice, in whatever order they are taken up.

Covers: workers/explorer/prefix
"""

import pytest
import sharding
from hypothesis import given, settings
from hypothesis import strategies as st
from support import in_engine

from workers.explorer.prefix import WHOLE, Frontier, Open, Step, parse, spell, tasks_in

STEPS = st.lists(
    st.builds(Step, st.integers(0, 59), st.sets(st.integers(0, 59)).map(lambda of: sum(1 << t for t in of)))
)


@pytest.mark.parametrize("budget", [1, 3, 20])
@pytest.mark.parametrize("bound", [None, 0, 1, 2])
def test_the_sum_of_the_shards_is_the_whole_for_random_programs_and_a_lock(bound, budget):
    wrong, executions, shards = in_engine("explore", sharding.compare, 25, bound, budget)

    assert wrong == []
    assert executions > 25
    assert shards > 25


def test_what_is_asked_for_in_a_prefix_and_what_is_asleep_below_it_are_both_needed():
    lost, doubled = in_engine("explore", sharding.lost_and_doubled, 20)

    assert lost > 0
    assert doubled > 0


@pytest.mark.parametrize(
    ("name", "broken", "bound", "budget"),
    [
        ("claim/two-installs", False, 2, 20),
        ("race/no-flush", True, 1, 20),
        pytest.param("claim/two-installs", False, None, 200, marks=pytest.mark.stress),
        pytest.param("claim/zero-is-absorbing", False, None, 50, marks=pytest.mark.stress),
    ],
)
def test_the_sum_of_the_shards_is_the_whole_for_scenes_of_the_kernel(name, broken, bound, budget):
    same, most, executions, shards = in_engine("explore", sharding.compare_scene, name, broken, bound, budget)

    assert (same, most) == (True, 1)
    assert executions > 200
    assert shards > 10


@settings(deadline=None)
@given(STEPS)
def test_a_prefix_is_read_as_it_was_spelt(steps):
    assert parse(spell(steps)) == steps


def test_a_prefix_is_short_where_a_task_goes_on():
    steps = [*[Step(0)] * 40, Step(1, 0b1), *[Step(1)] * 6, Step(2, 0b11)]

    assert spell(steps) == "0x40,1x7/0,2/0+1"
    assert (spell([]), parse(WHOLE)) == (WHOLE, [])


@pytest.mark.parametrize(
    "text", ["", "x", "0x", "0,,1", "60", "0/60", "1x99999,1x99999", "0 x3", "-1", "0/1+", "0x0", "\u0663"]
)
def test_what_is_no_prefix_is_refused(text):
    with pytest.raises(ValueError, match="is no part of a prefix; known: -, or TASKxTIMES/TRIED"):
        parse(text)


def test_a_place_is_told_by_several_and_each_task_begins_there_once():
    frontier, way = Frontier(), [Step(0), Step(1)]

    assert list(frontier.enter(way, [Open(1, 0b010, 0b101)])) == ["0,0/1", "0,2/0+1"]
    assert list(frontier.enter([Step(0), Step(2, 0b011)], [Open(1, 0b111, 0b1001)])) == ["0,3/0+1+2"]
    assert list(frontier.enter(way, [Open(1, 0b010, 0b1101)])) == []
    assert tasks_in(0b1011) == [0, 1, 3]
