"""A kernel that names a field nobody has described is refused in one line, before anything is compiled."""

import shutil
import subprocess

import pytest
from command import COMMAND, ENVIRONMENT
from support import ROOT

from emulator.engine import UnknownField
from emulator.engines.compile_cache import kernel_files
from emulator.engines.field_check import check_fields


def test_every_field_that_a_kernel_names_exists():
    assert len(kernel_files()) > 50
    check_fields(kernel_files())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "m.config.no_such_knob[0]",
            "m.config.no_such_knob: 'config' has no field 'no_such_knob'; a knob or a setting",
        ),
        ("m.ptdesc.colour[1]", "x.py:2: m.ptdesc.colour: 'ptdesc' has no field 'colour'"),
        ("m.tables.entry[1]", "x.py:2: m.tables.entry: there is no 'tables' in VIEWS of mm_types.py"),
    ],
)
def test_a_name_that_is_none_is_told_with_its_line(tmp_path, text, says):
    file = tmp_path / "x.py"
    file.write_text(f"def f(m, cpu):\n    return {text}\n")

    with pytest.raises(UnknownField, match=says.replace("[", r"\[")):
        check_fields([file])


def test_the_command_says_so_in_one_line_and_does_not_compile(tmp_path):
    for top in ("emulator", "workers", "scenarios"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "emulator" / "fault" / "zap.py"
    text = file.read_text()
    assert "m.config.advanced_address" in text
    file.write_text(text.replace("m.config.advanced_address", "m.config.advanced_adress"))
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}

    run = subprocess.run(
        [*COMMAND, "run", "multi-fault", "--no-host"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )

    assert run.returncode == 2
    assert "fault/zap.py:" in run.stderr
    assert "'config' has no field 'advanced_adress'; a knob" in run.stderr
    assert len([line for line in run.stderr.splitlines() if "compiling" not in line]) == 1
