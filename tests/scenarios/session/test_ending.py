"""How every command ends when something outside of it, or in it, goes wrong: never in status 1.

Covers: scenarios/__main__, scenarios/session/streams, workers/interrupts
"""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest
from command import COMMAND, ENVIRONMENT
from support import ROOT

from scenarios.cli import SCENARIOS, ptelab
from workers.vigil import children

TRACE = str(ROOT / "tests" / "conformance" / "cases" / "pageout_2M.trace")
LITMUS = str(ROOT / "tests" / "workers" / "litmus" / "tso.jsonl")
PLAIN = ["--engine", "semaphore", "--policy", "refcount"]
# a command line of each command that prints something and is over soon
COMMANDS = {
    "list": ["list"],
    "points": ["points"],
    "run": ["run", "--help"],
    "replay": ["replay", TRACE, "--engine", "semaphore"],
    "record": ["record", TRACE, "--repeat", "1"],
    "soak": ["soak", "--engine", "semaphore", "--checks", "audit", "--seconds", "0.1"],
    "races": ["races", "--only", "count-late", "--seeds", "1"],
    "explore": ["explore", "claim/zero-is-absorbing", "--executions", "5"],
    "findings": ["findings", "--help"],
    "litmus": ["litmus", LITMUS, "--memory", "sc"],
    "barriers": ["barriers", "--help"],
    "agree": ["agree", "--help"],
    "help": ["help", "traces"],
    "advise": ["advise", str(os.getpid())],
    "import": ["import", "--help"],
    "whatif": ["whatif", "--help"],
    "report": ["report", "--help"],
    "compare": ["compare", "--help"],
    "campaign": ["campaign", "--help"],
    "arena": ["arena", *PLAIN, "--workload", "zero-sparse", "--scale", "25600", "--repeat", "1"],
    "run arena": ["run", "arena", *PLAIN, "--workload", "zero-sparse", "--scale", "25600", "--repeat", "1"],
    "run multi-fault": ["run", "multi-fault", *PLAIN, "--cpus", "1", "--repeat", "1", "--seconds", "0.05", "--no-host"],
    "run madvise-loop": ["run", "madvise-loop", *PLAIN, "--size", "2M"],
    "run server-snapshot": ["run", "server-snapshot", *PLAIN, "--scale", "32768"],
    "run finish-fault-deadlock": ["run", "finish-fault-deadlock", *PLAIN, "--seconds", "0.1"],
    "run mremap-oom": ["run", "mremap-oom", "--engine", "semaphore", "--policy", "none", "--seconds", "0.1"],
    "run bad-input": ["run", "bad-input", *PLAIN],
    "run stress": ["run", "stress", *PLAIN, "--length", "20", "--cpus", "1", "--mms", "1", "--checks", "audit"],
    "run race/": ["run", "race/count-late", "--fixed", "--seconds", "0.05"],
}
LEAVES = [*(name for name in COMMANDS if name != "run")]
STATUS_3 = re.compile(r"ptelab: (.*); see (\S+\.log)\n")

# the others end by the same lines of __main__.py and streams.py: make stress asks each of them
EXAMPLES = ("list", "replay", "explore", "explore all", "run bad-input", "run stress", "run race/")


def rarely(name):
    """Nothing for an example, the mark of make stress for other commands."""
    return () if name in EXAMPLES else pytest.mark.stress


each_command = pytest.mark.parametrize("name", COMMANDS)
some_commands = pytest.mark.parametrize("name", [pytest.param(name, marks=rarely(name)) for name in COMMANDS])


def shell(tail, arguments, tmp_path):
    """A command line under the shell, whose words are the arguments, with its temporary files in a directory."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {tail}', "bash", *COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": cache_home()},
        cwd=ROOT,
        timeout=300,
    )


def cache_home():
    """Where compiled kernels are kept, wherever the temporary files are."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")


def line_and_log(run):
    """What the last line on stderr says, and the text of the log it names."""
    said = STATUS_3.fullmatch(run.stderr.splitlines(keepends=True)[-1])
    assert said is not None, run.stderr
    with open(said[2]) as log:
        return said[1], log.read()


def test_the_table_has_every_command():
    commands = [name for name in ptelab.list_commands(None) if name != "run"]

    assert set(COMMANDS) == {"run", "run race/", *commands, *(f"run {name}" for name in SCENARIOS)}


@each_command
def test_a_full_stdout_is_one_line_and_a_log_and_status_3(name, tmp_path):
    run = shell("> /dev/full", COMMANDS[name], tmp_path)

    assert run.returncode == 3, run.stderr
    said, log = line_and_log(run)
    assert said == "stdout: No space left on device"
    assert f"command  ptelab {COMMANDS[name][0]}" in log
    assert "Traceback" not in run.stderr


@some_commands
def test_a_closed_stdout_is_one_line_and_a_log_and_status_3(name, tmp_path):
    run = shell(">&-", COMMANDS[name], tmp_path)

    assert run.returncode == 3, run.stderr
    assert line_and_log(run)[0] == "stdout: Bad file descriptor"
    assert "Traceback" not in run.stderr


@some_commands
def test_a_pipe_that_nobody_reads_is_status_141_without_a_word(name, tmp_path):
    run = shell("2> >(grep -v -e ' % ' -e compiling >&2) | :", COMMANDS[name], tmp_path)

    assert (run.returncode, run.stderr) == (141, "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [pytest.param(name, marks=rarely(name)) for name in LEAVES])
def test_an_exception_nobody_expected_is_one_line_and_a_log_and_status_3(name, tmp_path):
    code = f"""
import click, scenarios.__main__
def invoke(command, context):
    if isinstance(command, click.Group):
        return original(command, context)
    raise ZeroDivisionError("in the middle of " + command.name + chr(10) + "with more lines")
original, click.Command.invoke = click.Command.invoke, invoke
import sys; sys.argv = ["ptelab", *{COMMANDS[name]!r}]
scenarios.__main__.main()
"""
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )

    if "--help" in COMMANDS[name]:
        assert run.returncode == 0
        return
    assert (run.returncode, run.stdout) == (3, "")
    said, log = line_and_log(run)
    assert said.startswith("ZeroDivisionError: in the middle of ")
    assert "with more lines" in log
    assert log.count("Traceback") == 1


def test_an_import_that_fails_is_one_line_and_a_log_and_status_3(tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('click is broken')\n")
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    run = subprocess.run([*COMMAND, "list"], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60)

    assert run.returncode == 3
    assert line_and_log(run)[0] == "ImportError: click is broken"


def test_a_fault_that_cannot_be_logged_is_still_one_line_and_status_3(tmp_path):
    run = shell("> /dev/full", ["list"], "/proc")

    assert run.returncode == 3
    assert run.stderr.count("\n") == 1


def test_results_reach_the_file_though_stdout_is_full(tmp_path):
    out = tmp_path / "out.json"

    run = shell("> /dev/full", [*COMMANDS["run bad-input"], "--json", str(out)], tmp_path)

    assert run.returncode == 3
    assert '"verdict": "pass"' in out.read_text()


@some_commands
def test_closed_stdin_and_stderr_change_nothing(name, tmp_path):
    run = shell("<&- 2>&-", COMMANDS[name], tmp_path)

    assert run.returncode == 0
    assert run.stdout != ""
    assert run.stderr == ""


LONG = {
    "replay": ["replay", "{trace}", "--engine", "semaphore"],
    "record": ["record", "{trace}", "--repeat", "1000"],
    "soak": ["soak", "--engine", "semaphore", "--checks", "audit"],
    "races": ["races"],
    "explore": ["explore", "race/publish-before-init", "--fixed", "--seconds", "600"],
    "explore all": ["explore", "all"],
    "findings": ["findings", "--only", "D1"],
    "advise": ["advise", str(os.getpid()), "--watch", "1"],
    "run multi-fault": ["run", "multi-fault", *PLAIN, "--repeat", "1000", "--no-host"],
    "run madvise-loop": ["run", "madvise-loop", *PLAIN],
    "run server-snapshot": ["run", "server-snapshot", *PLAIN],
    "run finish-fault-deadlock": ["run", "finish-fault-deadlock", *PLAIN, "--seconds", "600"],
    "run mremap-oom": ["run", "mremap-oom", *PLAIN, "--seconds", "600"],
    "run stress": ["run", "stress", *PLAIN, "--seconds", "600"],
    "run race/": ["run", "race/count-late", "--fixed", "--seconds", "600"],
}


def begin(arguments, tmp_path):
    """Start a command in a process group of its own."""
    trace = tmp_path / "long.trace"
    trace.write_text("mmap 0 64G\n" + "touch 0 0 1G\ndontneed 0 0 1G\n" * 200)
    words = [word.format(trace=trace) for word in arguments]
    return subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
    )


def has_handlers(pid):
    """True once a process has its own handlers: that for SIGALRM is the last."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line.split()[1] for line in file if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGALRM - 1) & 1)


def works(pid):
    """True once a process is at its work: it has children, or had 0.5 s of processor time."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return bool(children(pid)) or sum(int(word) for word in fields[11:15]) >= os.sysconf("SC_CLK_TCK") // 2


def wait_until(when, process):
    """Look at a process again and again, without taking its processor."""
    while not when(process.pid):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
        assert process.poll() is None, process.communicate()


ENDS = [
    *((signal.SIGTERM, 143, has_handlers, name) for name in LONG),
    *(pytest.param(signal.SIGTERM, 143, works, name, marks=rarely(name)) for name in LONG),
    *(pytest.param(signal.SIGHUP, 129, works, name, marks=rarely(name)) for name in LONG),
    *((signal.SIGINT, 130, works, name) for name in ("replay", "explore all", "run race/")),
]


@pytest.mark.parametrize(("number", "status", "when", "name"), ENDS)
def test_a_signal_ends_every_command_with_its_status(number, status, when, name, tmp_path):
    process = begin(LONG[name], tmp_path)
    wait_until(when, process)

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == status, err
    assert "Traceback" not in err
    assert [name for name in os.listdir("/dev/shm") if f"ptelab-{process.pid}-" in name] == []


def test_nohup_keeps_a_command_alive_when_its_terminal_goes():
    held = subprocess.Popen(
        ["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *COMMAND, *COMMANDS["run bad-input"]],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    wait_until(has_handlers, held)

    held.send_signal(signal.SIGHUP)
    out, _ = held.communicate(timeout=60)

    assert held.returncode == 0
    assert "result  PASS" in out
