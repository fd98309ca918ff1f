"""What tasks came to is told by title: how often, which seed first, and the smallest command that shows it."""

import pytest

from scenarios.campaign.plan import Task
from scenarios.campaign.verdicts import Verdicts, lost, result

EMPTY = {"schema": 1, "rows": [], "checks": {}, "violations": [], "bugs": [], "failure": None}


def task(seed=0, module="scenarios"):
    return Task(module, ("run", "stress", "--seed", str(seed)), seed, 60, 1, "stress", "refcount")


def line(status, seed=0, seconds=1.0, stderr="", module="scenarios", record=EMPTY, **keys):
    made = None if record is None else {**record, **keys}
    return result(task(seed, module), {"status": status, "record": made, "stderr": stderr, "seconds": seconds})


def violation(detector, command=None):
    return {"detector": detector, "command": command}


@pytest.mark.parametrize(
    ("one", "verdict", "titles"),
    [
        (line(0), "pass", ["pass"]),
        (line(4), "inconclusive", ["inconclusive"]),
        (line(1, violations=[violation("stale")] * 2), "fail", ["stale, stress, refcount"]),
        (line(1, checks={"rss": 2, "uaf": 0}), "fail", ["check rss, stress, refcount"]),
        (line(1, bugs=["race/x: deadlock"]), "fail", ["deadlock, stress, refcount"]),
        (line(None), "hung", ["no end within 60 s, stress, refcount"]),
        (line(-11, record=None), "died", ["killed by SIGSEGV, stress, refcount"]),
        (line(3, failure="CPU 7 died\nand more"), "died", ["died: CPU N died, stress, refcount"]),
        (line(3, record=None, stderr="x\nptelab: Error: 5; see /l"), "died", ["died: Error: N, stress, refcount"]),
        (line(3, record=None), "died", ["died: no word, stress, refcount"]),
        (line(2, record=None, stderr="ptelab: no"), "usage", ["usage: no, stress, refcount"]),
        (lost(task()), "lost", ["worker lost, stress, refcount"]),
        (
            line(0, module="benchmarks.mutants", record={"a": {"by": "stress"}, "b": {"by": ""}}),
            "pass",
            ["mutant noticed by stress", "mutant survives"],
        ),
    ],
)  # fmt: skip
def test_each_end_of_a_task_has_its_title(one, verdict, titles):
    assert (one["verdict"], one["titles"]) == (verdict, titles)


def test_distinct_verdicts_are_counted_with_their_first_seed_and_what_went_well_comes_first():
    verdicts = Verdicts()
    for seed in range(3):
        verdicts.add(line(1, seed, violations=[violation("stale")]))
    for seed in range(3, 5):
        verdicts.add(line(0, seed))
    verdicts.add(line(4, 5))

    told = [(row["title"], row["count"], row["first_seed"]) for row in verdicts.rows()]
    assert told == [("pass", 2, 3), ("inconclusive", 1, 5), ("stale, stress, refcount", 3, 0)]
    assert verdicts.findings == ["stale, stress, refcount"]
    assert verdicts.inconclusive


def test_the_smallest_reproduction_is_that_of_fewest_steps_then_of_least_time():
    verdicts = Verdicts()
    found = {"bugs": ["x: deadlock"]}
    verdicts.add(line(1, 1, seconds=3.0, **found))
    verdicts.add(line(1, 2, seconds=2.0, **found))
    assert verdicts.rows()[0]["again"] == "ptelab run stress --seed 2"
    verdicts.add(line(1, 3, seconds=9.0, rows=[{"schedule": "0@f/x.1=1", "schedule_steps": 7}], **found))
    verdicts.add(line(1, 4, seconds=1.0, rows=[{"schedule": "0@f/x.2=1", "schedule_steps": 8}], **found))

    assert verdicts.rows()[0]["again"] == "ptelab run stress --seed 3 --schedule 0@f/x.1=1"


def test_a_violation_knows_the_command_that_shows_it():
    again = "ptelab run stress --seed 9 --cpus 2"

    assert line(1, violations=[violation("stale", again)])["again"] == again
    assert line(1, violations=[violation("stale", f"{again} --json -")])["again"] == again
    assert line(1, violations=[violation("stale")])["again"] == "ptelab run stress --seed 0"
