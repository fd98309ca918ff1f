"""soak counts faults until there are enough, keeps the total, and ends at the first violation."""

import json
import signal
import subprocess

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.json"


def totals(state):
    return json.loads(state.read_text())["totals"]


def test_soak_ends_when_its_total_is_reached_and_goes_on_from_it(state):
    first = ptelab("soak", "--faults", "1e4", "--state", str(state))
    (reached,) = totals(state)
    second = ptelab("soak", "--faults", str(reached["faults"] + 1), "--state", str(state))
    third = ptelab("soak", "--faults", "1e4", "--state", str(state))

    assert [run.returncode for run in (first, second, third)] == [0, 0, 0]
    assert reached["faults"] >= 10_000
    assert reached["checks"] == "online"
    assert sum(reached["faults_of"].values()) == reached["faults"]
    (total,) = totals(state)
    assert total["rounds"] == reached["rounds"] + 1
    assert f"total   {total['faults']:,} faults, 100 % of 10,000" in third.stdout


def test_soak_ends_at_a_violation_with_its_report_and_does_not_go_on(state):
    arguments = ["soak", "--knob", "no-flush", "--state", str(state)]
    first = ptelab(*arguments)
    second = ptelab(*arguments)

    assert (first.returncode, second.returncode) == (1, 1)
    assert "VIOLATION" in first.stdout
    assert "again: ptelab run" in first.stdout
    assert first.stdout.rstrip().endswith("result  FAIL")
    (total,) = totals(state)
    assert len(total["violations"]) == 1
    found, again = total["violations"][0].split("; again: ")
    assert f"\nagain: {again}\n" in second.stdout  # in one line, to be copied
    assert " ".join(found.split()) in " ".join(second.stdout.split())


def test_a_total_of_other_sources_does_not_count(state):
    ptelab("soak", "--faults", "1", "--state", str(state))
    old = totals(state)
    old[0]["protocol"] = "other"
    state.write_text(json.dumps({"schema": 1, "totals": old}))

    ptelab("soak", "--faults", "1", "--state", str(state))

    assert [total["protocol"] == "other" for total in totals(state)] == [True, False]


def holds_something(file):
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # it is made and removed once, to see whether it can be
        return False


def test_an_interrupted_soak_leaves_its_total(state):
    process = subprocess.Popen(
        [*COMMAND, "soak", "--state", str(state)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    while not holds_something(state):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)

    out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "result  INTERRUPTED" in out
    assert f"total   {totals(state)[0]['faults']:,} faults" in out


def test_soak_refuses_a_file_that_is_not_its_state(state):
    state.write_text("{}")

    run = ptelab("soak", "--state", str(state))

    assert run.returncode == 2
    assert run.stderr == f"ptelab: {state} is not a state of ptelab soak; give another --state\n"
