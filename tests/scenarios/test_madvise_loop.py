"""VmPTE is the kernel's arithmetic, at full size.

Covers: emulator/pages/rss
"""

import pytest
from support import by_family

from emulator.policy.policies import POLICIES
from scenarios import madvise_loop
from scenarios.session.options import Lab
from scenarios.session.progress import Progress
from scenarios.session.record import Record

LEAVES_ALL, FREES_ALL, UPPER_TOO = 102_640, 240, 40  # kB
BY_TIME = [policy for policy in POLICIES if POLICIES[policy].scan_period]


def left_by(policy):
    """VmPTE behind the loop: PMD tables go as well under some policies."""
    if POLICIES[policy].upper:
        return UPPER_TOO
    waits = policy.startswith("none") or POLICIES[policy].demand != 0  # nobody asks
    return LEAVES_ALL if waits else FREES_ALL


def loop(policy, base_kb=40, size=50 << 30, piece=2 << 20):
    setup = {"size": size, "piece": piece, "base_kb": base_kb, "lab": Lab()}
    record = Record("madvise-loop", 0)
    with Progress("test") as progress:
        madvise_loop.measure(policy, setup, record, progress)
    assert record.verdict == "pass"
    return record.rows[0]


@pytest.mark.parametrize("policy", by_family(policy for policy in POLICIES if policy not in BY_TIME))
def test_fifty_gib_of_touch_and_release_leave_the_cover_letters_vmpte(policy):
    row = loop(policy)

    assert row["vmpte_kb"] == left_by(policy)
    assert row["tables_installed"] == 25_600 + 5
    assert row["faults"] == 25_600 * 512 + 20


@pytest.mark.parametrize("policy", BY_TIME)
def test_a_policy_that_scans_by_time_leaves_what_came_since_its_latest_scan(policy):
    assert FREES_ALL <= loop(policy)["vmpte_kb"] < LEAVES_ALL


def test_a_base_of_48_kb_gives_the_248_kb_of_2021():
    assert loop("refcount", base_kb=48)["vmpte_kb"] == 248


def test_virt_and_res_count_the_mapping_and_the_image():
    row = loop("refcount", size=1 << 30)

    assert row["virt_kb"] == (1 << 20) + 5 * 16
    assert row["res_kb"] == 5 * 16
