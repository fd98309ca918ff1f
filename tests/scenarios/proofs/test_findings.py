"""The page of findings is what its command wrote, and each finding can be shown again.

Covers: scenarios/mremap_oom
"""

import json

import pytest
from command import ptelab
from support import ROOT

from scenarios.proofs.defects import DEFECTS, IDS
from scenarios.zoo.race import RACES


def test_every_finding_has_its_section_and_its_race():
    page = (ROOT / "docs" / "findings.md").read_text()

    assert [line.split(":")[0].removeprefix("## ") for line in page.splitlines() if line.startswith("## ")][:-1] == IDS
    assert {defect.race for defect in DEFECTS} <= set(RACES)
    assert all(f"ptelab explore race/{defect.race} --fixed" in page for defect in DEFECTS)


def test_a_finding_is_shown_by_the_explorer_and_by_processes_and_its_fix_is_clean():
    run = ptelab("findings", "--only", "D5", "--seeds", "1", "--json", "-")

    found, clean, processes = json.loads(run.stdout)["rows"]
    assert run.returncode == 0
    assert (found["found"], clean["knob"], clean["verdict"][:4]) == ("table-left-at-teardown", None, "pass")
    assert (processes["race"], processes["caught"]) == ("one-put-for-all", 1)


def test_an_unknown_finding_is_named_with_those_that_are_known():
    run = ptelab("findings", "--only", "nothing")

    assert run.returncode == 2
    assert run.stderr == f"ptelab: unknown finding 'nothing'; known: {', '.join(IDS)}\n"


def test_an_mremap_that_fails_loses_pages_only_where_tables_are_counted():
    for _ in range(5):  # whether the other CPU comes in between is chance
        run = ptelab("run", "mremap-oom", "--policy", "none,refcount-rcu", "--seconds", "0.1", "--json", "-")
        before, counted = json.loads(run.stdout)["rows"]
        assert (before["out_of_memory"] > 0, before["pages_lost"]) == (True, 0)
        assert counted["out_of_memory"] > 0
        if counted["pages_lost"]:
            break

    assert counted["pages_lost"] > 0
    assert run.returncode == 1


@pytest.mark.stress  # tests/scenarios/races/test_scenes.py runs the schedule itself
def test_a_defect_that_has_a_schedule_is_shown_by_it():
    run = ptelab("findings", "--only", "D7", "--seeds", "1", "--json", "-")

    found = json.loads(run.stdout)["rows"][0]
    assert (found["subject"], found["executions"]) == ("race/null-prealloc", 1)
    assert found["found"] is not None
