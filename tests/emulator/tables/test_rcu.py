"""Grace periods give tables back.

Covers: emulator/pages/page_alloc, emulator/tables/pgalloc
"""

from support import BASE, SLOT, run_programs

from emulator.mm_types import Geometry
from workers.machine import Machine
from workers.programs.program import STOP, dontneed, jump, mmap, touch


def test_a_small_pool_of_tables_is_fed_by_grace_periods():
    program = [mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1, 2000), STOP]
    geometry = Geometry(insns=5, tables=12)
    with Machine(geometry, "refcount") as machine:
        run_programs(machine, [program])

        assert machine.views["cpu"]["oom"][0] == 0
        assert machine.views["cpu"]["tables_freed"][0] == 2001
        assert machine.views["cpu"]["alloc_stalls"][0] > 0
