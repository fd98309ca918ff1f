"""Every kind of record is as docs/schema-1.json says, its text fits 100 columns, and every measurement is in its CSV.

Covers: scenarios/reports/long_form
"""

import copy
import csv
import io
import json
import os
import re
from pathlib import Path

import json_schema
import jsonschema
import pytest
from command import ptelab

from scenarios.reports.long_form import csv_text, is_number, long_form
from scenarios.reports.page import page
from scenarios.reports.reading import Run, read_runs

RECORDS = Path(__file__).with_name("reports") / "records"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json_schema.SCHEMA.read_text()))
TRACE = "mmap 0 16M\ntouch 0 0 16M 2M\nfork\ndontneed 0 0 16M\n"
STRACE = "mmap(NULL, 4194304, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000\n"
LOAD = {"op": "load", "reg": "r0", "loc": "x", "kind": "mov"}
LITMUS = {"name": "a load", "model": "tso", "init": {"x": 0}, "threads": [[LOAD]], "quantifier": "exists"}
LITMUS |= {"condition": "0:r0 == 0", "verdict": True}
PLAN = '[[explore]]\nname = "claim/two-installs"\nbound = 0\n'
DEBUG = ("--checks", "online")  # one build for all of them
OLD = str(RECORDS / "multi-fault.json")

# scenario -> the shortest command that writes such a record, and the exit statuses it may have
LIGHT = {
    "multi-fault": (["run", "multi-fault", "--cpus", "1", "--repeat", "2", "--seconds", "0.02", *DEBUG], {0}),
    "stress": (["run", "stress", "--policy", "none,refcount"], {0}),
    "replay": (["replay", "{trace}", *DEBUG], {0}),
    "whatif": (["whatif", "{trace}", *DEBUG], {0}),
    "import": (["import", "{strace}", "-o", "{out}"], {0}),
    "compare": (["compare", OLD, OLD, "--policy", "none,refcount", "--all"], {0}),
    "explore": (["explore", "claim/two-installs", "--twin", "--memory", "sc"], {1}),
    "advise": (["advise", str(os.getpid())], {0}),
}
LONGER = {
    "madvise-loop": (["run", "madvise-loop", "--size", "8M", "--host", *DEBUG], {0}),
    "server-snapshot": (["run", "server-snapshot", "--scale", "50000", "--host", *DEBUG], {0}),
    "finish-fault-deadlock": (["run", "finish-fault-deadlock", *DEBUG], {0}),
    "bad-input": (["run", "bad-input", *DEBUG], {0}),
    "mremap-oom": (["run", "mremap-oom", "--seconds", "0.1", *DEBUG], {0, 1, 4}),
    "arena": (["arena", "--workload", "sweep", "--scale", "1024", "--policy", "none-rcu,refcount", *DEBUG], {0}),
    "soak": (["soak", "--faults", "1000"], {0}),
    "campaign": (["campaign", "{plan}", "--results", "{out}"], {0}),
    "race": (["run", "race/no-flush"], {1}),
    "races": (["races", "--only", "no-flush", "--seeds", "1"], {0}),
    "agree": (["agree", "--count", "2"], {0, 1}),
    "findings": (["findings", "--only", "D1,A1", "--seeds", "1"], {0}),
    "barriers": (["barriers", "--only", "rcu.py", "--executions", "5"], {0}),
    "litmus": (["litmus", "{litmus}"], {0}),
}
ALL = [*LIGHT.items(), *(pytest.param(name, of, marks=pytest.mark.stress) for name, of in LONGER.items())]


def numbers(value):
    """How many numbers a value holds, outside of lists of objects."""
    if isinstance(value, dict):
        return sum(map(numbers, value.values()))
    return sum(map(is_number, value)) if isinstance(value, list) else is_number(value)


def test_the_schema_is_what_the_document_says():
    assert json_schema.SCHEMA.read_text() == json_schema.written(), "python tests/json_schema.py writes it"


def test_every_kind_of_record_is_held_to_the_schema():
    rules = json.loads(json_schema.SCHEMA.read_text())["allOf"]
    kinds = [rule["if"]["properties"]["scenario"] for rule in rules]

    named = [kind.get("const", kind.get("pattern", "").strip("^/ ")) for kind in kinds]
    assert sorted(named) == sorted({**LIGHT, **LONGER})


@pytest.mark.parametrize(("kind", "of"), ALL)
def test_a_record_is_as_documented_its_text_fits_its_csv_has_every_number_and_it_is_a_page(kind, of, tmp_path):
    arguments, statuses = of
    files = {"trace": TRACE, "strace": STRACE, "litmus": json.dumps(LITMUS) + "\n", "out": "", "plan": PLAN}
    for name, text in files.items():
        (tmp_path / f"{name}.trace").write_text(text)
    filled = [word.format(**{name: tmp_path / f"{name}.trace" for name in files}) for word in arguments]
    file = tmp_path / "record.json"

    run = ptelab(*filled, "--json", str(file))

    assert run.returncode in statuses, run.stdout + run.stderr
    record = json.loads(file.read_text())
    assert [error.message for error in VALIDATOR.iter_errors(record)] == []
    assert record["rows"]
    commands = re.compile(r"\s*(again: )?ptelab ")  # one copies them
    shown = [line for line in run.stdout.splitlines() if not commands.match(line)]
    assert [line for line in shown if len(line) > 100] == []
    runs = read_runs(str(file))
    lines = list(csv.DictReader(io.StringIO(csv_text(runs))))
    assert lines
    assert {line["record"] for line in lines} == {"record.json"}
    assert f"<h1>ptelab: {record['scenario']}</h1>" in page(runs)


@pytest.mark.parametrize(
    "damage",
    [
        {"surprise": 1},
        {"verdict": "perhaps"},
        {"scenario": "unheard-of"},
        {"rows": [{"policy": "none", "no_such_key": 1}]},
        {"rows": [{"policy": "none", "ns_per_fault": 1.0}]},  # a list, one element per round
        {"violations": [{"saw": 1}]},
    ],
)
def test_a_record_that_is_not_as_documented_is_refused(damage):
    (run,) = read_runs(OLD)
    whole = {**copy.deepcopy(run.data), "about": None}

    assert VALIDATOR.is_valid(whole)
    assert not VALIDATOR.is_valid({**whole, **damage})


def test_the_long_form_has_a_line_per_round_with_what_names_its_row():
    row = {"policy": "none", "cpus": 2, "faults": 7, "ns": [1.0, 2.5, None], "freed_kb": {"munmap": 4}, "found": None}
    row |= {"held": True, "texts": ["a"], "story": {"lines": [{"step": 1}]}}
    (run,) = read_runs(OLD)
    lines = long_form([Run("x.json", {**run.data, "scenario": "x", "rows": [row]})])

    named = {(line["policy"], line["cpus"], line["held"], line["record"], line["row_number"]) for line in lines}
    assert named == {("none", 2, True, "x.json", 0)}
    assert [(line["figure"], line["round"], line["value"]) for line in lines] == [
        ("faults", "", 7),
        ("ns", 0, 1.0),
        ("ns", 1, 2.5),
        ("freed_kb.munmap", "", 4),
    ]


@pytest.mark.parametrize("file", ["multi-fault.json", "arena.json", "whatif.json"])
def test_no_number_of_a_record_is_lost_in_the_csv(file):
    (run,) = read_runs(str(RECORDS / file))
    lines = list(csv.DictReader(io.StringIO(csv_text([run]))))

    names = sum(is_number(row.get(name)) for row in run.rows for name in ("cpus", "chunks", "scale"))
    assert len(lines) == sum(numbers(row) for row in run.rows) - names
    assert all(float(line["value"]) == float(line["value"]) for line in lines)


def test_report_writes_the_csv_of_several_records_and_a_command_its_own():
    both = ptelab("report", OLD, str(RECORDS / "madvise-loop.json"), "--format", "csv")
    own = ptelab("compare", OLD, OLD, "--all", "--format", "csv")

    assert (both.returncode, own.returncode) == (0, 0), both.stderr + own.stderr
    scenarios = {line["scenario"] for line in csv.DictReader(io.StringIO(both.stdout))}
    assert scenarios == {"multi-fault", "madvise-loop"}
    assert {line["judgement"] for line in csv.DictReader(io.StringIO(own.stdout))} == {"same"}


def test_markdown_and_a_narrow_text_are_the_same_table():
    said = {
        kind: ptelab("compare", OLD, OLD, "--all", *kind.split()).stdout for kind in ("--format markdown", "--width 60")
    }

    assert "| figure | %stddev | %change |" in said["--format markdown"]
    assert "\n**multi-fault, none, 1 CPU, barrier, native**\n" in said["--format markdown"]
    tables = [line for line in said["--width 60"].splitlines() if not line.startswith(("old", "new"))]
    assert max(map(len, tables)) <= 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "excel"], "unknown format 'excel'; known: text, markdown, csv"),
        (["--width", "3"], "--width '3' is out of range; known: a whole number from 40 to 240"),
        (["--format", "csv", "--json", "-"], "--format csv and --json - both want stdout; known: one of them"),
    ],
)
def test_a_form_that_cannot_be_is_one_line(arguments, said):
    run = ptelab("compare", OLD, OLD, *arguments)

    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"ptelab: {said}\n")
