"""One text, two engines: the same one-CPU program leaves the identical shared state.

Covers: emulator/atomic, emulator/bug, emulator/engines/native, emulator/engines/compiler, emulator/engines/semaphore,
emulator/engines/whole_program
"""

import signal
import subprocess
import sys

import pytest
from support import ROOT, in_engine, random_program, state_after, state_of_seed

from emulator import engine
from emulator.policy.policies import POLICIES

# by time: a scan, an agent, or which table a CPU takes after a grace period has brought an upper one back
BY_TIME = [name for name, policy in POLICIES.items() if policy.scan_period or policy.upper or policy.has_agent]


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in BY_TIME])
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


SHARED_HELPER = """
from numba import njit, types
from emulator.engines.whole_program import whole_program

def loop(a, b):
    words = 0
    for i in range(a, b, 3):
        words += max(i, b) // 7 + 2**i
    return words

with whole_program(frozenset({"loop"}), frozenset()):
    as_kernel = njit(error_model="numpy")(loop)
    as_kernel.compile((types.int64, types.int64))
as_numba = njit(error_model="numpy")(loop)
print(as_kernel(1, 20) == as_numba(1, 20) == loop(1, 20))
"""


def test_what_numba_keeps_of_its_own_can_be_called_by_kernels_and_by_others():
    run = subprocess.run([sys.executable, "-c", SHARED_HELPER], capture_output=True, text=True, cwd=ROOT)

    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr


RAISING = """
from numba import njit, types
from emulator.engines.whole_program import whole_program

def negative(a, b):
    if a < b:
        raise ValueError
    return a

with whole_program(frozenset({"negative"}), frozenset()):
    compiled = njit(negative)
    compiled.compile((types.int64, types.int64))
print(compiled(2, 1), flush=True)
compiled(1, 2)
"""


def test_a_kernel_that_would_raise_stops_its_process():
    run = subprocess.run([sys.executable, "-c", RAISING], capture_output=True, text=True, cwd=ROOT)

    assert (run.returncode, run.stdout) == (-signal.SIGILL, "2\n"), run.stderr
