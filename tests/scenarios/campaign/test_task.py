"""A task is a process group of its own, which ends with its limit, when it is not wanted, and with its worker.

Covers: scenarios/campaign/guarded, workers/parent
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from scenarios.campaign import task
from scenarios.campaign.task import run_process

MODULE = "quick_task"
HERE = str(ROOT / "tests")
ONE = sorted(os.sched_getaffinity(0))[:1]


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HERE}")
    monkeypatch.setattr(task, "GRACE_SECONDS", 0.2)


def run(*words, limit=60.0, wanted=lambda: True, processors=ONE):
    return run_process(MODULE, words, limit, processors, wanted)


def alive(*words):
    """Processes of a task with these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if MODULE in line and line[line.index(MODULE) + 1 :][: len(words)] == list(words):
            found.append(path)
    return found


def end(*words):
    """Wait until no process of a task with these words is there: a kill takes a moment."""
    until = time.monotonic() + 30
    while alive(*words) and time.monotonic() < until:
        pass
    return alive(*words) == []


def test_a_task_gives_its_status_record_and_what_it_said():
    outcome = run("fail", "1")

    assert (outcome["status"], outcome["record"]["bugs"]) == (1, ["x: fail"])
    assert outcome["stderr"] == "ptelab: said fail\n"
    assert 0 < outcome["seconds"] < 60


def test_a_task_keeps_to_its_processors():
    assert run("processors")["record"]["processors"] == ONE


def test_a_task_that_dies_has_no_record_and_its_signal():
    outcome = run("die")

    assert (outcome["status"], outcome["record"]) == (-9, None)


@pytest.mark.parametrize("words", [("sleep", "1001"), ("deaf", "1")])
def test_a_task_ends_with_its_limit_whether_it_listens_or_not(words):
    outcome = run(*words, limit=0.5)

    assert outcome["status"] is None
    assert end(*words)


def test_a_task_that_is_not_wanted_any_more_ends():
    looks = iter([True, True])

    assert run("sleep", "1002", wanted=lambda: next(looks, False))["status"] is None
    assert end("sleep", "1002")


def test_what_a_task_leaves_behind_is_ended():
    assert run("child", "0")["status"] == 0
    assert end("child")


def test_a_task_ends_with_the_process_that_started_it():
    code = "import sys; from scenarios.campaign.task import run_process as run; run(*eval(sys.argv[1]), lambda: True)"
    starter = subprocess.Popen([sys.executable, "-c", code, repr((MODULE, ["sleep", "1003"], 600.0, ONE))], cwd=ROOT)
    while not alive("sleep", "1003"):
        assert starter.poll() is None

    starter.kill()
    starter.wait()

    assert end("sleep", "1003")
