"""The 55 TiB server, every size divided: VmPTE is the kernel's arithmetic."""

import json

import pytest
from command import ptelab

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
    needed = server_snapshot.geometry(100).offsets()[1]

    assert server_snapshot.largest_that_fits(needed) == 100
    assert server_snapshot.largest_that_fits(needed - 1) == 101


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
