"""The shards of an exploration are made of what earlier ones have handed back, and their lines are enough to go on."""

import pytest

from scenarios.campaign.exploration import Exploration
from scenarios.campaign.plan import Task
from workers.explorer.prefix import Open, Step, spell

WHOLE = Task("scenarios", ("explore", "claim/x"), None, 60, 1, "explore claim/x", shards=100)


def told(prefix, executions=100, places=(), steps=(), bounded=False):
    of = {"prefix": prefix, "executions": executions, "path": spell([Step(*one) for one in steps])}
    return of | {"open": [list(place) for place in places], "bound": 2, "bounded": bounded}


def line(task, *shards, verdict="pass"):
    record = {"rows": [{"shards": list(shards)}]} if verdict in ("pass", "inconclusive") else None
    return {"verdict": verdict, "seconds": 1.0, "prefixes": list(task.prefixes), "record": record}


def test_the_first_task_is_the_whole_and_the_next_ones_what_it_has_handed_back():
    one = Exploration(WHOLE)
    first = one.take()
    assert first.command == "ptelab explore claim/x --executions 100 --seconds 86400 --shard -"
    assert (first.exploration, one.is_over) == ("ptelab explore claim/x", False)

    one.enter(line(first, told("-", places=[Open(1, 0b01, 0b10)], steps=[(0,), (0,)]), verdict="inconclusive"))
    second = one.take()
    assert second.prefixes == ("0,1/0",)
    one.enter(line(second, told("0,1/0", 20, bounded=True)))

    assert one.is_over
    made = one.line()
    assert (made["titles"], made["verdict"]) == (["pass (bound 2 complete: 120 executions), explore claim/x"], "pass")
    assert made["command"] == "ptelab explore claim/x"


def test_a_task_takes_several_prefixes_and_what_it_had_no_time_for_waits_again():
    one = Exploration(WHOLE)
    one.waiting = [str(n) for n in range(40)]
    task = one.take()
    assert task.prefixes == ("35", "36", "37", "38", "39")

    one.enter(line(task, told("35"), *(told(prefix, 0) for prefix in task.prefixes[1:]), verdict="inconclusive"))

    assert one.waiting[-4:] == ["36", "37", "38", "39"]
    again = one.take()
    one.put_back(again)
    assert (len(one.waiting), one.running) == (39, 0)


def test_lines_that_are_there_leave_what_is_still_to_be_done():
    first, second = Exploration(WHOLE), Exploration(WHOLE)
    task = first.take()
    handed = line(task, told("-", places=[Open(1, 0b01, 0b110)], steps=[(0,), (0,)]), verdict="inconclusive")
    first.enter(handed)
    done = line(first.take(), told("0,2/0+1", 3))
    first.enter(done)

    second.replay(handed)
    second.replay(done)

    assert (second.waiting, second.executions, second.running) == (first.waiting, first.executions, 0)
    assert second.waiting == ["0,1/0"]


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("lost", "inconclusive (a shard was lost: 0 executions), explore claim/x"),
        ("hung", "inconclusive (a shard had no end: 0 executions), explore claim/x"),
        ("died", "inconclusive (a shard died: 0 executions), explore claim/x"),
    ],
)
def test_a_shard_without_a_result_leaves_the_exploration_open(verdict, title):
    one = Exploration(WHOLE)
    one.enter(line(one.take(), verdict=verdict))

    assert one.is_over
    assert one.line()["titles"] == [title]


def test_the_first_failure_ends_an_exploration():
    one = Exploration(WHOLE)
    task = one.take()
    one.waiting = ["1", "2"]
    one.enter(line(task, verdict="fail"))

    assert one.is_over
    assert one.line() is None
