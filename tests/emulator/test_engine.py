"""One text, two engines: the same one-CPU program leaves the identical shared state.

Covers: emulator/atomic, emulator/bug, emulator/engines/native, emulator/engines/semaphore,
emulator/engines/whole_program
"""

import pytest
from support import in_engine, random_program, state_after, state_of_seed

from emulator import engine
from emulator.policy.policies import POLICIES


@pytest.mark.parametrize("policy", [name for name, policy in POLICIES.items() if not policy.scan_period])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_one_cpu_program_leaves_the_same_state_on_both_engines(policy, seed):
    plain = in_engine("semaphore", state_of_seed, seed, 40, policy)

    compiled = state_of_seed(seed, 40, policy)

    assert engine.name() == "native"
    assert {name: value for name, value in compiled.items() if plain[name] != value} == {}


def test_the_fingerprint_sees_one_different_instruction():
    program = random_program(1, 40)

    assert state_after(program, "none") != state_after([*program[:-2], *program[-1:]], "none")


def test_an_engine_is_chosen_once_per_process():
    with pytest.raises(RuntimeError, match="once per process"):
        engine.choose("semaphore")


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known: native, semaphore"):
        engine.choose("tachyon")
