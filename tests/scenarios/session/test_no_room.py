"""Memory, /dev/shm or a disk that is full in the midst of a run, and what the kernel kills then: one line, status 3,
and nothing is left.

Covers: scenarios/session/files
"""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from scenarios.session.errors import UserError
from scenarios.session.files import write_file

QUICK = ["run", "bad-input", "--engine", "semaphore", "--policy", "none"]
OWN_SHM = ["unshare", "--mount", "bash", "-c", 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "bash"]
CAN_MOUNT = subprocess.run([*OWN_SHM, "true"], capture_output=True).returncode == 0

# the machine fits when it is made; then somebody else takes all the room there is
FILLED = """
import contextlib, os
from emulator import engine
from scenarios.session import ending

def fill():
    with open("/dev/shm/other", "wb", 0) as other:
        for size in 1 << 20, 1 << 12:
            with contextlib.suppress(OSError):
                while other.write(bytes(size)) == size:
                    pass

def body():
    engine.choose("semaphore")
    from emulator.mm_types import Geometry
    from workers.machine import Machine
    from workers.programs.program import STOP, compute, mmap, touch
    with Machine(Geometry(insns=8, frames=1 << 15, tables=1 << 10)) as machine:
        machine.load(0, [mmap(1 << 30, 1 << 30), compute(500_000), touch(1 << 30, 1 << 30, 1 << 16), STOP])
        {then}
    return 0

ending.run(body)
"""


def left():
    """What lies in /dev/shm of ours."""
    return {name for name in os.listdir("/dev/shm") if "ptelab" in name}


@pytest.mark.skipif(not CAN_MOUNT, reason="only root can mount a small /dev/shm")
@pytest.mark.parametrize(
    "then", ["machine.start(); fill(); machine.wait()", "fill(); machine.views['entry'][:] = 1"], ids=["CPU", "parent"]
)
def test_a_dev_shm_that_others_fill_ends_the_run_in_one_line(then, tmp_path):
    run = subprocess.run(
        [*OWN_SHM, sys.executable, "-c", FILLED.format(then=then)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        timeout=120,
    )

    assert (run.returncode, run.stderr.count("\n")) == (3, 1), run.stderr
    assert "there is no room left in /dev/shm" in run.stderr


def test_a_bus_error_is_told_from_a_full_dev_shm_and_is_status_3(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(4096))
    code = (
        "import mmap, os, sys; from scenarios.session import ending; f = open(sys.argv[1], 'r+b');"
        "m = mmap.mmap(f.fileno(), 4096); f.truncate(0); ending.run(lambda: m[0])"
    )

    run = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, env=ENVIRONMENT)

    assert run.returncode == 3
    assert run.stderr == "ptelab: bus error: a page of a file that it reads is gone\n"


def test_a_record_for_which_there_is_no_room_is_shown_all_the_same():
    run = ptelab(*QUICK, "--json", "/dev/full")

    assert run.returncode == 3
    assert run.stderr == "ptelab: cannot write /dev/full: No space left on device\n"
    assert "check   rss " in run.stdout
    assert run.stdout.endswith("result  DIED\n")


@pytest.mark.parametrize("before", [b"what stood here", None])
def test_a_file_for_which_there_is_no_room_stays_as_it_is(before, tmp_path):
    file = tmp_path / "table.md"
    if before is not None:
        file.write_bytes(before)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
        with pytest.raises(OSError, match=f"{os.strerror(errno.EFBIG)}: .*table.md"):
            write_file(file, bytes(1 << 13))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("text", ["long enough", "", "short"])
def test_a_file_is_written_whole_whatever_stood_there(text, tmp_path):
    file = tmp_path / "table.md"
    file.write_text("a text that is longer")

    write_file(file, text)

    assert file.read_text() == text
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory"):
        write_file(tmp_path, text)


def test_a_cache_for_which_there_is_no_room_is_named_and_nothing_of_it_is_left(tmp_path):
    run = subprocess.run(
        ["bash", "-c", 'ulimit -f 2; exec "$@"', "bash", *COMMAND, "explore", "claim/zero-is-absorbing"],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        timeout=300,
    )

    said = [line for line in run.stderr.splitlines() if "compiling the kernels" not in line]
    assert (run.returncode, len(said)) == (3, 1), run.stderr
    assert said[0].startswith("ptelab: a file may not become so large (ulimit -f): OSError: ")
    assert str(tmp_path / "ptelab") in said[0]
    assert [path for path in (tmp_path / "ptelab").iterdir() if path.is_dir()] == []


def started(pid):
    """The first process that the process `pid` has forked, once it has."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return int(found[0])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "stress", "--engine", "semaphore", "--seconds", "60", "--cpus", "2"],
        ["explore", "race/no-flush", "--fixed"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_process_that_is_killed_for_want_of_memory_ends_the_command(arguments):
    before = left()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
    )

    os.kill(started(process.pid), 9)

    said = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 3, said
    assert "was killed by SIGKILL (by somebody, or because memory ran out)" in said[-1], said
    assert "Traceback" not in "".join(said)
    assert left() <= before
