"""The logs whose import is timed are whole, and each kind is what it says."""

import pytest

from benchmarks.imports import KINDS, measure, write_log


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_of_a_made_log_is_understood(tmp_path, kind):
    lines = write_log(tmp_path / "log", kind, 100_000)
    seconds, memory, percent = measure(tmp_path / "log")
    assert (percent, (tmp_path / "log").read_text().count("\n") - lines in (4, 7)) == (100.0, True)
    assert seconds > 0
    assert memory > 0
    threads = {line.split()[1] for line in (tmp_path / "log.trace").read_text().splitlines() if line[:3] == "on "}
    assert len(threads) == (4 if "threads" in kind or "halves" in kind else 0)
