"""Grace periods give tables back.

Covers: emulator/pages/page_alloc, emulator/tables/pgalloc
"""

from support import BASE, SLOT, at_rest, geometry_for, run_programs

from emulator.mm_types import Geometry
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
