"""The scenario bad-input: a signal per wrong access."""

import json

import pytest
from command import ptelab


@pytest.mark.parametrize("fatal", [False, True])
def test_the_scenario_prints_a_signal_per_access_and_passes(tmp_path, fatal):
    file = tmp_path / "bad.json"
    run = ptelab("run", "bad-input", "--json", str(file), *(["--fatal"] if fatal else []))

    written = json.loads(file.read_text())
    assert run.returncode == 0, run.stdout + run.stderr
    assert "CPU 1: SIGSEGV (SEGV_ACCERR) at 0x1000001000 in insn 4 store 0x1000001000" in run.stdout
    assert len(written["signals"]) == 8
    assert written["checks"]["signals"] == 0
    assert [row["ended"] for row in written["rows"]] == [fatal] * 8
