"""The scenario multi-fault: its table, its record, and its processes that die or stall."""

import json

from command import ptelab

QUICK = ["run", "multi-fault", "--cpus", "1", "--repeat", "2", "--seconds", "0.05", "--no-host"]


def test_multi_fault_prints_the_table_and_the_audit():
    run = ptelab(*QUICK)

    assert run.returncode == 0, run.stderr
    title = next(line for line in run.stdout.splitlines() if line.startswith("threads  "))
    assert title.split() == ["threads", "none", "refcount", "change", "cover", "letter", "change"]
    assert "32.09 -> 31.88 M   -0.64 %" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 100
    assert "+-" in run.stdout
    assert "check   pte_refcount            0   ok" in run.stdout
    assert run.stdout.rstrip().endswith("result  PASS")


def test_json_on_stdout_is_the_whole_record_and_nothing_else():
    run = ptelab(*QUICK, "--json", "-", "--seed", "7")

    record = json.loads(run.stdout)

    assert record.keys() >= {"schema", "scenario", "command", "environment", "rows", "checks", "verdict"}
    assert (record["schema"], record["scenario"], record["verdict"]) == (1, "multi-fault", "pass")
    assert record["environment"]["seed"] == 7
    assert [row["policy"] for row in record["rows"]] == ["none", "refcount"]
    for row in record["rows"]:
        assert row.keys() >= {
            "policy",
            "cpus",
            "engine",
            "variant",
            "pf_per_min",
            "ns_per_fault",
            "tables_freed",
            "ipis",
        }
        assert len(row["pf_per_min"]) == len(row["ns_per_fault"]) == 2
    assert set(record["checks"].values()) == {0}
