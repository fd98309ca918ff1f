"""Programs whose answers are known: the emulated kernel gives them, and an answer that is wrong is told."""

import dataclasses

import pytest
from support import FAMILIES, ONLINE, run_programs

from emulator.checks import audit
from workers.machine import Machine
from workers.programs.foretold import foretold_workload
from workers.telling.violation import violation_of

CALLS = 60
IN_PEACE, ALONE, APART, TOGETHER = range(4)


def wrong(foretold, policy="refcount"):
    """The answers of a machine that are not as foretold."""
    geometry = foretold.geometry()
    with Machine(geometry, policy, ONLINE, foretold.mm_of_cpu) as machine:
        run_programs(machine, foretold.programs)
        assert violation_of(machine.views, geometry) is None
        assert not any(audit(machine.views, geometry).values())
        return foretold.wrong(machine.views)


@pytest.mark.parametrize("policy", FAMILIES)
@pytest.mark.parametrize("kind", [IN_PEACE, ALONE, APART, TOGETHER])
def test_every_answer_is_as_foretold(kind, policy):
    assert wrong(foretold_workload(kind + 4 * FAMILIES.index(policy), CALLS), policy) == []


def test_an_answer_that_is_not_as_foretold_is_told_with_its_instruction():
    foretold = foretold_workload(IN_PEACE, CALLS)
    loads = [row for row, answer in enumerate(foretold.answers) if answer.values and not answer.of_child]
    row = loads[0]
    right = foretold.answers[row]
    foretold.answers[row] = dataclasses.replace(right, values=(right.values[0] + 1,))

    (told,) = wrong(foretold)

    assert told.startswith("CPU 0 instruction ")
    assert f"finds {right.values[0]:#x}, not {right.values[0] + 1:#x}" in told


def test_errors_and_anonymous_pages_are_compared_as_well():
    foretold = foretold_workload(IN_PEACE, CALLS)
    foretold.answers[0] = dataclasses.replace(foretold.answers[0], error=-22)
    foretold.answers[1] = dataclasses.replace(foretold.answers[1], rss=12345)

    first, second = wrong(foretold)

    assert first.endswith("ends with 0, not -22")
    assert second.endswith("anonymous pages, not 12345")


def test_a_seed_names_the_same_programs_and_answers():
    assert foretold_workload(5, CALLS) == foretold_workload(5, CALLS) != foretold_workload(9, CALLS)


def test_cpus_share_an_mm_or_have_one_each():
    assert foretold_workload(APART, CALLS).mm_of_cpu == [0, 1]
    assert foretold_workload(TOGETHER, CALLS).mm_of_cpu == [0, 0, 0]
