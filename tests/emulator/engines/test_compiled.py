"""A program is compiled once; whoever starts later loads it, and has no compiler at all."""

import subprocess
import sys

import pytest
from command import ENVIRONMENT
from support import ROOT

from emulator.engines import compile_cache

PROGRAM = """
import sys
from emulator.engines.compiled import Program

program = Program("-sum")
language = program.language()

@language.kernel
def less(a, b):
    return a - b

@program.entry_point
def sum_of(m, a, b):
    return less(a, -b)

program.prepare()
print(sum_of(type("Nowhere", (), {"address": 0}), 2**40, -3), "numba" in sys.modules)
"""


# Numba keeps the function that it has made for `in`, here before there is a program.
BEFORE = """
from numba import njit

@njit(error_model="numpy")
def is_small(a):
    return a in (1, 2, 3)

assert is_small(2)
"""
WITH_IN = (
    BEFORE
    + """
from emulator.engines.compiled import Program

program = Program("-in")
language = program.language()

@language.kernel
def small(a):
    return a in (1, 2, 3)

@program.entry_point
def count(m, a, b):
    return int(small(a)) + int(small(b))

program.prepare()
print(count(type("Nowhere", (), {"address": 0}), 3, 4))
"""
)
NOTHING_BELOW = """
from emulator.engines import whole_program
whole_program._everything_below = lambda library: library._linking_libraries
"""


def start(code, **environment):
    """What a process that runs `code` prints."""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**ENVIRONMENT, **environment}
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_second_start_gives_the_same_without_the_compiler(tmp_path):
    first, second = (start(PROGRAM, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2))

    assert first == [str(2**40 - 3), "True"]
    assert second == [str(2**40 - 3), "False"]


def test_a_program_calls_what_numba_had_made_for_others_before(tmp_path):
    assert start(WITH_IN, XDG_CACHE_HOME=str(tmp_path)) == ["1"]


def test_a_program_that_is_not_whole_is_refused_before_it_is_kept(tmp_path):
    with pytest.raises(AssertionError, match=r"LinkError: called, and linked from nowhere: .*less"):
        start(NOTHING_BELOW + PROGRAM, XDG_CACHE_HOME=str(tmp_path))

    assert list(tmp_path.rglob("kernels.o")) == []


@pytest.mark.parametrize("module", ["emulator.program.insn", "workers.host.host_loop"])
def test_a_machine_and_the_loops_on_this_host_start_without_the_compiler(module):
    prepare = f"import {module}; from emulator import engine; engine.prepare(); import sys"
    start(prepare)

    assert start(f"{prepare}; print('numba' in sys.modules)") == ["False"]


def test_a_file_of_a_cache_is_made_once_and_made_again_when_it_was_changed(tmp_path):
    made = []

    def make():
        made.append(1)
        return b"code"

    cache = tmp_path / "cache"
    assert [compile_cache.filled(cache, "file", make) for _ in range(2)] == [b"code"] * 2
    assert (len(made), compile_cache.read(cache, "file")) == (1, b"code")

    (cache / "file").write_bytes(b"code of somebody else")

    assert compile_cache.read(cache, "file") is None
    assert compile_cache.filled(cache, "file", make) == b"code"
    assert len(made) == 2
