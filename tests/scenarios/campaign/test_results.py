"""The results are lines of JSON: a half-written one is cut off, a foreign one refused, and two campaigns share none.

Covers: scenarios/campaign/revision
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess

import pytest
from support import ROOT

from scenarios.campaign import revision as revisions
from scenarios.campaign.results import Results, key_of
from scenarios.session.errors import UserError
from workers.telling.postmortem import MachineFailed

LINE = {"revision": "r", "command": "c", "seed": 1, "verdict": "pass", "titles": [], "again": "c"}
LINE |= {"size": None, "seconds": 1.0, "exploration": "", "prefixes": []}


def test_what_was_added_is_there_before_the_next_campaign_goes_on(tmp_path):
    file = str(tmp_path / "r.jsonl")
    first = Results(file, False)
    first.add(LINE)
    first.add({**LINE, "seed": 2})
    first.close()

    again = Results(file, True)
    assert [key_of(line) for _, line in again.before()] == [("r", "c", 1), ("r", "c", 2)]
    again.add({**LINE, "seed": 3})
    again.close()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


def test_half_a_line_is_cut_off_and_what_was_lost_has_no_result(tmp_path):
    file = tmp_path / "r.jsonl"
    whole = json.dumps(LINE) + "\n" + json.dumps({**LINE, "verdict": "lost", "seed": 2}) + "\n"
    file.write_text(whole + '{"revision":"r","comm')

    results = Results(str(file), True)
    assert [line["seed"] for _, line in results.before()] == [1]
    results.close()
    assert file.read_text() == whole


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"revision": "r"}', "[" * 99_999, json.dumps({**LINE, "seed": []})])
def test_a_foreign_line_is_refused_by_its_number(tmp_path, line):
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(LINE) + "\n" + line + "\n")

    results = Results(str(file), True)
    with pytest.raises(UserError, match="line 2: no result of ptelab campaign; known: another --results"):
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


@pytest.mark.parametrize("last", ["a letter", "[", '{"revision": "r"}'])
def test_of_a_foreign_file_nothing_is_cut_off(tmp_path, last):
    file = tmp_path / "r.jsonl"
    file.write_text(last)

    results = Results(str(file), True)
    with pytest.raises(UserError, match="line 1: no result"):
        list(results.before())
    results.close()
    assert file.read_text() == last


@pytest.mark.parametrize("resume", [False, True])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, resume):
    pipe = tmp_path / "r.jsonl"
    os.mkfifo(pipe)

    for file in (pipe, tmp_path):
        with pytest.raises(UserError, match="is no regular file; known: --results FILE"):
            Results(str(file), resume)
    assert pipe.is_fifo()


def test_a_line_that_does_not_fit_says_so(tmp_path):
    results = Results(str(tmp_path / "r.jsonl"), False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        for _ in range(2):  # a part of the first is written, nothing of the second
            with pytest.raises(MachineFailed, match=r"cannot write .*; --resume goes on from there"):
                results.add(LINE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
        results.close()


def test_an_empty_file_that_was_there_stays(tmp_path):
    (tmp_path / "r.jsonl").touch()
    Results(str(tmp_path / "r.jsonl"), False).close()

    assert (tmp_path / "r.jsonl").exists()


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
