"""Entries that lie apart from their tables: a body is given back when all are none, and taken again when one is set.

Covers: emulator/engines/bodies
"""

import dataclasses

import numpy as np
import pytest
from support import in_engine

from emulator import engine
from emulator.checks import Frozen, audit, bodies
from emulator.mm_types import TABLES, Geometry
from emulator.segment import Segment
from workers.machine import Machine
from workers.programs.program import STOP, dontneed, load, mmap, store, touch

GIB, SLOT = 1 << 30, 2 << 20
ROOM = Geometry(frames=8192, tables=2048, bodies=16, frame_words=1)  # a GiB has 512 tables
STEP = 8 * SLOT


def one_gib(policy, refill, lost):
    """Each 2 MiB of a GiB is touched and released; then one is stored to again if told to, and its body is `lost`.

    What the audit finds; bodies in use, and ever used; VmPTE in tables; what was loaded.
    """
    rounds = [(touch(GIB + at, STEP, SLOT), dontneed(GIB + at, STEP, 64 << 10)) for at in range(0, GIB, STEP)]
    again = [store(GIB + 5 * SLOT + 8192, 7), load(GIB + 5 * SLOT + 8192)] if refill else []
    program = [mmap(GIB, GIB), *(insn for both in rounds for insn in both), *again, STOP]
    geometry = dataclasses.replace(ROOM, insns=len(program))
    with Machine(geometry, policy) as machine:
        machine.load(0, program)
        machine.start()
        machine.wait()
        views = machine.views
        if lost:
            filled = (views["body"]["word"] != 0) & (views["ptdesc"]["level"] == 1)
            give_back(views, int(np.flatnonzero(filled)[0]))
        frozen = Frozen(views, geometry)
        return {
            "wrong": [name for name, count in audit(views, geometry, frozen).items() if count],
            "used": int(np.count_nonzero(frozen.body)),
            "ever": int(views["bodies"]["fresh"][0]) - 1,
            "loaded": int(views["cpu"]["loaded"][0]),
            "tables": int(views["mm"]["pgtables_bytes"][0]) // 4096,
        }


def give_back(views, table):
    """Give the body of a table back, whatever is in it."""
    body = int(views["body"]["word"][table])
    views["body_next"]["word"][body] = int(views["bodies"]["free"][0]) & (1 << 32) - 1
    views["bodies"]["free"], views["body"]["word"][table] = body, 0


def native(*arguments):
    return in_engine("native", one_gib, *arguments, build="plain", families=[engine.BODIES])


@pytest.fixture
def one_table():
    """The views of a machine whose table 1 has one entry, in body 1."""
    views = Segment(ROOM, shared=False).views
    views["zone"]["fresh"][TABLES], views["bodies"]["fresh"] = 2, 2
    views["body"]["word"][1], views["entry"]["word"][512 + 5] = 1, 1 << 12 | 1
    return views


def test_a_body_given_back_before_its_entries_is_seen_by_the_audit(one_table):
    assert bodies(Frozen(one_table, ROOM)) == 0

    give_back(one_table, 1)

    assert bodies(Frozen(one_table, ROOM)) == 1


def test_a_body_of_two_tables_and_one_of_nobody_are_seen_by_the_audit(one_table):
    one_table["body"]["word"][0] = 1
    one_table["bodies"]["fresh"] = 3

    assert bodies(Frozen(one_table, ROOM)) == 2


def test_a_build_and_a_machine_that_disagree_on_where_entries_lie_are_refused():
    with pytest.raises(ValueError, match="bodies apart"):
        engine.attach(Segment(ROOM, shared=False))


@pytest.mark.stress  # a build of its own, a minute
@pytest.mark.parametrize(("policy", "tables"), [("none", 512 + 2), ("refcount", 2), ("pt-reclaim", 512 + 2)])
def test_tables_that_were_emptied_hold_no_memory_whether_or_not_they_go(policy, tables):
    found = native(policy, False, False)

    assert found == {"wrong": [], "used": 3, "ever": 3 + STEP // SLOT, "loaded": 0, "tables": tables}


@pytest.mark.stress
@pytest.mark.parametrize("policy", ["none", "refcount"])
def test_a_table_without_a_body_is_filled_like_any_other(policy):
    found = native(policy, True, False)

    assert (found["wrong"], found["loaded"], found["used"]) == ([], 7, 4)


@pytest.mark.stress
@pytest.mark.parametrize("policy", ["none", "refcount"])
def test_a_body_that_is_lost_with_its_entries_is_seen_in_a_machine(policy):
    found = native(policy, True, True)

    assert {"bodies", "rss", "mapcount"} <= set(found["wrong"])
