"""Small programs that hypothesis invents, and shrinks if they break something, raced in a loop on real processes."""

import hypothesis
import pytest
from hypothesis import strategies as st
from support import FAMILIES, STRESS, race

from workers.programs.program import STOP, barrier, jump
from workers.programs.random_programs import SETUP, STEPS, Author

CLEAN = ({}, None)
ROUNDS = 20  # of each program: what needs a race shows again while hypothesis shrinks it
SHORT = hypothesis.settings(deadline=None, database=None, derandomize=True, max_examples=15)
LONG = hypothesis.settings(deadline=None, database=None, print_blob=True, max_examples=100 * STRESS)


@st.composite
def bodies(draw, least=2, most=3):
    """The loop bodies of some CPUs that share an mm: a few steps each, which can be left out one by one."""
    cpus = draw(st.integers(least, most))
    programs = []
    for cpu in range(cpus):
        author = st.randoms(use_true_random=False).map(lambda rng, cpu=cpu: Author(rng, cpu, cpus, True))
        steps = st.tuples(st.sampled_from(STEPS), author).map(lambda chosen: chosen[0](chosen[1]))
        programs.append([insn for step in draw(st.lists(steps, max_size=6)) for insn in step])
    return programs


def run_in_a_loop(programs, policy, knobs=()):
    """Race the bodies, all CPUs meeting at a barrier before each round."""
    loop = [[*SETUP, barrier(), *body, jump(len(SETUP), ROUNDS), STOP] for body in programs]
    return race(loop, policy, knobs, online=True)


@pytest.mark.parametrize("policy", FAMILIES)
@SHORT
@hypothesis.given(programs=bodies())
def test_no_small_program_breaks_the_protocol(policy, programs):
    assert run_in_a_loop(programs, policy) == CLEAN


@pytest.mark.stress
@pytest.mark.parametrize("policy", FAMILIES)
@LONG
@hypothesis.given(programs=bodies())
def test_no_small_program_of_many_breaks_the_protocol(policy, programs):
    assert run_in_a_loop(programs, policy) == CLEAN


@pytest.mark.stress
def test_what_breaks_the_protocol_shrinks_to_one_instruction():
    def broken(programs):
        return run_in_a_loop(programs, "refcount", ["missing-pte-put"]) != CLEAN

    smallest = hypothesis.find(bodies(1, 1), broken, settings=SHORT)

    assert sum(len(body) for body in smallest) == 1, smallest
