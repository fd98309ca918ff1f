"""Grace periods give tables back.

Covers: emulator/pages/page_alloc, emulator/tables/pgalloc
"""

import inspect

import pytest
from support import BASE, SLOT, at_rest, geometry_for, run_programs

from emulator.mm_types import REUSE_BUCKETS, Geometry
from emulator.pages.page_alloc import reuse_bucket
from workers.instruments import Instruments
from workers.machine import Machine
from workers.programs.program import STOP, dontneed, jump, mincore, mmap, munmap, touch


def test_a_small_pool_of_tables_is_fed_by_grace_periods():
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1, 2000), STOP]
    geometry = Geometry(insns=5, tables=12)
    with Machine(geometry, "refcount") as machine:
        run_programs(machine, [program])

        assert machine.views["cpu"]["oom"][0] == 0
        assert machine.views["cpu"]["tables_freed"][0] == 2001
        assert machine.views["cpu"]["alloc_stalls"][0] > 0


def waited_for(policy):
    """Grace periods and tables freed by callbacks, of programs that unmap beside walkers without a gather's batch."""
    unmap = [mmap(BASE, SLOT), touch(BASE, SLOT // 64), munmap(BASE, SLOT), jump(0, 30), STOP]
    look = [mincore(BASE, SLOT), jump(0, 200), STOP]
    tools = Instruments(online=True, settings={"no_gather_batch": 1})
    with at_rest([unmap, look], geometry_for([unmap, look]), policy, tools) as views:
        return int(views["rcu"]["gp_completed"][0]), int(views["rcu"]["freed"][0])


def test_a_table_without_room_in_a_gather_waits_for_its_grace_period_where_it_has_no_callback():
    """Walkers are in read sections beside it; a grace period that misses one is the race gp-ignores-reader."""
    periods, by_callback = waited_for("none-rcu")
    assert (periods >= 30, by_callback) == (True, 0)
    assert waited_for("pt-reclaim")[1] >= 30


ROUNDS = 200
RELEASED = (mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1, ROUNDS - 1), STOP)


@pytest.mark.parametrize("policy", ["refcount-lock", "refcount", "pt-reclaim"])
def test_every_table_that_is_freed_is_entered_with_the_time_since_it_was_unhooked(policy):
    with at_rest([RELEASED], geometry_for([RELEASED]), policy) as views:
        times = views["reuse_histogram"]["count"].reshape(-1, REUSE_BUCKETS)
        deferred = int(views["cpu"]["tables_deferred"].sum())

        assert times.sum() == ROUNDS == views["cpu"]["tables_freed"][0]
        assert times[-1].sum() == deferred == (0 if policy == "refcount-lock" else ROUNDS)  # the coordinator's row
        assert views["rcu"]["freed"][0] == deferred
        assert (views["rcu"]["limbo_peak"][0] > 0) == (deferred > 0)
        assert views["rcu"]["limbo_peak"][0] <= ROUNDS
        assert not views["ptnote"]["unhooked_ns"].any()


def test_a_bucket_of_the_histogram_is_an_eighth_of_a_power_of_two():
    """A bucket holds times that differ by an eighth at most, and the last all that are longer."""
    times = [*range(2000), *(3**i for i in range(7, 40))]
    buckets = [inspect.unwrap(reuse_bucket)(time) for time in times]

    assert buckets == sorted(buckets)
    assert buckets[:16] == list(range(16))
    for bucket in set(buckets) - {REUSE_BUCKETS - 1}:
        within = [time for time, found in zip(times, buckets, strict=True) if found == bucket]
        assert max(within) < min(within) * 9 / 8 + 1
    assert buckets[-1] == REUSE_BUCKETS - 1


def test_a_recorded_instruction_notes_when_it_had_ended():
    with at_rest([RELEASED], geometry_for([RELEASED])) as views:
        ended = views["record"]["ended_ns"][:3]

        assert views["cpu"]["started_ns"][0] <= ended[0] <= ended[1] <= ended[2] <= views["cpu"]["finished_ns"][0]
        assert ended[0] > 0
