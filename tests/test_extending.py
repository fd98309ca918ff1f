"""The pages that a reader follows: each is followed word for word in a copy of the tree, and its output compared."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from command import ENVIRONMENT
from support import ROOT

PAGES = ("extending.md", "add-a-policy.md", "tutorial.md")
TEXT = {page: (ROOT / "docs" / page).read_text() for page in PAGES}
STEP = re.compile(
    r"^In `(?P<file>[^`]+)`, (?P<how>below|instead of) the line\s`(?P<line>[^`]+)`:\n\n```python\n(?P<added>.*?)^```$"
    r"|^New file `(?P<new>[^`]+)`:\n\n```\w+\n(?P<text>.*?)^```$"
    r"|^    \$ ptelab (?P<words>.*?) +# exit (?P<status>\d)\n(?P<printed>(?:    (?!\$)[^\n]*\n)*)",
    re.MULTILINE | re.DOTALL,
)
STEPS = {page: list(STEP.finditer(text)) for page, text in TEXT.items()}
RUNS = [
    (page, step["words"], int(step["status"]), step["printed"])
    for page in PAGES
    for step in STEPS[page]
    if step["words"]
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree in which everything was done that the pages say."""
    tree = tmp_path_factory.mktemp("copy")
    for top in ("emulator", "workers", "scenarios", "docs"):
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    for step in (step for page in PAGES for step in STEPS[page]):
        if step["new"]:
            assert not (tree / step["new"]).exists(), step["new"]
            (tree / step["new"]).write_text(step["text"])
        elif step["file"]:
            text, line = (tree / step["file"]).read_text(), step["line"] + "\n"
            assert text.count("\n" + line) == 1, f"{step['file']} has not one line {step['line']!r}"
            kept = line if step["how"] == "below" else ""
            (tree / step["file"]).write_text(text.replace("\n" + line, "\n" + kept + step["added"]))
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


def missing_line(printed, shown):
    """The first line that a page shows and that was not printed, in that order; `...` stands for anything."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    for line in (" ".join(line.split()) for line in shown.splitlines()):
        start = line.removesuffix("...")
        if not any(one == line or (start != line and one.startswith(start)) for one in lines):
            return line
    return None


@pytest.mark.parametrize(
    ("page", "blocks", "runs"), [("extending.md", 6, 10), ("add-a-policy.md", 6, 4), ("tutorial.md", 6, 9)]
)
def test_every_block_of_the_page_belongs_to_a_step(page, blocks, runs):
    assert len(re.findall(r"^```\w+$", TEXT[page], re.MULTILINE)) == blocks
    assert len([step for step in STEPS[page] if not step["words"]]) == blocks
    assert len([of for of, *_ in RUNS if of == page]) == TEXT[page].count("    $ ptelab ") == runs


@pytest.mark.parametrize(("page", "words", "status", "shown"), RUNS)
def test_what_the_page_runs_ends_and_prints_as_it_says(copy, page, words, status, shown):
    run = ptelab(copy, *words.split())

    assert run.returncode == status, run.stdout + run.stderr
    assert missing_line(run.stdout, shown) is None, run.stdout


def test_a_line_that_was_not_printed_or_not_in_this_order_is_missed():
    assert missing_line("a  b\nc\nd", "a b\n...\nd\n") is None
    assert missing_line("found after 3 s", "found after ...\n") is None
    assert missing_line("a\nb", "b\na\n") == "a"
    assert missing_line("a", "ab ...") == "ab ..."


def test_the_policy_that_was_added_leaves_what_the_page_says(copy):
    words = "arena --workload sweep,part-unmapped,pieces-64k --policy big-zap,none-rcu --scale 6400 --engine semaphore"

    run = ptelab(copy, *words.split(), "--repeat", "1", "--json", "-")

    left = {(row["workload"], row["policy"]): row["left_kb"] for row in json.loads(run.stdout)["rows"]}
    everything, nothing = [40 + 4 * 4], [40]
    assert left == {
        ("sweep", "big-zap"): nothing,
        ("part-unmapped", "big-zap"): nothing,
        ("pieces-64k", "big-zap"): everything,
        **{(workload, "none-rcu"): everything for workload in ("sweep", "part-unmapped", "pieces-64k")},
    }


def test_what_was_added_is_known_by_name(copy):
    listed = ptelab(copy, "list").stdout

    assert "put-twice" in listed
    assert "two-ends" in listed
    assert "claim/one-put-for-a-get" in ptelab(copy, "explore", "nothing").stderr
    ptelab(copy, "races", "--tables", "docs/races.md")
    assert "`put-twice`" in (copy / "docs" / "races.md").read_text()


@pytest.mark.stress
def test_the_policy_that_was_added_survives_random_programs(copy):
    run = ptelab(
        copy,
        *["run", "stress", "--policy", "big-zap", "--cpus", "4", "--perturb", "--seconds", "5"],
    )

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("page", PAGES)
def test_what_was_added_is_as_the_project_writes_it(copy, page):
    files = [step["new"] or step["file"] for step in STEPS[page] if not step["words"]]
    changed = [str(copy / file) for file in files if file.endswith(".py")]
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
