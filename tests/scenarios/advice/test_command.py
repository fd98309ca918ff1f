"""advise as a command: pages, tables, files for other tools, watches, commands that it runs, and bad input.

Covers: scenarios/advice/job, scenarios/advice/watched, scenarios/advice/show, scenarios/advice/prometheus
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT
from targets import MIB, Target

BASE, GIB = 16 << 40, 1 << 30
MADV_DONTNEED = 4
WASTEFUL = (["mmap", BASE, GIB], ["touch", BASE, GIB, 2 * MIB], ["madvise", BASE, 512 * MIB, MADV_DONTNEED, 65536])
WASTE = 256 * 4  # kB


@pytest.fixture
def target():
    with Target() as target:
        target.do(*WASTEFUL)
        yield target


def words(text):
    """The figures of a page: the first word of a line -> its first number."""
    found = re.findall(r"^(\w+) +([\d,]+) kB", text, re.MULTILINE)
    return {word: int(number.replace(",", "")) for word, number in found}


def test_a_process_gets_a_page_with_figures_designs_cause_and_remedy(target):
    run = ptelab("advise", str(target.pid))
    figures = words(run.stdout)

    assert (run.returncode, run.stderr) == (0, "")
    assert figures["held"] == figures["needed"] + figures["waste"]
    assert figures["waste"] == WASTE
    assert re.search(rf"^refcount +{WASTE:,} ", run.stdout, re.MULTILINE)
    assert re.search(r"^pt-reclaim +0 ", run.stdout, re.MULTILINE)
    assert re.search(rf"^{BASE:#x} +1.00 GiB +1,024 +1,0\d\d .. 1,024|^{BASE:#x} .* 1,024", run.stdout, re.MULTILINE)
    assert "cause     memory was released and kept mapped" in run.stdout
    assert "\nremedy    " in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 100


def test_advice_needs_no_compiler_and_no_kernel_is_loaded(target):
    code = (
        "import sys; from scenarios.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "advise", str(target.pid)],
        **{"capture_output": True, "text": True, "env": ENVIRONMENT, "cwd": ROOT, "timeout": 60},
    )

    assert run.returncode == 0, run.stderr
    modules = run.stdout.splitlines()[-1]
    assert "'scenarios.advice.reading'" in modules
    assert "'numba'" not in modules
    assert "'llvmlite'" not in modules


def test_json_has_every_documented_key_and_no_other(target):
    run = ptelab("advise", str(target.pid), "--json", "-")
    record = json.loads(run.stdout)
    process, machine = record["rows"]

    assert (record["scenario"], record["verdict"]) == ("advise", "pass")
    assert process["held_kb"] == process["needed_low_kb"] + process["waste_kb"]
    assert process["waste_kb"] == WASTE
    assert process["gives_back"][0]["low_kb"] <= WASTE <= process["gives_back"][0]["high_kb"]
    section = (ROOT / "docs" / "json.md").read_text().partition("## Rows of advise")[2].partition("\n| needed |")[0]
    first_column = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    keys = {key for cell in first_column for key in re.findall(r"`(\w+)`", cell)}
    only_of_commands = {key for key in keys if key.startswith(("last_", "moment_"))}
    assert keys - only_of_commands == {*process, *machine}


def test_several_processes_make_a_table_the_most_waste_first(target):
    with Target() as other:
        run = ptelab("advise", str(other.pid), str(target.pid))

    rows = run.stdout.splitlines()[2:5]
    assert [row.split()[0] for row in rows] == [str(target.pid), str(other.pid), "all"]
    assert f"{target.pid}" in run.stdout.partition("all ")[2]  # its cause is told below
    assert max(map(len, run.stdout.splitlines())) <= 100


def test_all_is_every_process_that_has_tables_and_what_the_machine_says(target):
    run = ptelab("advise", "--all")

    assert run.returncode == 0, run.stderr
    assert re.search(rf"^{target.pid} +\S+ .* 1,024 ", run.stdout, re.MULTILINE)
    assert re.search(r"^machine   page tables ", run.stdout, re.MULTILINE)
    waste = [int(row.split("%")[0].split()[-2].replace(",", "")) for row in run.stdout.splitlines() if "%" in row]
    assert waste == sorted(waste, reverse=True)


def test_prometheus_text_is_put_in_place_at_once(target, tmp_path):
    file = tmp_path / "ptelab.prom"
    run = ptelab("advise", str(target.pid), "--prometheus", str(file))
    lines = file.read_text().splitlines()

    assert run.returncode == 0, run.stderr
    assert f'ptelab_page_tables_waste_bytes{{pid="{target.pid}",comm="python"}} {1024 * WASTE}' in [
        re.sub(r'comm="[^"]*"', 'comm="python"', line) for line in lines
    ]
    metric = re.compile(r'[a-z_]+(\{pid="\d+",comm="([^"\\]|\\.)*"\})? \d+')
    assert [line for line in lines if not line.startswith("# ") and not metric.fullmatch(line)] == []
    declared = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")} == set(declared)
    assert (file.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o644, ["ptelab.prom"])


def test_a_watch_prints_a_line_now_and_then_and_ends_with_the_process(target):
    watch = subprocess.Popen(
        [*COMMAND, "advise", str(target.pid), "--watch", "0.05"],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, "cwd": ROOT},
    )
    header, first = watch.stdout.readline(), watch.stdout.readline()
    target.do(["madvise", BASE + 512 * MIB, 510 * MIB, MADV_DONTNEED, 65536])
    while "2,044" not in (line := watch.stdout.readline()):
        assert line, watch.stderr.read()
    target.end()
    watch.stdout.read()

    assert "since last" in header
    assert first.split()[1] == str(target.pid)
    assert "1,024" in first
    assert watch.wait(60) == 0
    watch.stdout.close()
    watch.stderr.close()


def test_an_interrupted_watch_leaves_whole_records_a_line_each(target, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("what was there before\n")
    watch = subprocess.Popen(
        [*COMMAND, "advise", str(target.pid), "--watch", "0.05", "--json", str(out)],
        **{"stdout": subprocess.PIPE, "env": ENVIRONMENT, "cwd": ROOT},
    )
    for _ in range(4):
        watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    watch.stdout.read()

    assert watch.wait(60) == 130
    watch.stdout.close()
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(records) >= 2
    assert {record["rows"][0]["pid"] for record in records} == {target.pid}


CHURN = f"""
import mmap, os, sys
m = mmap.mmap(-1, {GIB}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, {GIB}, 2 << 20):
    m[at] = 1
    m.madvise(mmap.MADV_DONTNEED, at, 65536)
os.waitid(os.P_PID, os.posix_spawn("/bin/cat", ["cat", sys.argv[1]], {{}}), os.WEXITED)
m.close()
os.waitid(os.P_PID, os.posix_spawn("/bin/cat", ["cat", sys.argv[2]], {{}}), os.WEXITED)
print("its own output")
raise SystemExit(3)
"""


def test_a_command_is_run_and_told_as_it_was_when_it_wasted_most(tmp_path):
    python, out = os.path.realpath(sys.executable), tmp_path / "out.json"
    gates = [tmp_path / "wasteful", tmp_path / "unmapped"]
    for gate in gates:
        os.mkfifo(gate)
    run = subprocess.Popen(
        [*COMMAND, "advise", "--watch", "0.05", "--json", str(out), "--command", python, "-S", "-c", CHURN, *gates],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, "cwd": ROOT},
    )
    cats = set()

    def wait_for(wasteful, children):
        """Read until the command has been seen with waste, or without, and so many children in all."""
        seen = False
        while not seen or len(cats) < children:
            line = run.stdout.readline()
            assert line, run.stderr.read()
            if " cat " in line:
                cats.add(line.split()[1])
            elif found := re.search(r"([\d,]+) +\d+ %", line):
                seen |= (int(found[1].replace(",", "")) >= 511 * 4) == wasteful

    for children, (gate, wasteful) in enumerate(zip(gates, (True, False), strict=True), 1):
        wait_for(wasteful, children)
        gate.write_text("")
    stdout, stderr = run.communicate(timeout=60)
    rows = json.loads(out.read_text())["rows"]

    assert run.returncode == 0
    assert "its own output" in stdout
    assert "the command ended with 3" in stderr
    assert rows[0]["waste_kb"] >= 511 * 4
    assert rows[0]["last_waste_kb"] < 64
    assert [row.get("name") for row in rows].count("cat") == 2


def test_what_a_command_prints_goes_to_stderr_where_stdout_is_for_json():
    run = ptelab("advise", "--json", "-", "--command", "sh", "-c", "echo its own output; exec cat /dev/null")

    assert "its own output" in run.stderr
    assert run.stdout == "" or json.loads(run.stdout)["scenario"] == "advise"


def test_a_command_that_is_interrupted_does_not_stay_behind():
    run = subprocess.Popen(
        [*COMMAND, "advise", "--watch", "0.05", "--command", "sleep", "1000"],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, "cwd": ROOT},
    )
    run.stdout.readline()
    pid = int(run.stdout.readline().split()[1])
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)

    assert run.returncode == 143
    assert not Path(f"/proc/{pid}").exists()


def gone():
    """A PID that was there."""
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no process to advise; known: PID ..., --name NAME, --all, --command CMD ..."),
        (["x"], "'x' is not a PID; known: a number above 0; --name NAME takes a command's name"),
        (["0"], "'0' is not a PID"),
        (["99999999999"], "'99999999999' is not a PID"),
        (["1", "--all"], "PID, --name, --all and --command exclude each other"),
        (["--all", "--command", "true"], "exclude each other"),
        (["--command"], "--command takes a command and its arguments, to the end of the line"),
        (["--command", "/nonexistent"], "--command '/nonexistent' cannot be run: No such file or directory; --name"),
        (["--name", "no-such-name"], "no process is named 'no-such-name'"),
        (["--name", "no-such-name", "--watch", "1"], "no process is named 'no-such-name'"),
        (["--all", "--watch", "0"], "--watch '0' is out of range; known: a number from 0.01"),
        (["1", "--sample", "x"], "--sample 'x' is out of range; known: a number from 0.01"),
        (["--all", "--sample", "1"], "--sample looks at the calls of few processes"),
        (["1", "--sample", "1", "--watch", "1"], "--watch and --sample exclude each other"),
        (["1", "--json", "-", "--prometheus", "-"], "--json - and --prometheus - both want stdout"),
        (["1", "--json", "/nonexistent/x"], "cannot write /nonexistent/x"),
        (["1", "--prometheus", "/nonexistent/x"], "cannot write /nonexistent/x"),
        (["1", "--bogus"], "No such option '--bogus'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, said):
    run = ptelab("advise", *arguments)

    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_process_that_is_gone_is_one_line_and_the_others_are_told(target):
    pid = gone()
    alone, beside = ptelab("advise", pid), ptelab("advise", pid, str(target.pid))

    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr == beside.stderr == f"ptelab: there is no process {pid}\n"
    assert beside.returncode == 2
    assert words(beside.stdout)["waste"] == WASTE
