"""The C twin: built where there is a compiler, and run under both of its policies."""

import pytest

from benchmarks.twin import TwinUnavailable, build_twin, twin_round


def test_the_c_twin_runs_the_same_loop_under_both_policies(tmp_path):
    try:
        program = build_twin(tmp_path)
    except TwinUnavailable as reason:
        pytest.skip(str(reason))

    assert twin_round(program, "none", 0.05) > 0
    assert twin_round(program, "refcount", 0.05) > 0


def test_a_machine_without_a_compiler_has_no_twin_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(TwinUnavailable, match="no C compiler is here"):
        build_twin(tmp_path)
