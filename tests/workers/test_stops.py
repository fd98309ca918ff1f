"""A process that dies or stalls at a point of the protocol: the run ends by itself and says what that led to.

Covers: emulator/tables/recovery, emulator/watch/pass_point, emulator/watch/points, workers/instruments,
workers/telling/held, workers/telling/leaks
"""

import json
import os
import re
import subprocess
import sys

import pytest
from stopping import CASES, Outcome, point_of
from support import ROOT

from emulator.watch.points import COORDINATOR_POINTS, POINTS

END_SECONDS = 5.0  # from the stop to the end of the run
FOR_EVER = [None, 60.0]  # killed, or stopped for longer than anybody waits
SOME = ["set_pte.locked", "pte_try_get.read-pmd", "free_pte_table.zero", "ipi.taken", "coordinator.gp-ended"]


def in_debug_build(*arguments: object) -> Outcome:
    """`stopping.stop` in a process of its own, which runs the debug build."""
    code = "import json, sys; from stopping import stop; print(json.dumps(stop(*json.loads(sys.argv[1]))))"
    environment = {**os.environ, "PTELAB_BUILD": "debug", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    return Outcome(*json.loads(run.stdout))


def check_verdict(case_name, seconds, outcome):
    """The run ended in time and left nothing; the verdict names victim, point, what it holds, and who waits for it."""
    case, point = CASES[case_name], point_of(case_name)
    name = "the coordinator" if case.coordinator else "CPU 0"
    fate = "dead" if seconds is None else "stopped"
    head, state, *rest = (outcome.verdict or "no verdict\n").splitlines()
    assert head.startswith(f"{name} was {'killed' if seconds is None else 'stopped'}"), outcome
    assert f" at {point} ({POINTS[point].where}: {POINTS[point].holds})" in head
    assert state.startswith(f"  {name} ({fate}) ")
    for lock in case.holds:
        assert re.search(f"holds .*{lock}", state), outcome.verdict
    waits = [line for line in rest if "waits for" in line]
    assert case.free or any(f"{name} ({fate}" in line for line in waits), outcome.verdict
    assert outcome.seconds < END_SECONDS
    assert outcome.left == []


@pytest.mark.parametrize("case", SOME)
@pytest.mark.parametrize("seconds", FOR_EVER)
def test_a_process_that_is_stopped_ends_the_run_with_a_verdict(case, seconds):
    check_verdict(case, seconds, in_debug_build(case, seconds))


@pytest.mark.stress
@pytest.mark.parametrize("case", [case for case in CASES if case not in SOME])
@pytest.mark.parametrize("seconds", FOR_EVER)
def test_a_process_that_is_stopped_at_any_point_ends_the_run_with_a_verdict(case, seconds):
    check_verdict(case, seconds, in_debug_build(case, seconds))


def test_every_point_has_a_case():
    assert {point_of(name) for name in CASES} == POINTS.keys()
    assert {point_of(name) for name, case in CASES.items() if case.coordinator} == set(COORDINATOR_POINTS)


@pytest.mark.parametrize("point", ["zap.locked", "coordinator.ipis-sent"])
def test_a_short_stall_is_waited_out(point):
    outcome = in_debug_build(point, 0.5)

    assert outcome.verdict is None
    assert len(outcome.stalls) == 1
    assert re.search(rf"stood still for [0-9.]+ s at {point} ", outcome.stalls[0])
    assert outcome.left == []


def test_a_point_that_is_never_passed_is_named_with_what_it_needs():
    outcome = in_debug_build("zap.locked", 0.1, 10**9)

    assert re.fullmatch(r"CPU 0 was not stopped: it passed zap.locked only \d+ of 1000000000 times", outcome.missed[0])
