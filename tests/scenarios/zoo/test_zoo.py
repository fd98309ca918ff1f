"""The zoo: every piece of the protocol that is left out is caught in free-running processes, and only then.

Covers: emulator/cpu/*, emulator/knobs, scenarios/zoo/race, scenarios/zoo/tables, workers/telling/telling,
workers/telling/violation, workers/telling/whereabouts
"""

import json
import re

import pytest
from command import ptelab
from support import ROOT

from emulator.knobs import KNOBS
from emulator.mm_types import Geometry
from emulator.watch.bugs import Bug
from scenarios.proofs.claims import CLAIMS
from scenarios.zoo.race import RACES, load_race
from scenarios.zoo.zoo import PERTURB, hunt
from workers.instruments import Instruments
from workers.machine import Machine
from workers.telling.violation import report_lines

PATIENT = 30.0  # seconds a hunt may take on a busy machine
SELDOM = ("unshare-without-ipi", "retract-unlocked", "mremap-late-flush")  # met by real processes; test_scenes has them


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.stress) if name in SELDOM else name for name in RACES]
)
def test_a_race_is_caught_by_a_detector_it_names(name):
    hunts = (hunt(name, seed, seconds=PATIENT / 2).violation for seed in range(1, 6))  # by chance: not by every seed
    violation = next(filter(None, hunts), None)

    assert violation is not None
    assert violation.detector in load_race(name).detectors


@pytest.mark.parametrize("perturb", [0, PERTURB])
@pytest.mark.parametrize("name", RACES)
def test_a_race_with_its_piece_in_place_is_clean(name, perturb):
    one = hunt(name, seed=1, perturb=perturb, fixed=True, seconds=0.15)

    assert one.operations > 0
    assert one.violation is None
    assert not any(one.checks.values())


@pytest.mark.stress
@pytest.mark.parametrize("name", RACES)
def test_a_seed_that_failed_fails_again_nine_times_in_ten(name):
    caught = sum(hunt(name, seed=3).violation is not None for _ in range(10))

    assert caught >= 9


ALONE = {"zeros-under-uffd"}  # one CPU shows it: tests/emulator/policy/test_two_counter.py


def test_every_knob_has_a_race_or_a_claim_and_every_detector_a_name_of_its_own():
    shown = {load_race(name).knob for name in RACES} | {claim.knob for claim in CLAIMS.values()}
    assert shown - {""} | ALONE == set(KNOBS)  # the twin of a claim about a barrier needs no knob
    names = {bug.detector for bug in Bug} | {"deadlock"}
    for name in RACES:
        race = load_race(name)
        assert set(race.detectors) <= names, name
        assert race.text.count("====") >= 2, f"{name}: the history has columns"
        assert race.source, name


def test_a_report_says_who_where_why_and_how_to_see_it_again():
    violation = hunt("ipi-for-grace-period", seed=1, seconds=PATIENT).violation

    text = "\n".join(report_lines(violation))

    assert len(violation.participants) >= 2
    assert "wrong, because" in text
    assert "touch 0x" in text  # an instruction
    assert re.search(r"in \w+\.py:\w+", text)  # a function of the emulated kernel
    assert "models patch " in text or ", patch " in text  # and what it models
    assert f"life of table {violation.table}" in text
    assert "unhooked" in text
    assert "holds mmap_lock" in text
    assert "in a read section: CPU" in text
    assert "again: ptelab run race/ipi-for-grace-period --seed 1" in text
    columns = {event.who for event in violation.story}
    assert {"CPU 0", "CPU 1"} <= columns
    assert [event.ns for event in violation.story] == sorted(event.ns for event in violation.story)


def test_the_command_of_a_race_ends_with_1_when_it_catches_and_0_when_it_is_fixed(tmp_path):
    caught = ptelab("run", "race/no-flush", "--json", str(tmp_path / "caught.json"))
    fixed = ptelab("run", "race/no-flush", "--fixed", "--seconds", "0.2")

    record = json.loads((tmp_path / "caught.json").read_text())
    assert (caught.returncode, fixed.returncode) == (1, 0)
    assert "VIOLATION  tlb-hit-freed-frame" in caught.stdout
    assert record["violations"][0]["detector"] == "tlb-hit-freed-frame"
    assert record["violations"][0]["story"]
    assert record["verdict"] == "fail"


def test_the_zoo_writes_one_row_per_race():
    run = ptelab("races", "--seeds", "1", "--only", "no-flush,plain-count", "--json", "-")

    record = json.loads(run.stdout)

    assert run.returncode == 0
    assert [row["race"] for row in record["rows"]] == ["no-flush", "plain-count"]
    for row in record["rows"]:
        assert row["caught"] == row["seeds"] == 1
        assert row["clean_operations"] > 0
        assert row["clean_violations"] == 0
        assert row.keys() >= {"knob", "detector", "median_seconds", "median_operations"}


def test_an_unknown_race_is_refused_with_the_known_ones():
    for arguments in (["run", "race/nonsense"], ["races", "--only", "nonsense"]):
        run = ptelab(*arguments)

        assert run.returncode == 2
        assert "unknown race 'nonsense'; known: publish-before-init" in run.stderr
        assert run.stderr.count("\n") == 1


def test_a_setting_that_the_policy_cannot_have_is_refused():
    tools = Instruments(settings={"any_zero_frees": 1})

    with pytest.raises(ValueError, match="needs a policy with a grace period"):
        Machine(Geometry(), "refcount-lock", tools)


def test_the_tables_of_a_document_are_written_and_the_rest_of_it_is_left(tmp_path):
    document, text = tmp_path / "races.md", (ROOT / "docs" / "races.md").read_text()
    document.write_text(text.replace("| `no-flush` | `tlb-hit-freed-frame`", "| `no-flush` | `gone`"))

    run = ptelab("races", "--tables", str(document))

    assert (run.returncode, run.stdout) == (0, "")
    assert document.read_text() == text


@pytest.mark.parametrize(("text", "said"), [("# nothing\n", "no place for the table of knobs"), (None, "cannot write")])
def test_a_document_without_a_place_for_the_tables_is_left_as_it_is(tmp_path, text, said):
    document = tmp_path / "other.md"
    if text is not None:
        document.write_text(text)

    run = ptelab("races", "--tables", str(document))

    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
    assert text is None or document.read_text() == text
