"""The logs whose import is timed are whole, each kind is what it says, and none takes memory as it grows."""

import os

import pytest

from benchmarks.imports import KINDS, measure, write_log


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_of_a_made_log_is_understood(tmp_path, kind):
    lines = write_log(tmp_path / "log", kind, 100_000)
    seconds, memory, percent = measure(tmp_path / "log")
    assert (percent, (tmp_path / "log").read_text().count("\n") - lines in (0, 4, 7)) == (100.0, True)
    assert seconds > 0
    assert memory > 0
    threads = {line.split()[1] for line in (tmp_path / "log.trace").read_text().splitlines() if line[:3] == "on "}
    assert len(threads) == (4 if "threads" in kind or "halves" in kind else 0)


@pytest.mark.parametrize(("block", "grows"), [({}, False), ({"block": 1 << 30}, True)])
def test_memory_does_not_grow_with_the_log_unless_a_block_is_all_of_it(tmp_path, block, grows):
    kind, peaks = "the same, a third in halves", []
    for size in (6_000_000, 14_000_000):  # both are long enough for a reader apart
        write_log(tmp_path / "log", kind, size)
        peaks.append(measure(tmp_path / "log", **block)[1])
    assert (peaks[1] - peaks[0] > 4096) == grows


@pytest.mark.stress
def test_a_gigabyte_takes_far_less_than_a_gigabyte(tmp_path):
    write_log(tmp_path / "part", "mmap, brk, munmap", 16 << 20)
    part = (tmp_path / "part").read_bytes()
    with (tmp_path / "log").open("wb") as log:
        while log.tell() < 1 << 30:
            log.write(part)
    seconds, peak, percent = measure(tmp_path / "log")
    assert (percent, os.path.getsize(tmp_path / "log") >= 1 << 30, seconds > 0) == (100.0, True, True)
    assert peak < 64 << 10
