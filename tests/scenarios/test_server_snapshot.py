"""The 55 TiB server, every size divided: VmPTE is the kernel's arithmetic."""

from scenarios import server_snapshot
from scenarios.session.options import Lab
from scenarios.session.progress import Progress
from scenarios.session.record import Record


def test_the_server_needs_what_its_resident_memory_needs():
    setup = {"scale": 8192, "lab": Lab()}
    record = Record("server-snapshot", 0)
    with Progress("test") as progress:
        for policy in ("none", "refcount"):
            server_snapshot.measure(policy, setup, record, progress)
    virt, resident = server_snapshot.shape(8192)
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
