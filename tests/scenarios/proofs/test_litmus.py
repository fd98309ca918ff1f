"""The command `ptelab litmus`: tables, rows, exit status, bad input."""

import json

import pytest
from command import ptelab

SB = {
    "name": "SB",
    "model": "tso",
    "init": {"x": 0, "y": 0},
    "threads": [
        [{"op": "store", "loc": a, "val": 1, "kind": "mov"}, {"op": "load", "reg": "r0", "loc": b, "kind": "mov"}]
        for a, b in ("xy", "yx")
    ],
    "quantifier": "exists",
    "condition": "0:r0 == 0 && 1:r0 == 0",
    "verdict": True,
}


def one(operation):
    """A test of one thread and one operation."""
    return {**SB, "threads": [[operation]], "condition": "1"}


@pytest.fixture
def run(tmp_path):
    """Run the command on tests; what it printed, and its rows."""

    def run(*tests, options=()):
        file, out = tmp_path / "tests.jsonl", tmp_path / "out.json"
        file.write_text("\n\n".join(test if isinstance(test, str) else json.dumps(test) for test in tests))
        done = ptelab("litmus", str(file), "--json", str(out), *options)
        return done, json.loads(out.read_text())["rows"] if out.exists() else []

    return run


def test_a_verdict_that_holds_passes_with_a_row_per_model(run):
    done, rows = run(SB)

    assert done.returncode == 0, done.stderr
    assert [(row["memory"], row["reachable"], row["agrees"]) for row in rows] == [
        ("sc", False, True),
        ("tso", True, True),
        ("pso", True, None),
        ("arm", True, None),
    ]
    assert {"name", "memory", "reachable", "expected", "agrees", "outcomes", "executions"} <= rows[0].keys()
    assert [row["outcomes"] for row in rows] == [3, 4, 4, 4]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_verdict_that_does_not_hold_fails_and_is_named(run):
    done, rows = run({**SB, "verdict": False}, options=("--memory", "tso"))

    assert done.returncode == 1
    assert "WRONG  SB under tso" in done.stdout
    assert [row["agrees"] for row in rows] == [False]


def test_an_end_that_the_states_lack_or_have_in_vain_fails(run):
    ends = [{"0:r0": a, "1:r0": b} for a in (0, 1) for b in (0, 1)]
    for states in (ends[1:], [*ends, {"0:r0": 2, "1:r0": 2}]):
        done, rows = run({**SB, "states": states, "states_are": "exact"}, options=("--memory", "tso"))

        assert (done.returncode, rows[0]["agrees"]) == (1, False)


def test_too_few_executions_are_inconclusive_and_never_a_verdict(run):
    done, rows = run({**SB, "verdict": False}, options=("--memory", "sc", "--executions", "2"))

    assert done.returncode == 4, done.stdout
    assert (rows[0]["reachable"], rows[0]["agrees"]) == (None, None)


@pytest.mark.parametrize(
    ("test", "options", "why"),
    [
        ("{", (), "tests.jsonl:1: no litmus test"),
        ("", (), "no litmus test in"),
        (SB, ("--memory", "alpha"), "unknown memory model 'alpha'"),
        (SB, ("--memory", ","), "no memory model given"),
        (SB, ("--executions", "0"), "--executions '0' is out of range"),
        (one({"op": "store", "loc": "*(&x + 9)", "val": 1, "kind": "mov"}), (), "no location"),
        (one({"op": "rcu_read_unlock"}), (), "leaves a read section"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run, test, options, why):
    done, _ = run(test, options=options)

    assert done.returncode == 2
    assert why in done.stderr
    assert len([line for line in done.stderr.splitlines() if "compiling" not in line]) == 1


def test_a_file_that_is_not_there_is_one_line():
    done = ptelab("litmus", "/nowhere/x.jsonl")

    assert done.returncode == 2
    assert done.stderr == "ptelab: cannot read /nowhere/x.jsonl: No such file or directory\n"
