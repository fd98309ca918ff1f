"""What is said of this host's kernel."""

import platform
import subprocess
import sys

import pytest

from workers.host.kernel_facts import frees_covered_tables, has_protection_keys, kernel_facts

READS_WHAT_IS_ONLY_EXECUTED = """
import ctypes, mmap
memory = mmap.mmap(-1, mmap.PAGESIZE)
at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), mmap.PAGESIZE, mmap.PROT_EXEC) == 0
print(ctypes.string_at(at, 1))
"""


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


def test_protection_keys_are_there_if_memory_that_is_only_executed_cannot_be_read():
    run = subprocess.run([sys.executable, "-c", READS_WHAT_IS_ONLY_EXECUTED], capture_output=True)

    assert (run.returncode != 0) == has_protection_keys()
