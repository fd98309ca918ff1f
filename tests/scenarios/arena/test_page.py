"""docs/arena.md has a place for each table that the command writes, and each of its tables stands below its command."""

import re

import pytest
from command import ptelab
from support import ROOT

from emulator.policy.policies import POLICIES
from scenarios.arena.figures import FIGURES
from scenarios.arena.page import SHOWN, SUMMARY, written
from scenarios.arena.workloads import WORKLOADS
from scenarios.session.errors import UserError

PAGE = (ROOT / "docs" / "arena.md").read_text()


def row(policy, workload, cpus):
    """A row in which every figure is 100."""
    sizes = {"table_bytes": 0, "cpu_bytes": 0, "chunks": 10 * WORKLOADS[workload].sized, "engine": "native"}
    return {"policy": policy, "workload": workload, "cpus": cpus, **sizes, **{figure: [100] for figure in FIGURES}}


ROWS = [
    row(policy, name, cpus) for name, of in WORKLOADS.items() for cpus in (1, 2)[: 1 + of.many] for policy in POLICIES
]


def test_the_command_fills_every_place_of_the_page():
    page = written(PAGE, ROWS, 16, 3)

    places = re.findall(r"<!-- (?!end of )(.*?) -->\n(.*?)<!-- end of \1 -->", page, re.DOTALL)
    assert {name for name, _ in places} == {*SHOWN, *SUMMARY, "where"}
    for name, text in places:
        width = 120 if name == "where" else 4 + 100
        assert all(len(line) <= width for line in text.splitlines()), name
        assert name == "where" or text.startswith("    $ ptelab arena"), name
    for name in SHOWN:
        assert f"    $ ptelab arena --workload {name}\n" in page
    assert written(page, ROWS, 16, 3) == page


def test_a_page_without_its_places_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(UserError, match="no place for the table of given back"):
        written("", ROWS, 16, 3)
    (tmp_path / "page.md").write_text("nothing")

    run = ptelab("arena", "--write", str(tmp_path / "page.md"))

    assert (run.returncode, run.stdout) == (2, "")
    assert "no place for the table of given back" in run.stderr


def test_a_page_needs_all_that_is_on_it(tmp_path):
    run = ptelab("arena", "--write", str(ROOT / "docs" / "arena.md"), "--workload", "sweep")

    assert run.returncode == 2
    assert run.stderr == "ptelab: --write needs all workloads and policies; known: without --workload and --policy\n"


def test_every_workload_stands_on_the_page():
    assert [name for name in WORKLOADS if name not in PAGE] == []
