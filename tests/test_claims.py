"""The claims: each holds in every interleaving that is tried, and its broken twin does not."""

import pytest
from support import in_engine

from scenarios.claims import CLAIMS


def searched(name, twin):
    bound = CLAIMS[name].bound if CLAIMS[name].bound is not None or not twin else 2
    return in_engine("explore", f"__import__('litmus').searched('claim/{name}', {twin}, {bound})")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds(name):
    word, found, _ = searched(name, False)

    assert (word.split()[0], found) == ("pass", None)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_broken_twin_of_a_claim_is_found_out(name):
    assert searched(name, True)[2]
