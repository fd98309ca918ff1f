"""Processes that die, stop or are killed: the machine ends, says why, and leaves nothing.

Covers: workers/processes, workers/telling/postmortem, workers/watchdog
"""

import os
import random
import signal

import pytest
from support import BASE, SLOT, geometry_for, hammer, run_programs

from emulator.checks import audit
from emulator.mm_types import Geometry
from workers.machine import Machine
from workers.programs.program import STOP, barrier, compute, dontneed, jump, mmap, touch
from workers.telling.postmortem import MachineFailed

FOREVER = [mmap(BASE, SLOT), touch(BASE, SLOT), dontneed(BASE, SLOT), jump(1)]


def ours_in_dev_shm():
    return [
        name
        for name in os.listdir("/dev/shm")
        if name.startswith((f"ptelab-{os.getpid()}-", f"sem.ptelab-{os.getpid()}-"))
    ]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_cpu_ends_the_run_with_its_name_and_instruction(seed):
    rng = random.Random(seed)
    programs = [FOREVER] * 3
    with Machine(geometry_for(programs), "refcount") as machine:
        machine.load_all(programs)
        machine.start()
        machine.run_for(rng.random() / 20)
        victim = rng.randrange(3)
        os.kill(machine.pids[victim], signal.SIGKILL)

        with pytest.raises(MachineFailed, match=rf"CPU {victim} was killed by SIGKILL .*at instruction \d: .*holding"):
            machine.wait()

        assert not any(alive(pid) for pid in machine.pids)
    assert ours_in_dev_shm() == []


def test_a_killed_coordinator_ends_the_run():
    with Machine(geometry_for([FOREVER]), "refcount") as machine:
        machine.load(0, FOREVER)
        machine.start()
        os.kill(machine.pids[1], signal.SIGKILL)

        with pytest.raises(MachineFailed, match="the coordinator was killed by SIGKILL"):
            machine.wait()


def test_a_cpu_that_others_stopped_ends_the_run_and_is_named():
    programs = hammer(2, 0)
    with Machine(geometry_for(programs), "refcount", patience=0.5) as machine:
        machine.load_all(programs)
        machine.start()
        os.kill(machine.pids[0], signal.SIGSTOP)
        with pytest.raises(MachineFailed, match=r"cpu0 of the machine \(process \d+\) is stopped"):
            machine.wait()

    assert not any(alive(pid) for pid in machine.pids)


def test_cpus_that_wait_for_one_that_computes_do_not_stand_still():
    programs = [[compute(900_000), barrier(), STOP], [barrier(), STOP], [barrier(), STOP]]
    with Machine(geometry_for(programs), "refcount", patience=0.2) as machine:
        run_programs(machine, programs)

        assert not machine.frozen


def test_leaving_the_machine_ends_its_processes():
    with Machine(geometry_for([FOREVER]), "refcount") as machine:
        machine.load(0, FOREVER)
        machine.start()
        pids = machine.pids

    assert not any(alive(pid) for pid in pids)
    assert ours_in_dev_shm() == []


def test_a_stopped_machine_is_sound_wherever_it_was():
    programs = hammer(4, 0)
    geometry = geometry_for(programs)
    with Machine(geometry, "refcount") as machine:
        machine.load_all(programs)
        machine.start()
        machine.run_for(0.05)
        machine.stop()

        assert not any(audit(machine.views, geometry).values())


def test_sixteen_cpus_meet_at_a_barrier():
    programs = [[barrier(), barrier(), STOP]] * 16
    with Machine(geometry_for(programs), "none") as machine:
        machine.load_all(programs)
        machine.start()

        assert machine.wait()
        assert machine.views["barrier"]["generation"][0] == 2


def test_running_out_of_tables_is_an_error_and_not_a_hang():
    program = [mmap(BASE, 64 * SLOT), touch(BASE, 64 * SLOT, SLOT), STOP]
    geometry = Geometry(insns=3, tables=20)
    with Machine(geometry, "none") as machine:
        run_programs(machine, [program])

        assert machine.views["cpu"]["oom"][0] > 0
        assert not any(audit(machine.views, geometry).values())


def test_a_program_that_does_not_fit_is_refused():
    with Machine(Geometry(insns=2), "none") as machine, pytest.raises(ValueError, match="do not fit"):
        machine.load(0, FOREVER)
