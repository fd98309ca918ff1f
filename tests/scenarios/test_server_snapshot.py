"""The 55 TiB server, every size divided: VmPTE is the kernel's arithmetic."""

import json
import subprocess

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from emulator.segment import available_bytes
from scenarios import server_snapshot
from scenarios.server_snapshot import Sizes
from scenarios.session.errors import UserError
from scenarios.session.options import Lab
from scenarios.session.progress import Progress
from scenarios.session.record import Record


def test_the_server_needs_what_its_resident_memory_needs():
    setup = {"scale": 8192, "lab": Lab()}
    record = Record("server-snapshot", 0)
    with Progress("test") as progress:
        for policy in ("none", "refcount"):
            server_snapshot.measure(policy, setup, record, progress)
    virt, resident = server_snapshot.Sizes().shape(8192)
    upper = -(-virt // (1 << 30)) * 4 + 4  # its PMD tables and one PUD table, never freed

    before, after = record.rows

    assert record.verdict == "pass"
    assert before["vmpte_kb"] == virt // (2 << 20) * 4 + upper
    assert after["vmpte_kb"] == resident // (2 << 20) * 4 + upper
    assert after["res_kb"] == before["res_kb"] == resident // 1024


def test_the_largest_scale_is_found_and_not_crashed_into():
    for native in (True, False):
        needed = server_snapshot.smallest(100, server_snapshot.LETTER, native)

        assert server_snapshot.largest_that_fits(needed, native=native) == 100
        assert server_snapshot.largest_that_fits(needed - 1, native=native) == 101


def test_entries_lie_apart_where_the_machine_is_large_and_the_engine_can():
    assert [server_snapshot.apart(scale, server_snapshot.LETTER, True) for scale in (1, 1024)] == [True, False]
    assert not server_snapshot.apart(1, server_snapshot.LETTER, False)


@pytest.mark.stress
def test_the_server_fits_at_full_size(tmp_path):
    if available_bytes() < server_snapshot.smallest(1, server_snapshot.LETTER, True):
        pytest.skip("memory is short")
    file = tmp_path / "record"
    command = ["run", "server-snapshot", "--scale", "1", "--json", str(file)]
    subprocess.run([*COMMAND, *command], env=ENVIRONMENT, cwd=ROOT, check=True)  # it says itself how long it takes
    upper = 55 * 1024 * 4 + 110 * 4  # its PMD and PUD tables

    before, after = json.loads(file.read_text())["rows"]

    assert before["virt_kb"] == after["virt_kb"] == 55 << 30
    assert before["res_kb"] == after["res_kb"] == 590 << 20
    assert before["vmpte_kb"] == (55 << 40) // (2 << 20) * 4 + upper
    assert after["vmpte_kb"] == (590 << 30) // (2 << 20) * 4 + upper
    assert before["machine_kb"] <= 10_000_000


def test_an_operators_own_sizes_are_what_is_run_and_this_kernel_frees_what_calls_cover(tmp_path):
    held = {}
    for call in ("64K", "2M"):
        file = tmp_path / call
        sizes = ["--virt", "512M", "--res", "16M", "--call", call]
        run = ptelab("run", "server-snapshot", *sizes, "--policy", "none,pt-reclaim", "--host", "--json", str(file))
        assert run.returncode == 0
        rows = json.loads(file.read_text())["rows"]
        assert {row["scale"] for row in rows} == {1}
        held[call] = {row["policy"]: row["vmpte_kb"] for row in rows}

    upper = 4 + 4  # a PUD table, a PMD table
    assert held["64K"]["none"] == held["64K"]["pt-reclaim"] == 256 * 4 + upper
    assert held["2M"]["pt-reclaim"] == 8 * 4 + upper
    assert held["64K"]["host"] == 256 * 4 + upper
    assert held["2M"]["host"] in (held["2M"]["none"], held["2M"]["pt-reclaim"])


@pytest.mark.parametrize("sizes", [Sizes(1 << 20), Sizes(1 << 30, 2 << 30), Sizes(call=5000), Sizes(1 << 47)])
def test_a_process_that_cannot_be_is_refused(sizes):
    with pytest.raises(UserError, match="out of range"):
        server_snapshot.check_sizes(sizes)
