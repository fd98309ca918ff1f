"""A program that is run here leaves a trace that has its mappings, its processes and its page tables."""

import shutil
import sys

import pytest

from scenarios.imports.command import import_files
from scenarios.imports.program import choose_tool, record_command
from scenarios.session.errors import UserError
from scenarios.session.options import Lab
from scenarios.session.record import Record
from scenarios.traces.recorder import _split_out
from scenarios.traces.trace import parse
from scenarios.traces.whatif import run

PROGRAM = """
import mmap, os, time
m = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 32 << 20, 4096):
    m[at] = 1
for at in range(0, 16 << 20, 65536):
    m.madvise(mmap.MADV_DONTNEED, at, 65536)
time.sleep(1.5)  # for a look at what it has
if os.fork() == 0:
    os._exit(0)
os.wait()
os._exit(0)
"""


def usable(tool):
    """Why a tool cannot be used here, nothing if it can."""
    try:
        choose_tool(tool)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("tool", ["strace", pytest.param("perf", marks=pytest.mark.stress)])
def test_a_program_that_is_recorded_has_its_own_page_tables_under_this_design(tmp_path, tool):
    if why := usable(tool):
        pytest.skip(why)
    out = tmp_path / "out.trace"
    recorded = record_command([sys.executable, "-S", "-c", PROGRAM], str(out), tool, 0.05)
    assert recorded.account.left_out == 0
    assert any(text.endswith("all the same") for text in recorded.account.notes)
    lines = out.read_text().splitlines()
    assert any(line.startswith("fork ") for line in lines)
    assert sum(line.startswith("dontneed") for line in lines) == 256
    (curve,) = run(parse(out), Lab(policies=("none",)), Record("whatif", 0))
    assert 0 in curve.off  # of the looks while it slept; one that it was at work in may be off


def test_without_a_tool_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="strace is not installed; apt-get install strace"):
        choose_tool(None)


def test_a_command_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such program"):
        record_command(["/nonexistent/program"], str(tmp_path / "out.trace"))
    assert list(tmp_path.iterdir()) == []


def test_the_trace_may_be_named_before_the_program_or_at_the_end_of_the_line():
    assert _split_out(["ls", "-o", "x"], "a.trace") == (["ls", "-o", "x"], "a.trace")
    assert _split_out(["ls", "-l", "-o", "a.trace"], None) == (["ls", "-l"], "a.trace")
    for rest, out in ((["ls", "-o", "x"], None), ([], "a.trace")):
        with pytest.raises(UserError):
            _split_out(rest, out)


def test_what_is_expected_stands_where_it_was_sampled(tmp_path):
    log = tmp_path / "log"
    log.write_text("mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000\n")
    import_files([str(log)], str(tmp_path / "out.trace"), "all")
    lines = [*(tmp_path / "out.trace").read_text().splitlines(), "expect 12K 0K", "expect 8K 0K"]
    (tmp_path / "out.trace").write_text("\n".join(lines))
    (curve,) = run(parse(tmp_path / "out.trace"), Lab(policies=("none",)), Record("whatif", 0))
    assert curve.off.tolist() == [0, 4]
