"""Who waits for a process that will never end is told which one it is, and does not wait for ever.

Covers: workers/jobs
"""

import os
import signal
import sys

import pytest
from support import BASE, geometry_for

from scenarios.session import child
from workers import jobs, vigil
from workers.machine import Machine
from workers.programs.program import STOP, jump, mmap, touch
from workers.telling.postmortem import MachineFailed


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """What is stopped is given up after a few looks."""
    monkeypatch.setattr(vigil, "STOPPED_SECONDS", 3 * vigil.LOOK_SECONDS)


def squares(number):
    """A task; 3 is stopped, 4 dies."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_tasks_are_done_each_in_a_process_of_its_own():
    assert sorted(jobs.in_processes(squares, [0, 1, 2, 5], 2, str)) == [0, 1, 4, 25]


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (3, r"task 3 \(process \d+\) is stopped, and nothing here"),
        (4, r"task 4 \(process \d+\) was killed by SIGKILL \(by"),
    ],
)
def test_a_task_that_is_stopped_or_dies_is_named(task, says):
    with pytest.raises(MachineFailed, match=says):
        list(jobs.in_processes(squares, [0, task, 1], 2, lambda number: f"task {number}"))


def test_a_stopped_grandchild_is_named_with_the_command_it_belongs_to():
    code = "import os, signal; pid = os.fork() or os.kill(os.getpid(), signal.SIGSTOP); os.waitpid(pid, 0)"

    with pytest.raises(MachineFailed, match=r"process \d+, which belongs to a command \(process \d+\), is stopped"):
        child.watched([sys.executable, "-c", code], dict(os.environ), "a command")


def test_a_family_that_sleeps_without_an_end_is_named(monkeypatch):
    monkeypatch.setattr(vigil, "ASLEEP_SECONDS", 3 * vigil.LOOK_SECONDS)

    with pytest.raises(MachineFailed, match=r"a command \(process \d+\) has slept for"):
        child.watched([sys.executable, "-c", "import signal; signal.pause()"], dict(os.environ), "a command")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_process_of_a_machine_that_somebody_stops_ends_the_run_and_is_named(number, monkeypatch):
    monkeypatch.setattr(vigil, "STOPPED_SECONDS", 1.0)
    programs = [[mmap(BASE, 4096), touch(BASE, 4096), jump(1, 10**9), STOP]] * 2
    name = ["cpu0", "cpu1", "coordinator"][number]

    with Machine(geometry_for(programs), "refcount") as machine:
        machine.load_all(programs)
        machine.start()
        os.kill(machine.pids[number], signal.SIGSTOP)

        with pytest.raises(
            MachineFailed, match=rf"{name} of the machine \(process {machine.pids[number]}\) is stopped"
        ):
            machine.wait(60)
