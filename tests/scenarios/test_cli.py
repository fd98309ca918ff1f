"""The command: what it prints, how it ends, what it refuses.

Covers: scenarios/session/*, scenarios/listing, workers/interrupts
"""

import json
import os
import signal
import subprocess

import click
import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from emulator.knobs import KNOBS, SETTINGS
from scenarios import cli
from scenarios.proofs.claims import CLAIMS
from scenarios.zoo.race import RACES, load_race
from workers.telling.columns import history_lines

QUICK = ["run", "multi-fault", "--cpus", "1", "--repeat", "2", "--seconds", "0.05", "--no-host"]


CASE = str(ROOT / "tests" / "conformance" / "cases" / "guard_2M_untouched.trace")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nonsense"], "unknown scenario 'nonsense'; known: multi-fault, madvise-loop, server-snapshot"),
        (["nonsense"], "unknown command 'nonsense'; known:"),
        (["run", "multi-fault", "--policy", "lazy"], "unknown policy 'lazy'; known: none, none-rcu,"),
        (["run", "multi-fault", "--policy", ","], "no policy given; known:"),
        (["run", "multi-fault", "--engine", "warp"], "unknown engine 'warp'; known: native, semaphore"),
        (["run", "multi-fault", "--knob", "x"], "unknown knob 'x'; known: publish-before-init,"),
        (["run", "multi-fault", "--variant", "x"], "unknown variant 'x'; known: barrier, arrive, self, processes"),
        (["run", "multi-fault", "--cpus", "0"], "--cpus '0' is not a number of CPUs"),
        (["run", "multi-fault", "--cpus", "1,x"], "--cpus 'x' is not a number of CPUs"),
        (["run", "multi-fault", "--repeat", "0"], "--repeat '0' is out of range"),
        (["run", "multi-fault", "--seconds", "-1"], "--seconds '-1' is out of range"),
        (["run", "multi-fault", "--seconds", "nan"], "--seconds 'nan' is out of range"),
        (["run", "multi-fault", "--seed", "x"], "--seed 'x' is out of range"),
        (["run", "multi-fault", "--bogus"], "No such option '--bogus'"),
        (["run", "multi-fault", "--json", "/nonexistent/x.json"], "cannot write /nonexistent/x.json"),
        (["run", "madvise-loop", "--size", "3M"], "--size must be a multiple of --piece"),
        (["run", "madvise-loop", "--size", "x"], "--size 'x' is not a size"),
        (["run", "madvise-loop", "--base-kb", "41"], "multiples of 4"),
        (["run", "server-snapshot", "--scale", "0"], "--scale '0' is out of range"),
        (["replay", "/nonexistent.trace"], "/nonexistent.trace"),
        (["record", "/nonexistent.trace"], "/nonexistent.trace"),
        (["replay", "/nonexistent.trace", "--host", "--policy", "refcount"], "--host compares with policy none"),
        (["run", "multi-fault", "--kill", "0@nowhere"], "--kill: unknown point 'nowhere'; known: fault.mmap-locked,"),
        (["run", "multi-fault", "--stall", "0@nowhere:1"], "--stall: unknown point 'nowhere'; known: fault.mmap-"),
        (["run", "multi-fault", "--kill", "zap.locked"], "--kill 'zap.locked' is not CPU@POINT; known: a number or"),
        (["run", "multi-fault", "--kill", "x@zap.locked"], "--kill 'x@zap.locked' is not CPU@POINT; known:"),
        (["run", "multi-fault", "--kill", "0@zap.locked:0"], "'0' is not a number of passes; known: 1 and above"),
        (["run", "multi-fault", "--kill", "0@zap.locked:x"], "'x' is not a number of passes; known: 1 and above"),
        (["run", "multi-fault", "--stall", "0@zap.locked"], "'' is not a number of seconds; known: CPU@POINT:SECONDS"),
        (["run", "multi-fault", "--stall", "0@zap.locked:x"], "'x' is not a number of seconds; known:"),
        (["run", "multi-fault", "--stall", "0@zap.locked:nan"], "'nan' is not a number of seconds; known:"),
        (["run", "multi-fault", "--stall", "0@zap.locked:-1"], "'-1' is not a number of seconds; known:"),
        (
            ["run", "multi-fault", "--cpus", "4", "--kill", "4@zap.locked"],
            "there is no CPU 4; known: 0 to 3, and coord",
        ),
        (["run", "multi-fault", "--cpus", "8,2", "--stall", "2@zap.locked:1"], "there is no CPU 2; known: 0 to 1, and"),
        (["run", "madvise-loop", "--kill", "1@zap.locked"], "there is no CPU 1; known: 0, and coordinator"),
        (["run", "server-snapshot", "--kill", "1@zap.locked"], "there is no CPU 1; known: 0, and coordinator"),
        (["replay", CASE, "--kill", "1@zap.locked"], "there is no CPU 1; known: 0, and coordinator"),
        (["run", "multi-fault", "--kill", "coordinator@zap.locked"], "the coordinator does not pass zap.locked; known"),
        (["run", "multi-fault", "--kill", "0@coordinator.idle"], "no CPU passes coordinator.idle; known: coordinator@"),
        (
            ["run", "multi-fault", "--kill", "0@zap.locked", "--stall", "1@zap.locked:1"],
            "zap.locked is named 2 times; known: one --kill or --stall for a point",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, said):
    run = ptelab(*arguments)

    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "multifault"], "multi-fault"),
        (["run", "publish-before-init"], "race/publish-before-init"),
        (["expolre"], "explore"),
        (["explore", "no-flush"], "race/no-flush"),
        (["run", "multi-fault", "--policy", "refcont"], "refcount"),
        (["run", "multi-fault", "--knob", "no-flsh"], "no-flush"),
        (["run", "multi-fault", "--kill", "0@set_pte.lockd"], "set_pte.locked"),
        (["list", "knob"], "knobs"),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_one_that_was_meant(arguments, meant):
    assert f"; did you mean {meant}? known: " in ptelab(*arguments).stderr


def test_what_was_typed_commands_no_terminal_and_breaks_no_line():
    run = ptelab("run", "stress\n\x1b[31m")

    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "'stress \\x1b[31m'" in run.stderr


def test_races_and_claims_are_listed_where_they_are_asked_for():
    asked, all_else = ptelab("list", "races", "claims").stdout, ptelab("list").stdout

    names = [line.split()[0] for line in asked.splitlines() if line.startswith("  ") and line[2] != " "]
    assert names == [f"race/{name}" for name in RACES] + [claim.name for claim in CLAIMS.values()]
    assert "race/" not in all_else
    assert "ptelab list races claims" in all_else


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "races", "claims"], ["points"], ["run", "race/no-flush", "-h"]]
)
def test_no_listing_is_wider_than_100_columns(arguments):
    assert max(map(len, ptelab(*arguments).stdout.splitlines())) <= 100


def test_the_help_of_a_race_keeps_the_columns_of_its_history():
    history = history_lines(load_race("publish-before-init").text.partition("\n\n")[2], 98)
    said = ptelab("run", "race/publish-before-init", "--help").stdout

    assert any("=====" in line for line in history)
    assert [line for line in history if line and f"  {line}\n" not in said] == []


def test_memory_scenarios_write_the_documented_rows(tmp_path):
    run = ptelab("run", "madvise-loop", "--size", "1G", "--json", str(tmp_path / "out.json"))

    record = json.loads((tmp_path / "out.json").read_text())

    assert run.returncode == 0
    assert "result  PASS" in run.stdout
    documented = {
        "policy",
        "virt_kb",
        "res_kb",
        "vmpte_kb",
        "needed_kb",
        "faults",
        "tables_installed",
        "tables_freed",
        "seconds",
    }
    assert all(row.keys() >= documented for row in record["rows"])


def test_a_violation_is_exit_status_1_and_names_the_check():
    words = ("--seconds", "0.5", "--policy", "refcount", "--knob", "no-flush", "--engine", "semaphore")

    run = ptelab(*QUICK, *words)

    assert run.returncode == 1
    assert "VIOLATED" in run.stdout
    assert "result  FAIL" in run.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_prints_what_was_measured_and_leaves_nothing(number, status):
    arguments = ["run", "multi-fault", "--cpus", "2", "--repeat", "1000", "--seconds", "0.05", "--no-host"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--json", "/dev/stderr"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    )
    while not children(process.pid):
        assert process.poll() is None
    process.send_signal(number)

    out, _ = process.communicate(timeout=60)

    assert process.returncode == status
    assert "result  INTERRUPTED" in out
    assert [name for name in os.listdir("/dev/shm") if f"ptelab-{process.pid}-" in name] == []


def test_a_killed_cpu_is_exit_status_3_and_the_json_says_the_same(tmp_path):
    run = ptelab(*QUICK, "--cpus", "2", "--kill", "1@set_pte.done:700", "--json", str(tmp_path / "out.json"))

    record = json.loads((tmp_path / "out.json").read_text())

    assert run.returncode == 3
    assert f"ptelab: {record['failure']}\n" in run.stderr
    assert record["failure"].startswith("CPU 1 was killed at set_pte.done (memory.py:set_pte: ")
    assert "CPU 0 waits for the other CPUs at barrier 0: CPU 1 (dead)" in record["failure"]
    assert record["verdict"] == "died"
    assert "result  DIED" in run.stdout


def test_a_short_stall_is_noted_and_passes():
    run = ptelab(*QUICK, "--policy", "refcount", "--stall", "0@zap.cleared:0.2")

    assert run.returncode == 0, run.stderr
    assert run.stderr.count("CPU 0 stood still for 0.") == 2
    assert "result  PASS" in run.stdout


def test_a_point_that_no_machine_passes_is_noted_and_the_run_inconclusive():
    run = ptelab("run", "madvise-loop", "--size", "1G", "--kill", "0@mincore.walking", "--stall", "0@pte_ref.read:1")

    assert run.returncode == 4
    assert "CPU 0 was not killed: it never passed mincore.walking\n" in run.stderr
    assert "CPU 0 was not stopped: it never passed pte_ref.read, which needs --knob plain-count\n" in run.stderr
    assert run.stdout.endswith("result  INCONCLUSIVE\n")


def test_points_lists_every_point():
    from emulator.watch.points import POINTS

    lines = ptelab("points").stdout.splitlines()

    assert [line.split()[0] for line in lines if line[2] != " "] == list(POINTS)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_stopped_process_stays_behind(number):
    stalled = ["--repeat", "100", "--cpus", "2", "--stall", "0@set_pte.locked:1.9"]
    process = subprocess.Popen(
        [*COMMAND, *QUICK, *stalled], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd=ROOT
    )
    while "T" not in map(state, (pids := children(process.pid))):
        assert process.poll() is None

    process.send_signal(number)
    process.wait(timeout=60)

    while any(os.path.exists(f"/proc/{pid}") and state(pid) != "Z" for pid in pids):
        pass
    assert [name for name in os.listdir("/dev/shm") if f"ptelab-{process.pid}-" in name] == []


def test_children_die_with_a_killed_parent():
    process = subprocess.Popen([*COMMAND, *QUICK, "--seconds", "60"], env=ENVIRONMENT, cwd=ROOT)
    while len(pids := children(process.pid)) < 2:
        assert process.poll() is None

    process.kill()
    process.wait()

    while any(os.path.exists(f"/proc/{pid}") and state(pid) != "Z" for pid in pids):
        pass
    assert [name for name in os.listdir("/dev/shm") if f"ptelab-{process.pid}-" in name] == []


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_list_names_every_scenario_policy_knob_setting_and_engine():
    out = ptelab("list").stdout

    for name in ("multi-fault", "server-snapshot", "refcount-rcu", *KNOBS, *SETTINGS, "semaphore"):
        assert f"  {name} " in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run mult", {"multi-fault"}),
        ("run race/no-fl", {"race/no-flush"}),
        ("explore claim/two-in", {"claim/two-installs"}),
        ("run multi-fault --policy none,refcount-", {f"none,refcount-{kind}" for kind in ("lock", "rcu", "transfer")}),
        ("run stress --knob no-flush,no-grace", {"no-flush,no-grace-period"}),
        ("run stress --kill 1@set_pte.", {f"1@set_pte.{point}" for point in ("locked", "done", "given")}),
        ("run stress --kill coordinator@coordinator.fl", None),
        ("races --only publish-before", {"publish-before-init"}),
        ("list rac", {"races"}),
        ("compare --format mark", {"markdown"}),
    ],
)
def test_a_shell_completes_names(line, offered):
    words = f"ptelab {line}"
    asked = {"_PTELAB_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    run = subprocess.run(COMMAND, capture_output=True, text=True, env={**ENVIRONMENT, **asked}, cwd=ROOT, timeout=60)

    found = {name.partition(",")[2] for name in run.stdout.splitlines()}
    assert found == offered if offered is not None else found
    assert run.stderr == ""


def options(command, path=("ptelab",)):
    """Every command with each of its options."""
    for name, one in ((n, command.get_command(None, n)) for n in command.list_commands(None)):
        if isinstance(one, click.Group):
            yield from options(one, (*path, name))
        else:
            yield from ((" ".join((*path, name)), option) for option in one.params if isinstance(option, click.Option))


def test_every_option_says_what_it_takes_and_what_it_is_for():
    found = [(name, option.opts[0]) for name, option in options(cli.ptelab) if not option.help]
    found += [(n, o.opts[0]) for n, o in options(cli.ptelab) if not (o.is_flag or o.metavar)]

    assert found == []


TRACE = "mmap 0 4M\ntouch 0 0 4M\n"


def test_a_dash_is_stdin_and_several_policies_run_one_after_another():
    command = [*COMMAND, "replay", "-", "--policy", "none,refcount", "--checks", "online"]
    run = subprocess.run(command, capture_output=True, text=True, input=TRACE, env=ENVIRONMENT, cwd=ROOT, timeout=300)

    assert run.returncode == 0, run.stderr
    names, rows = run.stdout.splitlines()[::3], run.stdout.splitlines()[2::3]
    assert names == ["# none", "# refcount"]
    assert len({row.split("\t")[1] for row in rows}) == 1  # RssAnon


def test_a_dash_is_stdout_for_a_page(tmp_path):
    record = str(ROOT / "tests" / "scenarios" / "reports" / "records" / "multi-fault.json")
    page = ptelab("compare", record, record, "--all", "--html", "-")

    assert page.returncode == 0, page.stderr
    assert page.stdout.startswith("<!doctype html>") or page.stdout.startswith("<!DOCTYPE html>")
    assert page.stdout.rstrip().endswith("</html>")
