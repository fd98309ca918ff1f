"""The claims: each holds in every interleaving that is tried, and its broken twin does not.

Covers: scenarios/proofs/explore_all, scenarios/proofs/subject
"""

import litmus
import pytest
from support import in_engine, pieces

from scenarios.proofs.claims import CLAIMS

NAMES = [f"claim/{name}" for name in CLAIMS]
LONG = [  # half a minute or more
    "claim/a-visitor-revives",
    "claim/at-zero-for-an-epoch",
    "claim/crash-while-freeing",
    "claim/upper-tables-go-empty",
]


def hold(names, bound=None):
    """Every claim passes."""
    found = in_engine("explore", litmus.searched, names, False, bound)

    assert {name: [word, what] for name, (word, what, *_) in found.items() if not word.startswith("pass")} == {}


@pytest.mark.parametrize("names", pieces([name for name in NAMES if name not in LONG], 2))
def test_claims_hold(names):
    hold(names)


def test_claims_of_many_interleavings_hold_without_preemptions():
    hold(LONG, 0)


@pytest.mark.stress
@pytest.mark.parametrize("name", LONG)
def test_claims_of_many_interleavings_hold(name):
    hold([name])


@pytest.mark.parametrize("names", pieces(NAMES, 2))
def test_the_broken_twins_of_claims_are_found_out_and_their_schedules_repeat_on_a_fresh_machine(names):
    found = in_engine("explore", litmus.searched, names, True)

    assert {name: one for name, one in found.items() if not one[2] or one[4] != [one[1]]} == {}
