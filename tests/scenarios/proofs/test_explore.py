"""The command `ptelab explore`: verdicts, exit status, replay, files, bad input.

Covers: scenarios/proofs/explore_report
"""

import json
import re
import shlex
import subprocess
import sys

import pytest
from support import ROOT


def explore(*words):
    command = [sys.executable, "-m", "scenarios", "explore", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_a_race_is_found_and_its_report_ends_with_the_command_that_repeats_it(tmp_path):
    run = explore("race/no-flush", "--json", str(tmp_path / "out.json"), "--html", str(tmp_path / "out.html"))

    assert run.returncode == 1, run.stderr
    again = [line for line in run.stdout.splitlines() if line.startswith("again: ptelab explore race/no-flush")]
    assert "--schedule" in again[-1]
    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    assert row["found"] == "tlb-hit-freed-frame"
    assert row["preemptions"] <= 4
    assert row["story"]["lines"]
    page = (tmp_path / "out.html").read_text()
    assert page.count('<tr class="guilty') == 2
    assert row["schedule"] in page

    repeated = explore("race/no-flush", "--schedule", row["schedule"])

    assert repeated.returncode == 1
    assert "fail: tlb-hit-freed-frame" in repeated.stdout


@pytest.mark.parametrize("claim", ["one-barrier-is-enough", "publication-has-its-barrier"])
def test_a_schedule_in_which_a_store_is_late_repeats_though_nobody_knows_yet_which_words_are_shared(claim, tmp_path):
    found = explore(f"claim/{claim}", "--twin", "--json", str(tmp_path / "out.json"))
    schedule = json.loads((tmp_path / "out.json").read_text())["rows"][0]["schedule"]
    assert "commit" in schedule, found.stderr

    repeated = explore(f"claim/{claim}", "--twin", "--schedule", schedule)

    assert repeated.returncode == 1, repeated.stderr


def commands_with_a_schedule():
    """The commands of the documents that run one schedule."""
    texts = [path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]]
    found = {match for text in texts for match in re.findall(r"ptelab explore (\S+ .*--schedule [^ `|\n]+)", text)}
    return sorted(one for one in found if "@" in one or one.endswith(" -"))  # the others stand for any


@pytest.mark.stress
@pytest.mark.parametrize("words", commands_with_a_schedule())
def test_the_schedule_that_a_document_gives_repeats_its_failure(words):
    assert explore(*shlex.split(words)).returncode == 1


def test_the_story_that_the_document_tells_is_the_one_of_the_command_it_gives():
    document = (ROOT / "docs" / "explore.md").read_text()
    again = next(line for line in document.splitlines() if line.startswith("again: ptelab explore "))

    run = explore(*again.split()[3:])

    story = run.stdout[run.stdout.index("VIOLATION") : run.stdout.index(again)]
    assert story in document


def test_a_store_to_a_word_not_known_to_be_shared_yet_shows_no_violation():
    run = explore("claim/two-installs", "--memory", "pso", "--bound", "0", "--executions", "200")

    assert run.returncode == 4, run.stdout
    assert "inconclusive (budget" in run.stdout


def test_with_its_piece_in_place_a_bound_is_proved():
    run = explore("race/advanced-address", "--fixed", "--bound", "1")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "pass (bound 1 complete): all " in run.stdout


def test_a_budget_that_is_too_small_is_inconclusive_and_never_a_pass():
    run = explore("race/publish-before-init", "--fixed", "--bound", "2", "--executions", "20")

    assert run.returncode == 4
    assert "inconclusive (budget; covered" in run.stdout


def test_a_missing_barrier_shows_under_pso_alone_and_the_report_says_so():
    run = explore("claim/publication-has-its-barrier", "--twin", "--seconds", "5")

    assert run.returncode == 1, run.stderr
    assert "under sc: pass" in run.stdout
    assert "under tso: pass" in run.stdout


def test_preemptions_can_be_kept_to_named_functions():
    run = explore("race/publish-before-init", "--target", "pmd_install,populate", "--bound", "1")

    assert run.returncode == 1, run.stdout + run.stderr


def test_a_knob_leaves_another_piece_out_and_its_schedule_can_be_repeated(tmp_path):
    run = explore("race/no-flush", "--fixed", "--knob", "leaf-only-flush", "--json", str(tmp_path / "out.json"))

    row = json.loads((tmp_path / "out.json").read_text())["rows"][0]
    assert run.returncode == 1, run.stderr
    assert (row["knob"], row["found"]) == ("leaf-only-flush", "psc-hit-freed-table")
    again = run.stdout[run.stdout.index("again: ptelab explore ") :].splitlines()[0]
    repeated = explore(*shlex.split(again)[3:])
    assert repeated.returncode == 1, repeated.stderr
    assert "fail: psc-hit-freed-table" in repeated.stdout


def test_a_scene_runs_under_another_policy_and_the_report_says_so():
    whole = explore("race/publish-before-init", "--policy", "none", "--bound", "1")

    assert whole.returncode == 0, whole.stdout + whole.stderr  # nobody looks at a count
    assert "policy: none, not refcount" in whole.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["race/nobody"], "unknown subject 'race/nobody'; known: all, claim/"),
        (["race/no-flush", "--memory", "power"], "unknown memory model 'power'; known: sc, tso, pso, arm"),
        (["race/no-flush", "--schedule", "0:1"], "--schedule: '0:1' is no switch"),
        (["race/no-flush", "--schedule", "0@nothing/entry.1=1"], "--schedule does not fit: it never comes to where"),
        (["race/no-flush", "--bound", "two"], "--bound 'two' is not a number of preemptions"),
        (["race/no-flush", "--seconds", "0"], "--seconds '0' is out of range"),
        (["race/no-flush", "--html", "/nowhere/x.html"], "cannot write /nowhere/x.html"),
        (["claim/two-installs", "--fixed"], "is a claim, which is whole as it is"),
        (["race/no-flush", "--knob", "x"], "unknown knob 'x'; known: publish-before-init,"),
        (["race/no-flush", "--policy", "x"], "unknown policy 'x'; known: none,"),
        (
            ["race/no-flush", "--target", "pte_trj_get"],
            "unknown kernel function 'pte_trj_get'; did you mean pte_try_get",
        ),
        (["race/no-flush", "--write", "/tmp/x.md"], "--write does nothing with race/no-flush"),
        (["all", "--fixed"], "--fixed does nothing with all"),
        (["all", "--schedule", "-"], "--schedule does nothing with all"),
        (["all", "--no-data-races"], "--data-races does nothing with all"),
        (["claim/install-against-dying-table", "--policy", "none"], "under none: any_zero_frees needs a policy with"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(words, says):
    run = explore(*words)

    assert run.returncode == 2
    assert says in run.stderr
    assert len([line for line in run.stderr.splitlines() if "compiling the kernels" not in line]) == 1
    assert run.stdout == ""


@pytest.mark.parametrize("race", ["stale-pmd-move", "pte-alloc-under-page-lock", "no-flush", "uffd-seq-late"])
def test_a_story_names_what_it_tells_in_words(race):
    run = explore(f"race/{race}", "--events", "all")

    assert run.returncode == 1, run.stderr
    waits = re.compile(r"\w+\.\w+\[\d+\] \(")  # a sleeper's word, and behind it what that is
    assert re.findall(r"\w+\.\w+\[\d+\]", waits.sub("", " ".join(run.stdout.split()))) == []
    assert re.findall(r"mutex \d+", run.stdout) == []
