"""The scenes of the zoo: small enough for the explorer, and able to meet their race.

Covers: scenarios/proofs/finding, scenarios/races/*, scenarios/zoo/bodies
"""

import litmus
import pytest
from support import in_engine, pieces

from emulator.uapi import Op
from emulator.watch.bugs import Bug
from scenarios.zoo.race import RACES, load_race

TASKS = 4  # the coordinator among them
NAMES = [f"race/{name}" for name in RACES]
DEEP = ("race/ipi-for-grace-period", "race/null-prealloc", "race/move-without-rmap-lock")  # longer than a minute
DEEP = (*DEEP, "race/stale-table-after-switch")  # five preemptions
SLOW = ("race/upper-read-locked", "race/cache-before-flush", "race/review-early")  # six seconds and more


@pytest.mark.parametrize("name", RACES)
def test_a_scene_fits_and_ends(name):
    scene = load_race(name).scene

    assert 1 <= (len(scene.programs) or scene.cpus) <= TASKS - 1
    assert (scene.bodies is None) == (scene.cpus == 0) == bool(scene.programs)
    for program in (scene.setup, *scene.programs):
        assert program[-1].op in (Op.STOP, Op.EXIT)
        assert not {insn.op for insn in program[:-1]} & {Op.STOP, Op.EXIT, Op.JUMP, Op.BARRIER, Op.COMPUTE}
    assert scene.setup[-1].op == Op.STOP, "what the setup mapped must be there still"


@pytest.mark.parametrize("name", RACES)
def test_what_a_race_may_be_seen_by_exists(name):
    assert set(load_race(name).detectors) <= {bug.detector for bug in Bug} | {"deadlock"}


@pytest.mark.parametrize("names", pieces(NAMES, 5))
def test_scenes_are_clean_without_preemptions_and_with_their_piece_in_place(names):
    found = in_engine("explore", litmus.searched, names, False, 0)

    assert {name: [word, what] for name, (word, what, *_) in found.items() if not word.startswith("pass")} == {}


@pytest.mark.parametrize(
    "names",
    [
        *pieces([name for name in NAMES if name not in (*DEEP, *SLOW)], 7),
        *(pytest.param([name], marks=pytest.mark.stress) for name in SLOW),
    ],
)
def test_scenes_meet_their_race_and_its_short_schedule_repeats_it_ten_times_in_ten(names):
    found = in_engine("explore", litmus.searched, names, True, 4)

    for name, (_, what, as_expected, preemptions, again) in found.items():
        assert as_expected, (name, what)
        assert preemptions <= 4, name
        assert again == [what], name


def test_a_schedule_that_comes_with_a_race_shows_it_ten_times_in_ten():
    races = {f"race/{name}": load_race(name) for name in RACES if load_race(name).schedule}
    shown = in_engine("explore", litmus.by_hand, list(races))

    assert shown == {name: [True, [race.detectors[0]]] for name, race in races.items()}
