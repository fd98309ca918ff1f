"""A deadlock is named: the cycle, or the word that nobody will change."""

import pytest

from emulator.mm_types import FLUSH_PENDING, Geometry
from emulator.pgtable_types import PTE_LEVEL
from emulator.segment import Segment
from emulator.watch.waits import Wait
from workers.explorer.deadlock import deadlock_lines

PMD_TABLE, TABLE = 3, 4  # an upper table and a PTE table


# --- deadlocks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def still():
    """A machine of two CPUs and a coordinator that stand still."""
    geometry = Geometry(cpus=2, insns=4, frames=64, tables=8)
    segment = Segment(geometry)
    segment.views["ptdesc"]["level"][TABLE] = PTE_LEVEL
    return segment.views, geometry


def test_the_cycle_of_two_locks_is_named(still):
    views, geometry = still
    for cpu, (mine, other) in enumerate(((TABLE, 5), (5, TABLE))):
        views["ptdesc"]["ptl"][mine] = cpu + 1
        views["cpu"]["waits_for"][cpu] = Wait.PTE_LOCK
        views["cpu"]["waits_index"][cpu] = other

    lines = deadlock_lines(views, geometry, {})

    assert lines[0] == "DEADLOCK  nobody can move: CPU 0 and CPU 1"
    assert "  CPU 0 waits for ptl of table 5, held by CPU 1" in lines
    assert lines[-1] == "  cycle: CPU 0 -> CPU 1 -> CPU 0"


def test_a_lost_wakeup_names_the_word_that_nobody_will_change(still):
    views, geometry = still
    views["cpu"]["finished"][1] = 1
    views["cpu"]["waits_for"][0] = Wait.FLUSH
    views["cpu"]["flush_state"][0] = FLUSH_PENDING
    views["rcu"]["asleep"][0] = 2

    lines = deadlock_lines(views, geometry, {2: [("rcu.wake", 0, 5)]})

    assert "  the coordinator waits until rcu.wake[0] (wake-up number of the coordinator) is no longer 5" in lines
    assert lines[-1] == "  no cycle: nobody is left to wake the coordinator: a wake-up was lost"


def test_a_lock_that_its_owner_took_with_it_is_no_lost_wakeup(still):
    views, geometry = still
    views["cpu"]["finished"][1] = 1
    views["ptdesc"]["ptl"][TABLE] = 2
    views["cpu"]["waits_for"][0] = Wait.PTE_LOCK
    views["cpu"]["waits_index"][0] = TABLE

    lines = deadlock_lines(views, geometry, {0: [("ptdesc.ptl", TABLE, 2)]})

    assert lines[-1] == "  no cycle: CPU 1 ended without giving back what is waited for"
