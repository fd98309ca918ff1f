"""The claims: each holds in every interleaving that is tried, and its broken twin does not.

Covers: scenarios/proofs/explore_all, scenarios/proofs/subject
"""

import litmus
import pytest
from support import in_engine, pieces

from scenarios.proofs.claims import CLAIMS

NAMES = [f"claim/{name}" for name in CLAIMS]


@pytest.mark.parametrize("names", pieces(NAMES, 4))
def test_claims_hold(names):
    found = in_engine("explore", litmus.searched, names, False)

    assert {name: [word, what] for name, (word, what, *_) in found.items() if not word.startswith("pass")} == {}


@pytest.mark.parametrize("names", pieces(NAMES, 2))
def test_the_broken_twins_of_claims_are_found_out(names):
    found = in_engine("explore", litmus.searched, names, True)

    assert {name: one for name, one in found.items() if not one[2]} == {}
