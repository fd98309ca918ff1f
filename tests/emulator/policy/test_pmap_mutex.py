"""Where entries are counted under one lock an mm, the last one takes its table along, whatever took it away.

Covers: emulator/policy/plain_count, emulator/policy/mm_locked
"""

import pytest
from emptying import LAST, PAGE, THREE_CPUS
from support import BASE, ONLINE, SLOT, alone, at_rest, geometry_for

from emulator import engine
from workers.instruments import Instruments
from workers.machine import Machine
from workers.programs.program import (
    MARK,
    STOP,
    dontneed,
    mincore,
    mmap,
    touch,
)

KEEP = [mmap(BASE, SLOT), touch(BASE, 2 * PAGE), dontneed(BASE, PAGE), mincore(BASE, SLOT)]


def left(program, policy="pmap-mutex"):
    """Tables that are gone, and VmPTE in kB, when a program of one CPU has returned to user mode."""
    freed, vmpte = alone([*program, MARK, STOP], policy, files=1, file_pages=64)[2:]
    return freed, vmpte


@pytest.mark.parametrize("program", LAST.values(), ids=LAST)
def test_the_last_entry_takes_its_table_whatever_took_it(program):
    assert left(program)[0] == 1
    assert left(program, "none")[0] == 0


def test_a_table_with_an_entry_stays():
    assert left(KEEP) == (0, 12)


def test_the_upper_tables_go_with_the_last_of_theirs_unless_the_gib_maps_a_file():
    assert left(LAST["in pieces"]) == (1, 0)
    assert left(LAST["by a hole in a file"]) == (1, 8)


def test_faults_looks_and_unmaps_of_three_cpus_leave_exact_counts():
    with at_rest(THREE_CPUS, geometry_for(THREE_CPUS), "pmap-mutex", Instruments(online=True, perturb=7)) as views:
        assert int(views["cpu"]["tables_freed"].sum()) > 0


def test_a_build_without_the_family_refuses_the_policy(monkeypatch):
    monkeypatch.setattr(engine, "compiles", lambda family: False)
    with pytest.raises(ValueError, match="needs a build with the family"):
        Machine(geometry_for([[STOP]]), "pmap-mutex", ONLINE)
