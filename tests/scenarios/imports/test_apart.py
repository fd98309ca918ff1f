"""A reader in a process of its own gives what one in this process gives, in the same order, and ends with it."""

import gzip
import os
import random
import signal
import subprocess

import pytest
from command import COMMAND, ENVIRONMENT

from benchmarks.imports import KINDS, write_log
from scenarios.imports import apart
from scenarios.imports.account import Account
from scenarios.imports.command import import_files
from scenarios.imports.lines import Lines
from scenarios.imports.strace import Strace
from workers.vigil import children

RW = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0"
STRANGE = [
    "hello world",
    "1 madvise(0x7f0000000000, 4096, MADV_DONTNEED",
    "1 munmap(0x7f0000001000, 4096 <unfinished ...>",
    "1 <... munmap resumed>) = 0",
    "1 <... mremap resumed>) = 0x7f0000000000",
    "1 madvise(0x7f0000000000, 4096, 0x999999999) = 0",
    "1 uselib(0x1) = 0",
    "1 clone(child_stack=NULL, flags=SIGCHLD) = 5",
    "5 execve(\"/bin/x\", [\"x\"], 0x7f /* 3 vars */) = 0",
    "5 +++ exited with 0 +++",
    "1 read(3, \"x\", 1) = 1",
    "1 --- SIGSEGV {si_signo=SIGSEGV} ---",
    "1 brk(NULL) = 0x555500000000",
    "1 brk(0x555500021000) = 0x555500021000",
    f"1 mmap(NULL, 8192, {RW}) = 0x7f0000000000",
    "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3</lib/x.so>, 0) = 0x7f0000010000",
    "1 mprotect(0x7f0000000000, 4096, PROT_NONE) = -1 ENOMEM (Cannot allocate memory)",
    "\x1b[33m1\x1b[0m munmap(0x7f0000000000, 4096) = 0",
    "x" * 300,
]  # fmt: skip


@pytest.fixture
def together(tmp_path, monkeypatch):
    """What an import writes and says, once with a reader in this process and once with one apart; how many were."""
    made: list[object] = []
    others = children(os.getpid())  # what other tests of this process have
    begin = apart.fork().Process.start
    monkeypatch.setattr(apart.fork().Process, "start", lambda process: made.append(process) or begin(process))

    def both(path, processors=2):
        found = []
        monkeypatch.setattr(apart, "processors", lambda: processors)
        for begins in (1 << 60, 0):
            monkeypatch.setattr(apart, "FROM", begins)
            out = tmp_path / "out.trace"
            imported = import_files([str(path)], str(out))
            found.append((out.read_bytes(), imported.account.as_json(), imported.operations))
        assert children(os.getpid()) == others
        return found, len(made)

    return both


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_of_any_kind_gives_the_same_trace_and_account(tmp_path, together, kind):
    write_log(tmp_path / "log", kind, 700_000)
    (here, there), made = together(tmp_path / "log")
    assert (here == there, made, len(here[0]) > 1000) == (True, 1, True)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_told_of_strange_lines_is_told_in_the_same_order(tmp_path, together, monkeypatch, seed):
    monkeypatch.setattr("scenarios.imports.lines.BLOCK", 997)
    rng = random.Random(seed)
    text = "".join(f"{line}\n" for line in ["1 brk(NULL) = 0x555500000000", *rng.choices(STRANGE, k=3000)])
    (tmp_path / "log").write_text(text[:-3])
    (here, there), made = together(tmp_path / "log")
    assert (here == there, made, here[1]["malformed"] > 12) == (True, 1, True)


def test_a_packed_log_that_ends_early_says_so(tmp_path, together):
    write_log(tmp_path / "log", "madvise, four threads", 3_000_000)
    (tmp_path / "log.gz").write_bytes(gzip.compress((tmp_path / "log").read_bytes())[:-2000])
    (here, there), made = together(tmp_path / "log.gz")
    assert (here == there, made, any("ends early" in note for note in there[1]["notes"])) == (True, 1, True)


def test_a_short_log_and_a_host_of_one_processor_need_no_other_process(tmp_path, together, monkeypatch):
    (tmp_path / "log").write_text("1 brk(NULL) = 0x1000\n" * 10)
    _, made = together(tmp_path / "log", processors=1)
    assert made == 0
    monkeypatch.undo()
    monkeypatch.setattr(apart, "fork", None)
    import_files([str(tmp_path / "log")], str(tmp_path / "out.trace"))


def test_a_pipe_is_read_apart(tmp_path, together):
    write_log(tmp_path / "log", "mmap, brk, munmap", 700_000)
    os.mkfifo(tmp_path / "pipe")
    (here, _), _ = together(tmp_path / "log")
    writer = subprocess.Popen(["cp", tmp_path / "log", tmp_path / "pipe"])
    import_files([str(tmp_path / "pipe")], str(tmp_path / "out.trace"))
    assert writer.wait() == 0
    assert (tmp_path / "out.trace").read_bytes().partition(b"\n")[2] == here[0].partition(b"\n")[2]


@pytest.mark.parametrize(
    ("fail", "why"),
    [(lambda: 1 / 0, "division by zero"), (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed")],
)
def test_a_reader_that_fails_or_is_killed_ends_the_import(tmp_path, together, fail, why):
    (tmp_path / "log").write_text("1 brk(NULL) = 0x1000\n" * 2)
    together(tmp_path / "log")
    others = children(os.getpid())
    lines, account = Lines(str(tmp_path / "log")), Account()

    def failing():
        yield from Strace(lines, account, several=True)
        fail()

    with pytest.raises((RuntimeError, ZeroDivisionError), match=why):
        list(apart.read(failing(), lines, account))
    lines.close()
    assert children(os.getpid()) == others


def test_an_import_that_is_interrupted_ends_its_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    write_log(tmp_path / "log", "madvise, one thread", apart.FROM + (2 << 20))
    run = subprocess.Popen(
        [*COMMAND, "import", str(tmp_path / "pipe"), "-o", str(tmp_path / "out.trace")],
        env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write((tmp_path / "log").read_bytes())
        pipe.flush()
        while not (readers := children(run.pid)):
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate()
    assert run.returncode == 130, said
    assert not any(os.path.exists(f"/proc/{reader}") for reader in readers)
    assert sorted(os.listdir(tmp_path)) == ["log", "pipe"]
