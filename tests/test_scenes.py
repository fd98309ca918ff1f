"""The scenes of the zoo: small enough for the explorer, and able to meet their race."""

import pytest
from support import in_engine

from emulator.bugs import Bug
from emulator.insn import Op
from scenarios.race import RACES, load_race

TASKS = 4  # the coordinator among them


@pytest.mark.parametrize("name", RACES)
def test_a_scene_fits_and_ends(name):
    scene = load_race(name)[0].scene

    assert 1 <= len(scene.programs) <= TASKS - 1
    for program in (scene.setup, *scene.programs):
        assert program[-1].op in (Op.STOP, Op.EXIT)
        assert not {insn.op for insn in program[:-1]} & {Op.STOP, Op.EXIT, Op.JUMP, Op.BARRIER, Op.COMPUTE}
    assert scene.setup[-1].op == Op.STOP, "what the setup mapped must be there still"


@pytest.mark.parametrize("name", RACES)
def test_what_a_race_may_be_seen_by_exists(name):
    assert set(load_race(name)[0].detectors) <= {bug.detector for bug in Bug} | {"deadlock"}


def test_a_scene_in_one_order_and_in_the_other_is_clean_with_its_piece_in_place():
    assert in_engine("explore", f"__import__('litmus').scenes({list(RACES)!r}, 0)") == {}


# found with one preemption, in a few seconds; those that need more are the explorer's own business
SHALLOW = ("count-late", "missing-pte-put", "uncounted-walker", "early-ptlock-free", "one-table-unflushed")


def test_a_scene_meets_its_race():
    found = in_engine("explore", f"__import__('litmus').scenes({list(SHALLOW)!r}, 1, True)")

    assert found.keys() == set(SHALLOW)
    for name, what in found.items():
        assert what in load_race(name)[0].detectors
