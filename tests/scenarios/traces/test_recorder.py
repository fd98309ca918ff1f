"""Recordings of this host's kernel: what they measure, and that the kernel of the recorded cases gives their rows.

Covers: workers/host/host_*
"""

import os
from pathlib import Path

import pytest
from command import ptelab
from support import ROOT

from scenarios.traces.recorder import NotTheSame, record, the_same
from scenarios.traces.replay import with_keys
from scenarios.traces.trace import parse
from workers.host.fault_loop import HostUnavailable
from workers.host.kernel_facts import has_protection_keys, kernel_facts

CASES = sorted((ROOT / "tests" / "conformance" / "cases").glob("*.trace"))
RECORDED = "6.18.44"


def why_not_recorded_here():
    """What this host has not of the one that the cases were recorded on, or nothing."""
    facts = kernel_facts()
    wanted = {"pt_reclaim": "yes", "transparent_hugepage": "madvise"}
    if not facts["release"].startswith(RECORDED):
        return f"the cases are of Linux {RECORDED}, this is {facts['release']}"
    if any(facts[name] != value for name, value in wanted.items()):
        return f"recorded with {wanted}, this kernel has {facts}"
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        return "recorded without swap"
    return "" if os.geteuid() == 0 else "recorded as root"


@pytest.fixture
def trace(tmp_path):
    """A parsed trace of these lines."""

    def write(*lines):
        path = tmp_path / "a.trace"
        path.write_text("\n".join(lines) + "\n")
        try:
            record(parse(path), repeat=1)
        except HostUnavailable as error:
            pytest.skip(str(error))
        return parse(path)

    return write


def figures(rows):
    return [row.split("\t")[:5] for row in rows]


@pytest.mark.stress
@pytest.mark.skipif(why_not_recorded_here() != "", reason=why_not_recorded_here())
def test_the_kernel_of_the_cases_gives_their_rows_again():
    traces = {path: parse(path) for path in CASES}
    same_here = [path for path in CASES if not (has_protection_keys() and is_only_executed(traces[path]))]

    different = [
        path.stem
        for path in same_here
        if record(traces[path], repeat=1) != path.with_suffix(".expect").read_text().splitlines()
    ]

    assert different == []
    assert len(same_here) > len(CASES) - 9


def is_only_executed(trace):
    """True if a trace has memory of PROT_EXEC alone: the cases are of a processor without protection keys."""
    return any(with_keys(insn) != insn for insn in trace.program())


def test_a_recording_measures_nothing_of_itself(trace):
    rows = record(trace("mark", "fork", "mark", "forkhold", "mark", "forkdo mark", "reap", "mark"))

    assert [row[:4] for row in figures(rows)] == [["0"] * 4] * 8
    assert [row[4] for row in figures(rows)] == ["", "0:0:0", "", "0:0:0", "", "0:0:0", "", ""]


def test_pages_are_touched_once_each_and_a_forbidden_one_is_an_error(trace):
    rows = record(trace("mmap 0 64K", "touch 0 0 64K", "touch 0 0 64K", "read 0 60K 8K", "mmapr 0 64K", "touch 0 0 4K"))

    faults_and_errors = [(row[2], row[3]) for row in figures(rows)]
    assert faults_and_errors == [("0", "0"), ("16", "0"), ("16", "0"), ("16", "-14"), ("16", "0"), ("16", "-14")]


def test_a_child_that_stays_is_gone_when_the_recording_ends(trace):
    rows = record(trace("mmap 0 1M", "touch 0 0 1M", "forkhold"), repeat=1)

    assert figures(rows)[2][4].split(":")[1:] == ["1024", "0"]


def test_addresses_that_the_recording_needs_itself_are_refused(trace, tmp_path):
    path = tmp_path / "b.trace"
    path.write_text("munmap 0 0 0x6fffffff0000\n")  # up to the end of user space

    with pytest.raises(HostUnavailable, match="addresses of the recording process"):
        record(parse(path))


def test_a_trace_that_lies_where_the_recording_process_does_is_moved_and_has_the_same_page_tables(trace, tmp_path):
    rows = []
    for at, to in (("0x100000000000", "0x110000000000"), ("0x7ff000000000", "0x550000000000")):
        path = tmp_path / "b.trace"
        text = (
            f"mm @ 4M {at} rw\ntouch @ {at} 4M\nmr @ {at} 2M 4M may,fixed @ {to}\ntouch @ {to} 4M\nmunmap @ {to} 4M\n"
        )
        path.write_text(text)
        rows.append([row[:4] for row in figures(record(parse(path), repeat=1))])

    assert rows[0] == rows[1]


def test_a_trace_that_needs_more_memory_than_there_is_is_refused(tmp_path):
    path = tmp_path / "b.trace"
    path.write_text("mmap 0 32G\ntouch 0 0 32G\nmmap 1 32G\ntouch 1 0 32G\nmmap 2 32G\ntouch 2 0 32G\n")

    with pytest.raises(HostUnavailable, match="are free"):
        record(parse(path))


def test_recordings_that_differ_are_no_recording():
    rows = ["0\t0\t0\t0\t\tmark", "0\t0\t0\t0\t\tmark"]

    assert the_same([rows, rows]) == rows
    with pytest.raises(NotTheSame, match="two recordings differ"):
        the_same([rows, rows, [rows[0], "0\t0\t1\t0\t\tmark"]])


def test_the_command_writes_the_rows_and_replay_compares_with_them(trace, tmp_path):
    trace("mmap 0 1M", "touch 0 0 1M")

    recorded = ptelab("record", str(tmp_path / "a.trace"), "--out", str(tmp_path / "a.expect"))
    replayed = ptelab("replay", str(tmp_path / "a.trace"), "--host")

    assert (recorded.returncode, recorded.stdout) == (0, ""), recorded.stderr
    assert (replayed.returncode, replayed.stdout) == (0, (tmp_path / "a.expect").read_text()), replayed.stderr
    assert "this host has the same 2 rows" in replayed.stderr
