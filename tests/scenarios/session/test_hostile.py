"""Input and surroundings that mean no good: one line, a status, no hang, nothing left behind.

Covers: scenarios/traces/trace, workers/telling/postmortem
"""

import ast
import gzip
import os
import signal
import subprocess

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT, geometry_for

from emulator.segment import Segment
from scenarios.traces import trace
from scenarios.traces.trace import TraceError, parse
from workers.instruments import PLAIN
from workers.machine import power_up
from workers.programs.program import STOP
from workers.telling.postmortem import describe_death

RUN = ["run", "bad-input", "--engine", "semaphore", "--policy", "none"]


def limited(limits, arguments, **others):
    """A command under limits of the shell."""
    return subprocess.run(
        ["bash", "-c", f'{limits}; exec "$@"', "bash", *COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **others},
        cwd=ROOT,
        timeout=120,
    )


def left():
    """What lies in /dev/shm of ours."""
    return {name for name in os.listdir("/dev/shm") if "ptelab" in name}


@pytest.mark.parametrize("limits", [*(f"ulimit -n {n}" for n in (9, 11, 13, 17)), "ulimit -v 150000", "ulimit -f 0"])
def test_a_run_that_lacks_files_or_memory_ends_in_one_line_and_status_3_or_passes(limits, tmp_path):
    before = left()

    run = limited(limits, RUN, TMPDIR=str(tmp_path))

    assert run.returncode in (0, 3), run.stderr
    assert run.returncode == 0 or run.stderr.count("\n") == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert left() <= before


@pytest.mark.skipif(os.getuid() != 0, reason="the limit on processes is another user's")
def test_a_run_that_may_start_no_process_says_so(tmp_path):
    tmp_path.chmod(0o777)
    code = (
        "import os, resource, sys; os.setgroups([]); os.setgid(54321); os.setuid(54321);"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    run = subprocess.run(
        [COMMAND[0], "-c", code, *COMMAND[1:], *RUN],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": "/tmp", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        timeout=120,
    )
    if "Permission denied" in run.stderr:
        pytest.skip("this tree may not be read by others")

    assert run.returncode == 3
    assert "this host lets no more processes be started" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TraceError, match="a pipe to which nobody has written"):
        parse(tmp_path / "pipe")


def test_a_trace_comes_through_a_pipe():
    run = subprocess.run(
        [
            "bash",
            "-c",
            '"$@" <(printf "mmap 0 1G\\ntouch 0 0 4K\\n")',
            "bash",
            *COMMAND,
            "replay",
            "--engine",
            "semaphore",
        ],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        timeout=120,
    )

    assert (run.returncode, len(run.stdout.splitlines())) == (0, 2), run.stderr


@pytest.mark.parametrize("file", ["/dev/zero", "/dev/urandom", "/", "/proc/self/mem"])
def test_what_is_no_trace_is_one_line(file):
    run = ptelab("replay", file, "--engine", "semaphore")

    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr


@pytest.mark.parametrize("text", [b"mark\n", b"\n", b"# nothing\n"])
def test_a_file_that_unpacks_to_gigabytes_ends_at_a_limit(text, tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "MOST_OPERATIONS", 1000)
    monkeypatch.setattr(trace, "MOST_LINES", 5000)
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(text * 10_000)

    with pytest.raises(TraceError, match="the trace is longer than 1,000 operations, 5,000 lines"):
        parse(tmp_path / "bomb.gz")


def test_zeroes_without_an_end_are_one_long_line(tmp_path):
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(b"0" * (1 << 24))

    with pytest.raises(TraceError, match="the line is longer than"):
        parse(tmp_path / "bomb.gz")


def test_a_death_for_lack_of_room_is_said_to_be_one():
    geometry = geometry_for([[STOP]])
    views = Segment(geometry).views
    power_up(views, geometry, "none", PLAIN, [0], 1000)

    full, killed = (describe_death(views, geometry, 0, -number) for number in (signal.SIGBUS, signal.SIGKILL))

    assert full.startswith("CPU 0 was killed by SIGBUS (there is no room left in /dev/shm)")
    assert killed.startswith("CPU 0 was killed by SIGKILL (by somebody, or because memory ran out)")


def test_nothing_is_measured_by_a_clock_that_may_jump():
    straces = ROOT / "scenarios" / "imports" / "program.py"  # samples are merged with its lines, by its clock
    for top in ("emulator", "workers", "scenarios"):
        for path in {*(ROOT / top).rglob("*.py")} - {straces}:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert (node.value.id, node.attr) not in {("time", "time"), ("time", "time_ns")}, path
                    assert node.attr != "CLOCK_REALTIME", path
