"""The project as others have it: built by its own backend, installed elsewhere, and run from there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support import ROOT

PACKAGES = ("emulator", "workers", "scenarios", "ptelab")
NOT_BUILT_FROM = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "results")
TRACE = "mmap 0 1G\ntouch 0 0 2M\ndontneed 0 0 2M\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built in a copy of the tree; no network."""
    copy, out = tmp_path_factory.mktemp("copy") / "tree", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, copy, ignore=NOT_BUILT_FROM)
    code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", code, str(out)], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that has the wheel and, by a path, what this one has beside it: runs the command from there."""
    home = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    python = home / "venv" / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (library,) = (home / "venv" / "lib").glob("python*/site-packages")
    # a path in a .pth file is searched, but its own .pth files, by which this tree may be installed, are not read
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (home / "t.trace").write_text(TRACE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PTELAB"))}

    def run(*arguments):
        return subprocess.run(
            [str(home / "venv" / "bin" / "ptelab"), *arguments],
            capture_output=True,
            text=True,
            cwd=home,
            env=environment,
            timeout=600,
        )

    where = subprocess.run(
        [str(python), "-c", "import scenarios; print(scenarios.__file__)"], capture_output=True, text=True, cwd=home
    )
    assert Path(where.stdout.strip()).is_relative_to(home), where.stdout + where.stderr
    return run


def test_the_wheel_has_every_module_template_and_page_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    pages = {name for name in inside if "/share/doc/ptelab/" in name}

    modules = {path.relative_to(ROOT).as_posix() for top in PACKAGES for path in (ROOT / top).rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scenarios/reports/templates").iterdir()}
    assert inside - pages == modules | templates
    documents = [path.name for path in (*(ROOT / "docs").glob("*.md"), ROOT / "docs" / "schema-1.json")]
    assert sorted(Path(name).name for name in pages) == sorted(documents)
    assert "scenarios/races/no_flush.py" in inside


def test_a_scenario_an_exploration_a_claim_and_a_replay_run_from_the_wheel(installed):
    listed = installed("list")
    scenario = installed("run", "madvise-loop", "--size", "4M", "--engine", "semaphore", "--json", "out.json")
    page = installed("report", "out.json", "-o", "out.html")
    race = installed("explore", "race/no-flush")
    claim = installed("explore", "claim/two-installs", "--bound", "0")
    replayed = installed("replay", "t.trace", "--engine", "semaphore", "--policy", "refcount")
    points = installed("points")
    statuses = installed("help", "exit-status")

    assert (listed.returncode, points.returncode) == (0, 0), listed.stderr + points.stderr
    assert "inconclusive" in statuses.stdout, statuses.stderr
    assert (scenario.returncode, scenario.stdout.splitlines()[-1:]) == (0, ["result  PASS"]), scenario.stderr
    assert (page.returncode, page.stdout) == (0, ""), page.stderr
    assert (race.returncode, race.stdout.splitlines()[-1:]) == (1, ["result  FAIL"]), race.stderr
    assert (claim.returncode, claim.stdout.splitlines()[-1:]) == (0, ["result  PASS"]), claim.stderr
    assert (replayed.returncode, len(replayed.stdout.splitlines())) == (0, TRACE.count("\n")), replayed.stderr


@pytest.mark.stress  # the kernels are compiled for the place they were installed in
def test_real_processes_run_a_race_and_a_finding_from_the_wheel(installed):
    race = installed("run", "race/no-flush")
    finding = installed("findings", "--only", "D5", "--seeds", "1", "--json", "-")

    assert (race.returncode, race.stdout.splitlines()[-1:]) == (1, ["result  FAIL"]), race.stderr
    assert finding.returncode == 0, finding.stderr
    assert json.loads(finding.stdout)["verdict"] == "pass"
