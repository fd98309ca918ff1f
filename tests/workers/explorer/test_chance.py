"""Strategies of chance find what the search finds."""

import litmus
from support import in_engine


def test_random_walks_and_pct_lose_the_update_as_well():
    assert max(in_engine("explore", litmus.executions_of_chance, 10).values()) < 100
