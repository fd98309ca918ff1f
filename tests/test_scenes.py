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

    assert 1 <= (len(scene.programs) or scene.cpus) <= TASKS - 1
    assert (scene.bodies is None) == (scene.cpus == 0) == bool(scene.programs)
    for program in (scene.setup, *scene.programs):
        assert program[-1].op in (Op.STOP, Op.EXIT)
        assert not {insn.op for insn in program[:-1]} & {Op.STOP, Op.EXIT, Op.JUMP, Op.BARRIER, Op.COMPUTE}
    assert scene.setup[-1].op == Op.STOP, "what the setup mapped must be there still"


@pytest.mark.parametrize("name", RACES)
def test_what_a_race_may_be_seen_by_exists(name):
    assert set(load_race(name)[0].detectors) <= {bug.detector for bug in Bug} | {"deadlock"}


@pytest.mark.parametrize("name", RACES)
def test_a_scene_is_clean_without_preemptions_and_with_its_piece_in_place(name):
    word, found, _ = in_engine("explore", f"__import__('litmus').searched('race/{name}', False, 0)")

    assert (word.split()[0], found) == ("pass", None)


DEEP = ("ipi-for-grace-period",)  # three preemptions: minutes


@pytest.mark.parametrize("name", [name for name in RACES if name not in DEEP])
def test_a_scene_meets_its_race_with_two_preemptions_or_fewer(name):
    assert in_engine("explore", f"__import__('litmus').searched('race/{name}', True, 2)")[2]
