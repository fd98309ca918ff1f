"""What is said of this host's kernel."""

import platform

from workers.host.kernel_facts import kernel_facts


def test_kernel_facts_are_known_or_said_to_be_unknown():
    facts = kernel_facts()

    assert facts["release"] == platform.release()
    assert {facts["pt_reclaim"], facts["per_vma_lock"]} <= {"yes", "no", "unknown"}
