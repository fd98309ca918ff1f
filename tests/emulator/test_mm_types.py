"""The structs are the documentation: what their comments name exists."""

import re

from support import ROOT

from emulator.checks import CHECKS
from emulator.mm_types import VIEWS
from emulator.pgtable_types import TABLE_STATES

TEXT = (ROOT / "emulator" / "mm_types.py").read_text()


def test_every_invariant_that_names_a_check_is_audited_by_it():
    named = re.findall(r"checks\.py:(\w+)", TEXT)

    assert len(named) > 10
    assert set(named) <= set(CHECKS)


def test_the_comment_of_a_tables_state_says_who_brings_each_about():
    comment = VIEWS["ptdesc"][0].comments["state"]

    assert [state for state in TABLE_STATES if state.upper().removeprefix("IN ") not in comment] == []
