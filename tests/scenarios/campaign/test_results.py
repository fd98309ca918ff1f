"""The results are lines of JSON: a half-written one is cut off, a foreign one refused, and two campaigns share none.

Covers: scenarios/campaign/revision
"""

import json
import re
import shutil
import subprocess

import pytest
from support import ROOT

from scenarios.campaign import revision as revisions
from scenarios.campaign.results import Results, key_of
from scenarios.session.errors import UserError

LINE = {"revision": "r", "command": "c", "seed": 1, "verdict": "pass", "titles": [], "again": "c"}
LINE |= {"size": None, "seconds": 1.0, "exploration": "", "prefixes": []}


def test_what_was_added_is_there_before_the_next_campaign_goes_on(tmp_path):
    file = str(tmp_path / "r.jsonl")
    first = Results(file, False)
    first.add(LINE)
    first.add({**LINE, "seed": 2})
    first.close()

    again = Results(file, True)
    assert [key_of(line) for line in again.before()] == [("r", "c", 1), ("r", "c", 2)]
    again.add({**LINE, "seed": 3})
    again.close()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


def test_half_a_line_is_cut_off_and_what_was_lost_has_no_result(tmp_path):
    file = tmp_path / "r.jsonl"
    whole = json.dumps(LINE) + "\n" + json.dumps({**LINE, "verdict": "lost", "seed": 2}) + "\n"
    file.write_text(whole + '{"revision": "r", "comm')

    results = Results(str(file), True)
    assert [line["seed"] for line in results.before()] == [1]
    results.close()
    assert file.read_text() == whole


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"revision": "r"}'])
def test_a_foreign_line_is_refused_by_its_number(tmp_path, line):
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(LINE) + "\n" + line + "\n")

    results = Results(str(file), True)
    with pytest.raises(UserError, match="line 2: no result of ptelab campaign; give another --results"):
        list(results.before())
    results.close()


def test_results_that_are_there_another_campaign_and_a_bad_place_are_refused(tmp_path):
    file = tmp_path / "r.jsonl"
    mine = Results(str(file), False)
    with pytest.raises(UserError, match="belongs to a campaign that runs"):
        Results(str(file), True)
    mine.add(LINE)
    mine.close()
    with pytest.raises(UserError, match="holds results; known: --resume goes on, --results FILE takes another"):
        Results(str(file), False)
    with pytest.raises(UserError, match="No such file or directory"):
        Results(str(tmp_path / "no" / "r.jsonl"), False)


def test_a_file_without_a_result_is_taken_away(tmp_path):
    Results(str(tmp_path / "r.jsonl"), False).close()

    assert list(tmp_path.iterdir()) == []


def test_a_revision_is_a_commit_or_says_what_the_sources_are(monkeypatch, tmp_path):
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert git.returncode or revisions.revision().startswith(git.stdout.strip())
    monkeypatch.setattr(revisions, "commit", lambda: "abc")
    assert revisions.revision.__wrapped__() == "abc"

    for package in revisions.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(revisions, "ROOT", tmp_path)
    monkeypatch.setattr(revisions, "commit", lambda: "abc+")
    before = revisions.revision.__wrapped__()
    (tmp_path / "emulator" / "engine.py").write_text("")
    after = revisions.revision.__wrapped__()

    assert re.fullmatch(r"abc\+-[0-9a-f]{12}", before)
    assert before != after
