"""What is said of this host's kernel."""

import platform

import pytest

from workers.host.kernel_facts import frees_covered_tables, kernel_facts


def test_kernel_facts_are_known_or_said_to_be_unknown():
    facts = kernel_facts()

    assert facts["release"] == platform.release()
    assert {facts["pt_reclaim"], facts["per_vma_lock"]} <= {"yes", "no", "unknown"}


def test_the_effect_of_pt_reclaim_says_what_the_configuration_says():
    facts = kernel_facts()
    if facts["pt_reclaim"] == "unknown":
        pytest.skip("this kernel publishes no configuration, and cannot be probed")

    assert frees_covered_tables() == facts["pt_reclaim"]


def test_without_a_configuration_the_effect_is_asked(monkeypatch):
    monkeypatch.setattr("workers.host.kernel_facts._kernel_config", lambda: None)

    assert kernel_facts()["pt_reclaim"] == frees_covered_tables()
