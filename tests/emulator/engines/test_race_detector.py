"""Data races: the detector's rules on small programs, and the kernels' own accesses, all of them marked that race.

Covers: emulator/engines/access_log
"""

import pytest
import racing
from support import in_engine

from scenarios.zoo.race import RACES


@pytest.fixture(scope="module")
def found():
    return in_engine("explore", racing.everything)


def test_programs_race_if_nothing_that_was_released_is_acquired_between_a_plain_access_and_another(found):
    assert found["programs"] == 27
    assert found["wrong"] == []


def test_no_scene_of_the_zoo_has_a_data_race_with_its_piece_in_place(found):
    assert found["scenes"].keys() >= set(RACES)
    assert {name: what for name, what in found["scenes"].items() if not what.startswith("pass")} == {}


def test_a_release_that_becomes_write_once_is_a_data_race(found):
    assert found["twins"] == dict.fromkeys(racing.TWINS, "data-race")


def test_a_memset_of_more_words_than_the_log_has_room_for_is_refused(found):
    assert found["stretches"] == [[0, 0, 1], [0, 0, 1024], [], []]
