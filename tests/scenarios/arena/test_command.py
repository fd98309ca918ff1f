"""The command arena: what it prints, what it writes, what it refuses, and when it fails.

Covers: scenarios/arena/measure
"""

import json
import re

import numpy as np
import pytest
from command import ptelab

from emulator.mm_types import Geometry
from emulator.policy.policies import POLICIES
from scenarios.arena import command
from scenarios.arena.figures import FIGURES
from scenarios.arena.measure import costs
from scenarios.arena.workloads import WORKLOADS, Job
from scenarios.session import session
from scenarios.session.errors import UserError
from workers.programs.program import assemble, dontneed, touch

QUICK = ["arena", "--workload", "sweep,multi-fault", "--cpus", "2", "--policy", "none-rcu,refcount", "--scale", "256"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A short run: what it printed, and its record."""
    file = tmp_path_factory.mktemp("arena") / "arena.json"
    run = ptelab(*QUICK, "--repeat", "2", "--json", str(file))
    assert run.returncode == 0, run.stderr
    return run, json.loads(file.read_text()), file


def test_the_record_has_a_row_for_each_policy_and_workload_with_a_value_for_each_repeat(written):
    _, record, _ = written

    found = [(row["workload"], row["cpus"], row["policy"]) for row in record["rows"]]
    cases = [("sweep", 1), ("multi-fault", 2)]
    assert found == [(*case, policy) for case in cases for policy in ("none-rcu", "refcount")]
    for row in record["rows"]:
        assert row.keys() == {
            "workload", "policy", "cpus", "engine", "chunks", "table_bytes", "cpu_bytes", *FIGURES,
        }  # fmt: skip
        assert all(len(row[figure]) == 2 for figure in FIGURES)
        assert all(ns > 0 for ns in row["ns_per_fault"] + row["ns_per_zap"])
    swept, counted = record["rows"][:2]
    assert swept["left_kb"] == [40 + 400] * 2
    assert counted["left_kb"] == [40] * 2
    assert swept["reuse_median_us"] == [None] * 2
    assert counted["tables_freed"] == [100] * 2
    assert (record["verdict"], set(record["checks"].values())) == ("pass", {0})


def test_the_text_has_the_tables_and_the_audit(written):
    run, _, _ = written

    assert "sweep, 100 pieces of 2 MiB" in run.stdout
    assert "multi-fault, 2 CPUs" in run.stdout
    assert re.search(r"^2 +- ", run.stdout, re.MULTILINE)  # the cover letter has no row for two threads
    assert "check   pte_refcount            0   ok" in run.stdout
    assert run.stdout.rstrip().endswith("result  PASS")


def test_compare_passes_what_is_as_before_and_fails_what_got_worse(written, tmp_path):
    _, record, file = written
    assert ptelab("compare", str(file), str(file), "--gate", "0").returncode == 0

    record["rows"][1]["left_kb"] = [36, 36]
    better = tmp_path / "before.json"
    better.write_text(json.dumps(record))
    run = ptelab("compare", str(better), str(file), "--gate", "5%")

    assert run.returncode == 1
    assert "worse   arena, sweep, refcount, 1 CPU, native, 100: left_kb is worse by 11.1 %" in run.stdout


def test_a_run_fails_where_it_is_worse_than_an_earlier_one_and_shows_its_policies_beside_each_other(written, tmp_path):
    _, record, _ = written
    for row in record["rows"]:
        row["left_kb"] = [kb - 4 for kb in row["left_kb"]]
    better = tmp_path / "better.json"
    better.write_text(json.dumps(record))

    run = ptelab(*QUICK, "--gate", str(better), "--against", "none-rcu")

    assert run.returncode == 1, run.stderr
    assert re.search(r"^worse .*sweep, refcount, 1 CPU, native, 100: left_kb is worse by", run.stdout, re.MULTILINE)
    assert re.search(r"^none-rcu -> refcount\n\n.*sweep.*\n.*%stddev", run.stdout, re.MULTILINE)


def test_a_piece_left_out_stops_the_arena_with_the_command_that_shows_it_again():
    again = "arena --workload one-slot --policy refcount --seed 0 --engine native --checks online --knob no-flush"

    run = ptelab(*again.split())

    assert run.returncode == 1
    assert f"again: ptelab {again}" in run.stdout


KNOWN = ", ".join(POLICIES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workload", "swep"], f"unknown workload 'swep'; did you mean sweep? known: {', '.join(WORKLOADS)}"),
        (["--policy", "non"], f"unknown policy 'non'; did you mean none? known: {KNOWN}"),
        (["--cpus", "0"], "--cpus '0' is not a number of CPUs; known: 1 to 256, separated by commas"),
        (
            ["--cpus", "2", "--workload", "sweep"],
            "--cpus says nothing to sweep, which run on one; known for it: multi-fault, shared-table, disjoint-munmap",
        ),
        (["--against", "non"], f"unknown policy 'non'; did you mean none? known: {KNOWN}"),
        (
            ["--against", "none", "--policy", "refcount"],
            "--against none is for a run of it and of others; this one is of refcount",
        ),
        (["--gate", "/dev/null"], "--gate: /dev/null is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            ["--scale", "2", "--workload", "one-slot"],
            "--scale says nothing to one-slot; known: it divides the 50 GiB of the others",
        ),
    ],
)
def test_what_means_nothing_is_one_line_that_says_what_fits(arguments, said):
    run = ptelab("arena", *arguments)

    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"ptelab: {said}\n")


def test_a_scale_that_does_not_fit_names_the_one_that_does(monkeypatch):
    monkeypatch.setattr(session, "available_bytes", lambda: 24 << 20)
    with pytest.raises(
        UserError, match=r"--scale 16 \(sweep\) needs .* the largest that fits is --scale \d+ \(sweep\)$"
    ):
        command.check_fits((("sweep", 1),), 16, ["none"])


def test_what_a_policy_keeps_on_each_cpu_is_part_of_what_must_fit(monkeypatch):
    job = WORKLOADS["multi-fault"].build(0, 64, 0)
    needs = {policy: int(command.roomy(job, [policy]).offsets()[1]) for policy in ("none", "percpu-ref")}
    monkeypatch.setattr(session, "available_bytes", lambda: needs["none"])

    command.check_fits((("multi-fault", 64),), 1, ["none"])
    with pytest.raises(UserError, match=r"--cpus 64 needs .* the largest that fits is --cpus \d+$"):
        command.check_fits((("multi-fault", 64),), 1, ["none", "percpu-ref"])
    assert needs["percpu-ref"] - needs["none"] >= 64 * 8 * job.geometry.tables


def test_what_ends_a_program_is_not_counted_as_time_without_faults():
    job = Job([assemble([touch(0, 4096), dontneed(0, 4096), touch(0, 8192)])], Geometry())
    record = np.zeros(3, [("ended_ns", "i8"), ("minflt", "i8")])
    record["ended_ns"], record["minflt"] = [1100, 1300, 1700], [1, 1, 3]
    cpu = np.array([(1000, 10**9)], [("started_ns", "i8"), ("finished_ns", "i8")])  # idle for a second, to be looked at

    figures = costs({"record": record, "cpu": cpu}, job, [slice(0, 3)])

    assert figures == {"pf_per_min": pytest.approx(3 / 700e-9 * 60), "ns_per_fault": 150, "ns_per_zap": 200}
