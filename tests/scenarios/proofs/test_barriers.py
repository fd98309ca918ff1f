"""The command `ptelab barriers`: a barrier that is left out is found by what fails then, and told with its schedule.

Covers: workers/explorer/barriers, scenarios/proofs/orderings, scenarios/proofs/redundant
"""

import json
import re
from pathlib import Path

import litmus
import pytest
from command import ptelab
from support import in_engine, pieces

from scenarios.proofs.barriers import BEGIN, END
from scenarios.proofs.orderings import ORDERINGS
from scenarios.proofs.redundant import REASONS
from workers.explorer.barriers import sites


def test_the_barrier_of_patch_3_is_needed_once_stores_leave_out_of_order(tmp_path):
    out, page = tmp_path / "out.json", tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}behind\n")
    done = ptelab("barriers", "--only", "populate", "--executions", "200", "--json", str(out), "--write", str(page))

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


def test_a_reason_why_nothing_shows_a_barrier_is_told_of_barriers_that_are_and_that_no_claim_shows():
    names = {site.name for site in sites()}
    claimed = {name for one in ORDERINGS.values() for name in one.barriers}

    assert set(REASONS) <= names
    assert claimed <= names
    assert set(REASONS) & claimed == set()


def test_no_barrier_with_a_reason_is_needed_by_the_table_and_every_barrier_has_its_row():
    table = Path("docs/explore.md").read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {row.split("`")[1]: row.split(" | ")[1] for row in table.splitlines()[2:]}

    assert set(rows) == {site.name for site in sites()}
    assert {name for name in REASONS if rows[name] != "not shown"} == set()
    assert {name for one in ORDERINGS.values() for name in one.barriers if rows[name] == "not shown"} == set()


@pytest.mark.parametrize("names", pieces([name for name, one in ORDERINGS.items() if len(one.barriers) > 1], 2))
def test_a_claim_fails_without_any_one_of_the_barriers_it_names(names):
    assert in_engine("explore", litmus.left_out, names) == []


def test_two_barriers_of_one_line_are_told_apart():
    first, second = (one for one in sites() if one.name.startswith("flush.py:has_remote_cpu"))

    assert first.place[0] == second.place[0]
    assert [in_engine("explore", litmus.passes, "loading-an-mm-catches-up", one.name) for one in (first, second)] == [
        False,
        True,
    ]
