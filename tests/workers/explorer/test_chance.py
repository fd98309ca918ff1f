"""Strategies of chance find what the search finds."""

from support import in_engine


def explore(expression):
    return in_engine("explore", f"__import__('litmus').{expression}", build="debug")


def test_random_walks_and_pct_lose_the_update_as_well():
    assert max(explore("executions_of_chance(10)").values()) < 100
