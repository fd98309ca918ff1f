"""ptelab compare: a change is named where the rounds show it, and only there.

Covers: scenarios/compare, scenarios/checkouts, scenarios/session/child
"""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, ENVIRONMENT
from support import ROOT

from scenarios import checkouts
from scenarios.cli import command_line
from scenarios.reports.comparing import change_of, compared
from scenarios.reports.page import page
from scenarios.reports.reading import Run, read_runs

RECORDS = Path(__file__).with_name("records")
OLD = RECORDS / "multi-fault.json"


def written(tmp_path, name, change):
    """The record of multi-fault after `change(row)` of each row."""
    data = json.loads(OLD.read_text())
    for row in data["rows"]:
        change(row)
    file = tmp_path / name
    file.write_text(json.dumps(data))
    return str(file)


def slower(factor):
    def change(row):
        row["ns_per_fault"] = [value * factor for value in row["ns_per_fault"]]

    return change


def same(row):
    pass


def test_a_slower_fault_fails_behind_the_gate_and_a_faster_one_passes(tmp_path, capsys):
    def quiet(row):  # rounds that agree to within a per cent
        row["ns_per_fault"] = [100.0, 101.0, 99.5, 100.4, 100.2]

    def worse(row):
        quiet(row)
        slower(1.1)(row)

    old, new = written(tmp_path, "old.json", quiet), written(tmp_path, "new.json", worse)
    assert command_line(["compare", old, new, "--gate", "5%"]) == 1
    said = capsys.readouterr().out
    assert "ns_per_fault is worse by 10.0 %" in said
    assert "result  FAIL" in said
    assert command_line(["compare", old, new, "--gate", "15"]) == 0
    assert command_line(["compare", new, old, "--gate", "5"]) == 0
    assert command_line(["compare", old, new]) == 0


def test_what_lies_within_the_spread_is_not_significant(tmp_path, capsys):
    file = written(tmp_path, "new.json", slower(1.001))

    assert command_line(["compare", str(OLD), file, "--gate", "0"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ns_per_fault ")]
    assert len(lines) == 6
    assert all(" n.s. " in line for line in lines)


def test_equal_rounds_are_seldom_said_to_differ():
    """Of five rounds each from one distribution the level allows one in twenty; 300 pairs, drawn by a seed."""
    draw = random.Random(3)
    pairs = [[[draw.gauss(100, 8) for _ in range(5)] for _ in "ab"] for _ in range(300)]

    assert sum(change_of((), "ns_per_fault", *pair).sure for pair in pairs) <= 20


@pytest.mark.parametrize("rounds", [3, 5, 9])
def test_a_change_well_beyond_the_spread_is_found(rounds):
    draw = random.Random(rounds)
    old, new = ([draw.gauss(mean, 1) for _ in range(rounds)] for mean in (100, 110))
    change = change_of((), "ns_per_fault", old, new)

    assert change.sure
    assert change.judgement == "worse"
    assert 5 < change.low < change.percent < change.high < 15


def test_throughput_is_better_when_it_is_higher_and_a_counter_is_neither():
    rounds = [100.0, 101, 102, 103, 104], [200.0, 201, 202, 203, 204]

    assert change_of((), "pf_per_min", *rounds).judgement == "better"
    assert change_of((), "ns_per_fault", *rounds).judgement == "worse"
    assert change_of((), "tables_freed", *rounds).judgement == "other"


def test_sizes_are_exact_and_a_time_of_one_round_says_nothing():
    assert change_of((), "vmpte_kb", [240], [244]).judgement == "worse"
    assert change_of((), "vmpte_kb", [240], [240]).judgement == "same"
    assert change_of((), "vmpte_kb", [0], [4]).judgement == "worse"
    assert change_of((), "median_seconds", [1.0], [9.0]).judgement == "1 round"


def test_two_policies_are_compared_line_by_line(capsys):
    status = command_line(["compare", str(RECORDS / "replay-none.json"), str(RECORDS / "replay-refcount.json")])

    said = capsys.readouterr().out
    assert status == 0
    assert "exact" in said
    assert "better" in said
    assert "vmpte_kb" in said


def test_two_policies_of_one_record_are_compared(capsys):
    assert command_line(["compare", str(OLD), str(OLD), "--policy", "none,refcount", "--all"]) == 0

    said = capsys.readouterr().out
    assert "multi-fault, 1 CPU, barrier, native" in said
    assert "none" not in said
    assert " same " not in next(line for line in said.splitlines() if line.startswith("tables_freed"))


def test_rounds_of_records_in_one_file_are_taken_together():
    (run,) = read_runs(str(OLD))
    twice = [run, Run("again", run.data)]

    assert {len(change.old) for change in compared(twice, [run]) if change.figure == "pf_per_min"} == {6}


def test_a_report_can_be_compared_as_well_as_json(tmp_path, capsys):
    file = tmp_path / "new.html"
    file.write_text(page(read_runs(str(OLD))))

    assert command_line(["compare", str(OLD), str(file), "--all", "--gate", "1%"]) == 0
    said = capsys.readouterr().out
    assert " worse " not in said
    assert max(map(len, said.splitlines())) <= 100


def test_a_terminal_that_knows_ascii_gets_ascii():
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "compare", str(OLD), str(OLD), "--all"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert "+-  7%" in ran.stdout


def test_commit_machine_and_verdict_of_both_are_named_and_other_machines_are_said(tmp_path, capsys):
    data = json.loads(OLD.read_text())
    data["environment"] |= {"processor_model": "Another One", "commit": "0123456789abcdef"}
    file = tmp_path / "new.json"
    file.write_text(json.dumps(data))

    assert command_line(["compare", str(OLD), str(file)]) == 0
    said = capsys.readouterr().out
    assert "commit 0123456789ab, 2 x Another One" in said
    assert "verdict pass" in said
    assert "the machines differ" in said


def test_the_comparison_is_a_record_too(tmp_path, capsys):
    file = written(tmp_path, "new.json", slower(3))

    status = command_line(["compare", str(OLD), file, "--gate", "5%", "--json", "-"])
    data = json.loads(capsys.readouterr().out)
    assert status == 1
    assert data["verdict"] == "fail"
    assert {row["judgement"] for row in data["rows"] if row["figure"] == "ns_per_fault"} >= {"worse"}
    assert len(data["bugs"]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.json", str(OLD)], "cannot read missing.json"),
        ([str(OLD), str(RECORDS / "madvise-loop.json")], "nothing to compare"),
        ([str(OLD), str(OLD), "--policy", "none"], "--policy 'none' is not two policies"),
        ([str(OLD), str(OLD), "--policy", "none,corten"], "no row of policy corten; known: none, refcount"),
        ([str(OLD), str(OLD), "--gate", "much"], "--gate 'much'"),
        ([str(OLD), str(OLD), "--gate", "-1%"], "--gate '-1%'"),
        ([str(OLD), str(OLD), "--gate", "nan"], "--gate 'nan'"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert command_line(["compare", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def test_equal_records_say_so_in_a_line(capsys):
    assert command_line(["compare", str(RECORDS / "arena.json"), str(RECORDS / "arena.json"), "--gate", "0"]) == 0
    assert "nothing is better or worse" in capsys.readouterr().out


# --- two checkouts --------------------------------------------------------------------------------------------------

LOOP = ["run", "multi-fault", "--cpus", "1", "--policy", "none", "--repeat", "1", "--seconds", "0.01", "--no-host"]


@pytest.fixture
def other(tmp_path):
    """Another checkout, whose loops are said to be ten times as slow."""
    tree = tmp_path / "other"
    for part in ("emulator", "scenarios", "workers"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    file = tree / "scenarios" / "session" / "record.py"
    damaged = file.read_text().replace('"rows": self.rows,', '"rows": [slow(row) for row in self.rows],')
    file.write_text(damaged + '\n\ndef slow(row):\n    return row | {"ns_per_fault": [1e6 + len(repr(row))]}\n')
    return tree


def test_a_command_is_run_in_two_checkouts_in_turn_and_its_rounds_are_compared(other, tmp_path):
    out = tmp_path / "out.json"
    arguments = ["--rounds", "3", "--gate", "5%", "--json", str(out), "--command", *LOOP]
    run = subprocess.run(
        [*COMMAND, "compare", str(ROOT), str(other), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )

    assert run.returncode == 1, run.stderr
    (figure,) = [row for row in json.loads(out.read_text())["rows"] if row["figure"] == "ns_per_fault"]
    assert len(figure["old"]) == len(figure["new"]) == 3
    assert max(figure["old"]) < 1e6 <= min(figure["new"])
    assert (figure["judgement"], figure["cpus"]) == ("worse", "1")


def test_every_other_round_begins_with_the_other_checkout(monkeypatch):
    begun = []

    def run_ptelab(*words, tree):
        begun.append(tree.name)
        return "", {"verdict": "pass"}

    monkeypatch.setattr(checkouts, "run_ptelab", run_ptelab)
    sides = [[], []]
    checkouts.in_turn([Path("/old"), Path("/new")], LOOP, 3, sides)

    assert begun == ["old", "new", "new", "old", "old", "new"]
    assert [len(side) for side in sides] == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([".", "."], ". is a directory; known: records, or two checkouts and --command run NAME ..."),
        ([".", "tests", "--command", *LOOP], "tests is no checkout of ptelab; known: a directory with "),
        ([".", ".", "--command"], "--command takes a command of ptelab and its arguments, to the end of the line"),
        ([str(OLD), str(OLD), "--rounds", "3"], "--rounds is for --command, which runs in two checkouts"),
        ([".", ".", "--command", "run", "nothing"], "ptelab run nothing: ptelab: unknown scenario 'nothing'"),
    ],
)
def test_what_cannot_be_run_in_two_checkouts_is_one_line(arguments, said):
    run = subprocess.run([*COMMAND, "compare", *arguments], capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)

    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert said in run.stderr
