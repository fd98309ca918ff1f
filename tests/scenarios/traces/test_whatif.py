"""What a program would hold under each design: its processes together, over its time, and what it costs."""

import json

import pytest
from command import ptelab

from scenarios.session.errors import UserError
from scenarios.session.options import Lab
from scenarios.session.record import Record
from scenarios.traces.trace import parse_text
from scenarios.traces.whatif import RESTS, default_policies, read, run

PIECES = ["mm @ 16M 0x7f0000000000 rw", "touch @ 0x7f0000000000 16M", "dontneed @ 0x7f0000000000 16M 64K", "mark"]


def curves_of(lines, *policies):
    """The curves of a trace, and the record."""
    record = Record("whatif", 0)
    return run(parse_text(lines), Lab(policies=policies), record), record


def test_what_is_released_in_pieces_is_freed_by_counting_and_not_by_pt_reclaim():
    (none, pt_reclaim, refcount, scan), record = curves_of(PIECES, "none", "pt-reclaim", "refcount", "async-scan")
    assert record.verdict == "pass"
    assert [curve.peak for curve in (none, pt_reclaim, refcount, scan)] == [40] * 4  # 8 PTE, a PMD, a PUD table
    assert [none.end, pt_reclaim.end, refcount.end] == [40, 40, 8]
    assert (refcount.freed["dontneed"], pt_reclaim.freed["dontneed"]) == (32, 0)
    assert (scan.at_rest, scan.freed["the scan"] + scan.freed["dontneed"]) == (8, 32)
    assert none.result.needed_kb == 0


def test_one_call_for_the_whole_is_freed_by_pt_reclaim_as_well():
    (curve,), _ = curves_of([*PIECES[:2], "dontneed @ 0x7f0000000000 16M", "mark"], "pt-reclaim")
    assert curve.end == 8


def test_children_that_stay_count_until_they_exit():
    lines = ["mm @ 2M 0x7f0000000000 rw", "touch @ 0x7f0000000000 2M", "fork 1", "in 1 munmap @ 0x7f0000000000 2M"]
    (curve,), record = curves_of([*lines, "fork 2", "exit 1", "reap", "mark"], "none")
    held = curve.held[: len(lines) + 4].tolist()
    child = record.rows[0]["curve_kb"][2] - 12
    assert held == [0, 12, 12 + child, 12, 12 + child, 12 + child, 12, 12]
    assert child == 12


def test_this_kernels_design_is_among_those_that_are_compared():
    assert {"none", "refcount", "pt-reclaim", "async-scan"} <= set(default_policies())


def test_a_log_is_imported_first(tmp_path):
    log = tmp_path / "log"
    rw = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
    log.write_text(f"mmap(NULL, 8192, {rw}) = 0x7f0000000000\n")
    assert [operation.text.split()[0] for operation in read(str(log)).operations] == ["mm", "touch"]


def test_what_is_neither_a_trace_nor_a_log_is_one_line(tmp_path):
    (tmp_path / "x").write_text("nonsense\n")
    with pytest.raises(UserError, match="unknown operation"):
        read(str(tmp_path / "x"))


def test_the_command_prints_a_curve_and_writes_a_row_for_each_policy(tmp_path):
    trace = tmp_path / "x.trace"
    trace.write_text("\n".join(PIECES))
    run = ptelab("whatif", str(trace), "--policy", "none,refcount", "--json", str(tmp_path / "json"))
    assert run.returncode == 0
    assert max(map(len, run.stdout.splitlines())) <= 100
    rows = json.loads((tmp_path / "json").read_text())["rows"]
    assert [(row["policy"], row["end_kb"], row["operations"]) for row in rows] == [("none", 40, 4), ("refcount", 8, 4)]
    assert len(rows[0]["curve_kb"]) == 4 + RESTS
    assert "kB freed by   dontneed" in run.stdout
    trace.write_text("\n".join(PIECES[:2]))
    assert "freed by" not in ptelab("whatif", str(trace), "--policy", "none").stdout
    assert ptelab("whatif", str(tmp_path / "nothing.trace")).returncode == 2
