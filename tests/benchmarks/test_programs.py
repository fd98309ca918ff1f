"""Programs are recorded and replayed as their names say, and those that are not installed are left out."""

import shutil
import sys

import pytest

from benchmarks import programs
from benchmarks.programs import Program, measure
from scenarios.imports.program import choose_tool
from scenarios.session.errors import UserError

PIECES = """
import mmap, os, time
memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 64 << 20, 4096):
    memory[at] = 1
time.sleep(0.5)  # for a look at what is there
for at in range(0, 64 << 20, 65536):
    memory.madvise(mmap.MADV_DONTNEED, at, 65536)
os._exit(0)
"""


def test_what_is_not_installed_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "library", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    names = [program.name for program in programs.programs(tmp_path)]
    assert names[0] == "glibc"
    assert not any(name.startswith(("jemalloc", "redis", "node")) for name in names)


def test_each_program_has_a_name_of_its_own(tmp_path):
    names = [program.name for program in programs.programs(tmp_path)]
    assert len(set(names)) == len(names)


@pytest.mark.stress
def test_a_program_that_releases_in_pieces_wastes_what_counting_would_free():
    try:
        choose_tool("strace")
    except UserError as error:
        pytest.skip(str(error))
    ((name, peak, none, pt_reclaim, refcount, _, waste, _),) = measure(
        [Program("pieces", [sys.executable, "-S", "-c", PIECES])], "strace"
    )
    assert (name, none) == ("pieces", pt_reclaim)
    assert int(none) - int(refcount) >= 31 * 4  # the tables of 64 MiB, but one that something else may be in
    assert int(peak) >= int(none)
    assert waste != "0 %"
