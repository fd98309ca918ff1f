"""docs/extending.md does what it says: each example is followed word for word in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from command import ENVIRONMENT
from support import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
STEP = re.compile(
    r"^In `(?P<file>[^`]+)`, below the line `(?P<line>[^`]+)`:\n\n```python\n(?P<added>.*?)^```$"
    r"|^New file `(?P<new>[^`]+)`:\n\n```python\n(?P<text>.*?)^```$"
    r"|^    \$ ptelab (?P<words>.*?) +# exit (?P<status>\d)$",
    re.MULTILINE | re.DOTALL,
)
RUNS = [(step["words"], int(step["status"])) for step in STEP.finditer(PAGE) if step["words"]]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree in which everything was done that the page says."""
    tree = tmp_path_factory.mktemp("copy")
    for top in ("emulator", "workers", "scenarios", "docs"):
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    for step in STEP.finditer(PAGE):
        if step["new"]:
            assert not (tree / step["new"]).exists(), step["new"]
            (tree / step["new"]).write_text(step["text"])
        elif step["file"]:
            text, line = (tree / step["file"]).read_text(), step["line"] + "\n"
            assert text.count("\n" + line) == 1, f"{step['file']} has not one line {step['line']!r}"
            (tree / step["file"]).write_text(text.replace("\n" + line, "\n" + line + step["added"]))
    return tree


def ptelab(tree, *words):
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "scenarios", *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tree,
        timeout=300,
    )


def test_every_block_of_the_page_belongs_to_a_step():
    assert PAGE.count("```python") == len([step for step in STEP.finditer(PAGE) if not step["words"]]) == 6
    assert len(RUNS) == PAGE.count("    $ ptelab ") == 10


@pytest.mark.parametrize(("words", "status"), RUNS)
def test_what_the_page_runs_ends_as_it_says(copy, words, status):
    run = ptelab(copy, *words.split())

    assert run.returncode == status, run.stdout + run.stderr


def test_what_was_added_is_known_by_name(copy):
    listed = ptelab(copy, "list").stdout

    assert "put-twice" in listed
    assert "two-ends" in listed
    assert "claim/one-put-for-a-get" in ptelab(copy, "explore", "nothing").stderr
    ptelab(copy, "races", "--tables", "docs/races.md")
    assert "`put-twice`" in (copy / "docs" / "races.md").read_text()


def test_what_was_added_is_as_the_project_writes_it(copy):
    changed = [str(copy / (step["new"] or step["file"])) for step in STEP.finditer(PAGE) if not step["words"]]
    ruff = [os.path.join(os.path.dirname(sys.executable), "ruff")]
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]

    for arguments in (["check"], ["format", "--check"]):
        run = subprocess.run([*ruff, *arguments, *config, *changed], capture_output=True, text=True, cwd=copy)
        assert run.returncode == 0, run.stdout + run.stderr


def test_a_knob_without_its_row_is_one_line_before_anything_is_compiled(copy, tmp_path):
    tree = shutil.copytree(copy, tmp_path / "tree")
    knobs = tree / "emulator" / "knobs.py"
    knobs.write_text(knobs.read_text().replace('"put-twice"', '"put-thrice"'))
    (tree / "scenarios" / "races" / "put_twice.py").unlink()

    run = ptelab(tree, "run", "multi-fault", "--no-host")

    said = [line for line in run.stderr.splitlines() if "compiling" not in line]
    assert (run.returncode, len(said)) == (2, 1), run.stderr
    assert re.search(r"walks/mincore.py:\d+: m.config.put_twice: 'config' has no field 'put_twice'; a knob", said[0])
