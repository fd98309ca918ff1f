"""The claims: each holds in every interleaving that is tried, and its broken twin does not."""

import pytest
from support import in_engine

from scenarios.claims import CLAIMS

PROVED = [name for name, claim in CLAIMS.items() if claim.memory == "sc"]


def searched(name, twin):
    return in_engine("explore", f"__import__('litmus').claim({name!r}, {twin})")


@pytest.mark.parametrize("name", PROVED)
def test_a_claim_holds(name):
    found, executions = searched(name, False)

    assert found == []
    assert executions > 10


@pytest.mark.parametrize("name", PROVED)
def test_the_broken_twin_of_a_claim_is_found_out(name):
    found, _ = searched(name, True)

    assert len(found) == 1
    assert found[0] in CLAIMS[name].detectors
