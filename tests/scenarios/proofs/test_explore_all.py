"""What `ptelab explore all` makes of its rows: a page only if all is as expected, and never a verdict by the clock."""

import re

import pytest
from support import ROOT

from scenarios.proofs.explore_all import ABOUT, _judge, _markdown, _write
from scenarios.session.record import Record


def row(**others):
    """A race whose piece is in place, and as it should be."""
    return {
        "subject": "race/no-flush",
        "knob": None,
        "memory": "sc",
        "verdict": "pass (bound 1 complete)",
        "found": None,
        "executions": 4711,
        "seconds": 12.5,
        "preemptions": None,
        "schedule_steps": None,
        "schedule": None,
        "other_memory": {},
        "as_expected": True,
        **others,
    }


TWIN = {"knob": "no-flush", "as_expected": False}


@pytest.mark.parametrize(
    ("others", "status"),
    [
        ({}, 0),
        ({"verdict": "inconclusive (budget)", "as_expected": False}, 4),
        ({"verdict": "fail", "found": "deadlock", "as_expected": False}, 1),
        ({**TWIN, "verdict": "inconclusive (budget)"}, 4),
        ({**TWIN, "verdict": "pass (bound 1 complete)"}, 4),
        ({**TWIN, "verdict": "pass (complete)"}, 1),
        ({**TWIN, "verdict": "fail", "found": "no-progress"}, 1),
        ({**TWIN, "verdict": "fail", "found": "x", "other_memory": {"tso": "inconclusive (budget)"}}, 4),
        ({**TWIN, "verdict": "fail", "found": "x", "other_memory": {"tso": "fail"}}, 1),
    ],
)
def test_what_had_no_time_is_inconclusive_and_what_is_wrong_fails(others, status, tmp_path):
    record = Record("explore all", 0)
    record.rows.append(row(**others))
    _judge(record, record.rows[0])
    page = tmp_path / "page.md"
    page.write_text("as it was")

    _write(record, str(page))

    assert record.exit_status == status
    assert (page.read_text() == "as it was") == (status != 0)


def test_no_time_stands_in_the_page():
    rows = [row(), row(knob="no-flush", verdict="fail", found="tlb-hit-freed-frame", executions=7, preemptions=1)]
    rows[1]["schedule_steps"] = 99

    text = "\n".join(_markdown(rows))

    assert "12.5" not in text
    assert "4,711" not in text  # how far the next bound came
    assert "| race/no-flush | sc | pass (bound 1 complete) | - | tlb-hit-freed-frame | 7 | 1 | 99 |" in text


def test_the_pages_in_the_tree_have_the_form_that_is_written():
    claims, findings = ((ROOT / "docs" / name).read_text() for name in ("claims.md", "findings.md"))

    assert claims.startswith(ABOUT)
    assert "\n".join(_markdown([row()])).splitlines()[0] in claims
    assert re.search(r"median|in \d+ s[:,]", findings) is None


def test_make_writes_no_page_unless_it_is_told_to():
    makefile = (ROOT / "Makefile").read_text()

    assert re.findall(r"--write \S+", makefile) == ["--write '$(WRITE)')"] * 2
