"""The history of a race, its programs and its scene number the CPUs alike.

Covers: scenarios/races/*, scenarios/zoo/race
"""

import pytest
import roles
from support import in_engine

from scenarios.zoo.race import RACES, load_race

ALIKE = {"publish-before-init", "transfer-though-lost"}  # both CPUs do the same


@pytest.fixture(scope="module")
def scenes():
    """Race -> the deeds of each CPU of its scene."""
    heads = in_engine(
        "explore", roles.heads_of_bodies, [name for name in RACES if load_race(name).scene.bodies is not None]
    )
    return {
        name: [roles.deeds(head, 1) for head in heads[name]]
        if name in heads
        else roles.by_programs(load_race(name).scene.programs)
        for name in RACES
    }


def test_a_history_numbers_the_cpus_as_its_scene_does(scenes):
    wrong = {name: roles.misplaced(load_race(name).text, done) for name, done in scenes.items()}

    assert {name: deeds for name, deeds in wrong.items() if deeds} == {}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_history_numbers_the_cpus_as_its_processes_do(seed):
    races = map(load_race, RACES)
    wrong = {race.name: roles.misplaced(race.text, roles.by_programs(race.programs(seed))) for race in races}

    assert {name: deeds for name, deeds in wrong.items() if deeds} == {}


def test_a_scene_whose_first_two_cpus_change_places_is_seen(scenes):
    several = {
        name: done for name, done in scenes.items() if len(done) > 1 and 1 in roles.columns(load_race(name).text)
    }
    unseen = {
        name
        for name, (first, second, *others) in several.items()
        if not roles.misplaced(load_race(name).text, [second, first, *others])
    }

    assert len(several) > 50
    assert unseen == ALIKE
