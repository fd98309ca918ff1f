"""The command `ptelab barriers`: a barrier that is left out is found by what fails then, and told with its schedule.

Covers: workers/explorer/barriers
"""

import json
import re

from command import ptelab

from scenarios.proofs.barriers import BEGIN, END


def test_the_barrier_of_patch_3_is_needed_once_stores_leave_out_of_order(tmp_path):
    out, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}behind\n")
    done = ptelab("barriers", "--only", "populate", "--executions", "30", "--json", str(out), "--write", str(page))

    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["barrier"], row["needed_under"]) == ("pgtable.py:populate smp_store_release", "pso")
    assert row["found"] == "count-saturated"
    assert row["schedule"]
    before, text, behind = re.split(f"{BEGIN}|{END}", page.read_text())
    assert (before, behind) == ("before\n", "behind\n")
    assert "| pso | count-saturated |" in text
    assert "old" not in text


def test_a_word_that_names_no_barrier_and_a_document_without_a_place_are_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")

    for words, why in (
        (("--only", "nobody"), "--only 'nobody' names no barrier"),
        (("--only", "populate", "--executions", "1", "--write", str(page)), "has no place for the table"),
    ):
        done = ptelab("barriers", *words)

        assert done.returncode == 2
        assert why in done.stderr
