"""The hunt for a violation, and that the search with a bound ends.

Covers: workers/explorer/explored_machine, workers/explorer/tracer
"""

import litmus
from support import in_engine


def test_publish_before_init_is_found_with_two_preemptions_and_replays():
    word, what, steps = in_engine("explore", litmus.publish_before_init, False, 2)

    assert (word, what) == ("fail", "count-saturated")
    assert steps < 150


def test_publish_before_init_is_absent_with_one_preemption_when_fixed():
    assert in_engine("explore", litmus.publish_before_init, True, 1)[0] == "pass (bound 1 complete)"
