"""The tables of an arena fit into a mail, and say what the rows say."""

import re

import pytest

from emulator.policy.policies import POLICIES
from scenarios.arena import tables
from scenarios.arena.figures import BASELINE, FIGURES
from scenarios.arena.workloads import WORKLOADS

WIDTH = 100


def row(policy, workload, cpus, **figures):
    """A row of large figures that spread widely."""
    filled = {figure: [1_234_567.8, 1_434_567.8, 934_567.8] for figure in FIGURES}
    chunks = 25_600 if WORKLOADS[workload].sized else 0
    sizes = {"table_bytes": 2_000, "cpu_bytes": 98_304, "chunks": chunks, "engine": "native"}
    return {"policy": policy, "workload": workload, "cpus": cpus, **sizes, **filled, **figures}


@pytest.fixture
def printed(capsys):
    """What show() prints of every policy on every workload."""
    cases = [(name, cpus) for name, of in WORKLOADS.items() for cpus in ((1, 16) if of.many else (1,))]
    tables.show([row(policy, *case) for case in cases for policy in POLICIES])
    return capsys.readouterr().out


def test_no_line_is_wider_than_a_mail(printed):
    assert [line for line in printed.splitlines() if len(line) > WIDTH] == []


def test_every_policy_and_every_workload_is_there(printed):
    for policy in POLICIES:
        assert printed.count(f"\n{policy} ") >= len(WORKLOADS)
        assert POLICIES[policy].hole in printed
    for name, of in WORKLOADS.items():
        assert re.search(rf"^{re.escape(name)}[,:] ", printed, re.MULTILINE)
        assert of.asks.split(",")[0] in printed


def test_every_policy_says_what_protects_its_readers_and_what_it_leaves_open():
    for name, policy in POLICIES.items():
        assert all((policy.readers, policy.hole)), name
        assert min(policy.table_bytes, policy.cpu_bytes) >= 0, name


def test_a_cost_is_told_over_the_baseline(capsys):
    rows = [row(BASELINE, "multi-fault", 2, ns_per_fault=[50, 50, 50]), row("refcount", "multi-fault", 2)]
    rows[1]["ns_per_fault"] = [60, 61, 62]

    tables.show(rows)
    out = capsys.readouterr().out

    assert "+11.0 " in out
    assert "+11.0 +- 0.6" in out  # in the table of what it costs


def test_the_share_of_tables_that_is_left_is_told_without_the_upper_ones(capsys):
    """What pmap-mutex frees above the PTE tables makes none of those less."""
    freed = {policy: row(policy, "kept-1%", 1, tables_freed=[256] * 3) for policy in ("refcount", "pmap-mutex")}
    freed["pmap-mutex"]["later_kb"] = [40] * 3

    tables.show_kept(list(freed.values()))

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["refcount", "99.0"] in lines
    assert ["pmap-mutex", "99.0"] in lines


def test_a_policy_that_is_beaten_in_everything_is_marked(capsys):
    fast, slow = row("refcount", "sweep", 1, ns_per_fault=[50] * 3), row("none", "sweep", 1, ns_per_fault=[90] * 3)

    tables.show([fast, slow])
    out = capsys.readouterr().out

    assert "none *" in out
    assert "* none is beaten in everything by refcount" in out
    assert "refcount *" not in out


def test_what_does_not_apply_is_a_dash(capsys):
    tables.show([row("none", "one-slot", 1, ns_per_zap=[None], reuse_median_us=[None], reuse_p99_us=[None])])

    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("none  ")]
    assert ["-"] * 3 in [line[-3:] for line in lines]
