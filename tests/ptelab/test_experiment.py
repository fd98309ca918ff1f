"""The interface for scripts: a run gives what the machine has, the examples of the documents run.

Covers: ptelab/experiment
"""

import importlib.util
import json
from pathlib import Path

import pytest
from support import ROOT

import ptelab
from ptelab import barrier, dontneed, jump, mmap, touch

EXAMPLES = ROOT / "docs" / "examples"
BASE, SLOT = 0x7F00_0000_0000, 2 << 20


def example(name):
    """An example of the documents, as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_result_has_what_the_kernel_would_account():
    heap = [mmap(BASE, 4 * SLOT), touch(BASE, 4 * SLOT), dontneed(BASE, 3 * SLOT)]

    none, counted = (ptelab.run([heap], policy) for policy in ("none", "refcount"))

    assert (none.virt_kb, none.res_kb) == (8192, 2048)
    assert none.vmpte_kb - counted.vmpte_kb == 3 * 4
    assert counted.vmpte_kb == counted.needed_kb == none.needed_kb
    assert none.counters["faults"] == 2048
    assert (none.verdict, counted.verdict, set(counted.checks.values())) == ("pass", "pass", {0})


def test_a_result_is_a_row_of_plain_values():
    whole = ptelab.run([[mmap(BASE, SLOT), touch(BASE, SLOT)]]).to_dict()

    assert json.loads(json.dumps(whole)) == whole
    assert (whole["policy"], whole["cpus"], whole["faults"]) == ("none", 1, 512)


def test_endless_programs_run_for_a_time_and_address_spaces_are_told_apart():
    loop = [mmap(BASE, SLOT), barrier(), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(2)]

    result = ptelab.run([loop, loop], "refcount", mm_of_cpu=[0, 1], seconds=0.1)

    assert result.verdict == "pass"
    assert result.virt_kb == 2 * 2048
    assert result.faults_per_minute > 0


def test_a_machine_that_is_too_small_is_made_larger():
    small = [touch(BASE, 8 * SLOT)]  # what another CPU maps is not foreseen
    result = ptelab.run([[mmap(BASE, 8 * SLOT), barrier(), barrier()], [barrier(), *small, barrier()]])

    assert result.res_kb == 8 * 2048


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"policy": "refcont"}, "did you mean refcount"), ({"lab": ptelab.Lab(policies=("x",))}, "unknown policy 'x'")],
)
def test_what_is_not_known_is_said(arguments, said):
    with pytest.raises(ptelab.UserError, match=said):
        ptelab.run([[mmap(BASE, SLOT)]], **arguments)


def test_the_example_of_a_scenario_shows_which_design_gives_back():
    of = {result.policy: result for result in example("sparse_heap").measure(("none", "refcount"), 8)}

    assert of["none"].vmpte_kb - of["none"].needed_kb == (64 - 8) * 4
    assert of["refcount"].vmpte_kb == of["refcount"].needed_kb


def test_the_example_of_an_experiment_finds_what_a_missing_piece_does():
    two = example("two_zappers")

    assert two.without(seconds=0.3).verdict == "pass"
    assert two.without("no-flush", seconds=20).verdict == "fail"


def test_the_document_names_every_example_and_every_name():
    text = (ROOT / "docs" / "python.md").read_text()

    assert {path.name for path in EXAMPLES.glob("*.py")} <= set(Path(word).name for word in text.split("`"))
    assert [field for field in ptelab.Result.__dataclass_fields__ if f"`{field}`" not in text] == []
