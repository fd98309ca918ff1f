"""The loops on the real kernel: they fault what they count, disturb nobody, and leave nothing.

Covers: workers/host/host_loop
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import multiprocess
import pytest

from workers.host import fault_loop as host
from workers.telling.postmortem import MachineFailed

MIB = 1 << 20
SWEEP = 256 * MIB
TABLES = SWEEP // (2 * MIB)  # PTE tables that a sweep of it installs
FEW = 32  # tables that the interpreter itself may need meanwhile
LONG = 4096 * MIB  # a sweep that lasts beyond the first look at its progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real kernel is Linux")


def left_behind() -> list[str]:
    """Children and shared memory of this process."""
    children = [child.name for child in multiprocess.active_children() if child.name == "host"]
    return children + [path.name for path in Path("/dev/shm").glob(f"ptelab-{os.getpid()}-*")]


def tables_grown(figures: dict) -> int:
    return (figures["vmpte_kb"] - figures["before"]["vmpte_kb"]) // 4


@pytest.mark.parametrize("variant", host.VARIANTS)
@pytest.mark.parametrize("cpus", [1, 2])
def test_multi_fault_faults_as_many_pages_as_it_counts(cpus, variant):
    result = host.measure_multi_fault(cpus, variant, seconds=0.1, warmup=0.0)

    assert result.faults > 0
    assert result.minor_faults_counted == pytest.approx(result.faults, rel=0.1, abs=4096)  # read one after the other
    assert left_behind() == []


def test_the_figures_follow_from_the_counters():
    result = host.measure_multi_fault(2, "self", seconds=0.1, warmup=0.0)

    assert result.pf_per_min == pytest.approx(60 * result.faults / result.seconds)
    assert result.ns_per_fault == pytest.approx(1e9 * result.cpu_seconds / result.faults)


def test_more_threads_than_processors_all_take_part():
    assert host.measure_multi_fault(8, "barrier", seconds=0.1, warmup=0.0).faults > 0


def test_madvise_loop_takes_one_fault_per_page():
    figures = host.measure_madvise_loop(SWEEP)

    assert figures["faults"] == SWEEP // 4096
    assert figures["faults"] <= figures["minor_faults"] <= 1.02 * figures["faults"] + 64


def test_tables_of_a_sweep_by_whole_tables_stay_or_go():
    figures = host.measure_madvise_loop(SWEEP, 2 * MIB)

    with_reclaim, without = range(FEW + 1), range(TABLES, TABLES + FEW + 1)
    assert tables_grown(figures) in with_reclaim or tables_grown(figures) in without


def test_tables_of_a_sweep_by_half_tables_stay_on_every_kernel():
    figures = host.measure_madvise_loop(SWEEP, MIB)

    assert TABLES <= tables_grown(figures) <= TABLES + FEW
    assert figures["res_kb"] - figures["before"]["res_kb"] < SWEEP // 1024 // 8


def test_progress_rises_to_one():
    seen = []

    host.measure_madvise_loop(SWEEP, progress=seen.append)

    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_killed_measurement_says_so():
    def kill(_: float) -> None:
        for child in multiprocess.active_children():
            if child.name == "host":
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(MachineFailed, match="real kernel was killed by SIGKILL"):
        host.measure_madvise_loop(LONG, progress=kill)

    assert left_behind() == []


def test_an_interrupted_measurement_leaves_nothing():
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        host.measure_madvise_loop(LONG, progress=interrupt)

    assert left_behind() == []


def test_more_than_the_address_space_is_unavailable():
    with pytest.raises(host.HostUnavailable, match="GiB: "):
        host.measure_madvise_loop(1 << 50)


def test_bad_requests_name_what_is_known():
    with pytest.raises(ValueError, match="known: barrier, arrive, self, processes"):
        host.measure_multi_fault(1, "selves", 0.1)
    with pytest.raises(ValueError, match="whole pieces"):
        host.measure_madvise_loop(3 * MIB, 2 * MIB)


def test_the_loops_are_compiled_whatever_engine_emulates():
    program = "from workers.host.fault_loop import measure_multi_fault as m; print(m(1, 'barrier', 0.1).faults > 0)"
    environment = {**os.environ, "PTELAB_ENGINE": "semaphore"}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=150)

    assert (done.stdout, done.stderr) == ("True\n", "")
