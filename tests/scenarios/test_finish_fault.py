"""The scenario finish-fault-deadlock: patch 1 of the series.

Covers: emulator/locking/mutex, workers/telling/waits
"""

import json

from command import ptelab


def test_the_deadlock_of_finish_fault_is_named_as_a_cycle_and_only_without_patch_1(tmp_path):
    hung = ptelab(
        "run", "finish-fault-deadlock", "--knob", "pte-alloc-under-page-lock", "--policy", "refcount",
        "--seconds", "20", "--json", str(tmp_path / "hung.json"),
    )  # fmt: skip
    runs = ptelab("run", "finish-fault-deadlock", "--seconds", "0.5")

    violation = json.loads((tmp_path / "hung.json").read_text())["violations"][0]
    assert (hung.returncode, runs.returncode) == (1, 0)
    assert violation["detector"] == "no-progress"
    assert (
        "cycle: CPU 0 -> the page lock of page 1 of file 0 -> CPU 1 -> write-back of page 0 of file 0, in reclaim "
        "-> CPU 0" in " ".join(hung.stdout.split())
    )
