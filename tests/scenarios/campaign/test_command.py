"""A campaign on a real cluster of this machine: each task once, whatever dies, and nothing is left.

Covers: scenarios/campaign/farm
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from scenarios.campaign.command import Campaign
from scenarios.campaign.farm import local_workers, opened
from scenarios.campaign.plan import Task
from scenarios.campaign.results import Results
from scenarios.session.progress import Progress
from workers.processes import processors
from workers.vigil import children, family

EXPLORE = '[[explore]]\nname = "claim/two-installs"\nbound = [0, 1]\n'
ENDLESS = "[[soak]]\nseed = 0\nprocessors = 1\n"  # without a limit it goes on for 600 s
STRESS = pytest.mark.stress
SECONDS = 250.0  # until something that must come is missed


def until(found):
    """Wait for something that must come."""
    give_up = time.monotonic() + SECONDS
    while not (what := found()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return what


def words_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def verdicts(file):
    return [(line["command"].removeprefix("ptelab "), line["verdict"]) for line in lines(file)]


class Running:
    """A campaign in the background."""

    def __init__(self, plan, *options):
        self.file = plan.with_suffix(".jsonl")
        self.process = subprocess.Popen(
            [*COMMAND, "campaign", str(plan), *options], env=ENVIRONMENT, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.everybody = set()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()  # if a test failed: its workers end with it
        self.process.communicate()

    def task(self, word):
        """The processes of a task, the first of which a worker has started."""
        found = [pid for pid in family(self.process.pid) if word in words_of(pid) and "--json" in words_of(pid)]
        self.everybody |= set(family(self.process.pid))
        return found

    def end(self):
        """What it wrote; None of its processes may be there a moment later."""
        out, err = self.process.communicate(timeout=SECONDS)
        until(lambda: not any("scenarios" in " ".join(words_of(pid)) for pid in self.everybody))
        return out, err


@pytest.fixture
def plan(tmp_path):
    def make(text):
        (tmp_path / "plan.toml").write_text(text)
        return tmp_path / "plan.toml"

    return make


def test_a_campaign_writes_a_line_per_task_tells_the_verdicts_and_resumes_to_the_same(plan, tmp_path):
    file = plan(EXPLORE + '[[explore]]\nname = "race/no-flush"\n')
    first = ptelab("campaign", str(file), "--json", str(tmp_path / "record.json"))
    refused = ptelab("campaign", str(file))
    again = ptelab("campaign", str(file), "--resume")

    assert first.returncode == 1, first.stderr
    made = lines(tmp_path / "plan.jsonl")
    assert sorted(line["verdict"] for line in made) == ["fail", "pass", "pass"]
    assert all(line["record"]["schema"] == 1 and line["host"] and line["revision"] for line in made)
    record = json.loads((tmp_path / "record.json").read_text())
    assert [(row["title"], row["count"]) for row in record["rows"]] == [
        ("pass", 2),
        ("tlb-hit-freed-frame, explore race/no-flush", 1),
    ]
    assert record["verdict"] == "fail"
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--resume goes on" in refused.stderr
    assert again.returncode == 1
    assert re.search(r"campaign: 0 tasks in [\d.]+ s, 3 before; results in", again.stdout)
    assert "again: ptelab explore race/no-flush --schedule " in again.stdout
    assert lines(tmp_path / "plan.jsonl") == made


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tls(tmp_path):
    """The options of a certificate that an authority of our own has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(tmp_path, *new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(tmp_path, *new, "-subj", "/CN=campaign", "-keyout", "me.key", "-out", "me.csr")
    openssl(tmp_path, "x509", "-req", "-in", "me.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "me.pem")  # fmt: skip
    files = {"--tls-ca-file": "ca.pem", "--tls-cert": "me.pem", "--tls-key": "me.key"}
    return [word for option, file in files.items() for word in (option, str(tmp_path / file))]


def test_a_scheduler_behind_tls_serves_those_that_its_authority_has_signed_and_loses_no_task(plan, tls, tmp_path):
    told = tmp_path / "scheduler.json"
    here = ["--host", "127.0.0.1", "--protocol", "tls", "--no-dashboard", *tls]
    dask = [sys.executable, "-m", "dask"]
    quiet = {"cwd": ROOT, "env": ENVIRONMENT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # A client asks for an answer without workers so often: it must not be taken for workers that have gone.
    often = {**ENVIRONMENT, "DASK_DISTRIBUTED__CLIENT__SCHEDULER_INFO_INTERVAL": "1ms"}
    scheduler = subprocess.Popen([*dask, "scheduler", *here, "--port", "0", "--scheduler-file", str(told)], **quiet)
    try:
        address = until(lambda: told.exists() and told.read_text() and json.loads(told.read_text())["address"])
        worker = subprocess.Popen(
            [*dask, "worker", address, *here, "--nworkers", "1", "--nthreads", "2", "--local-directory", str(tmp_path)],
            **quiet,
        )
        try:
            words = ["campaign", str(plan(EXPLORE)), "--scheduler", address]
            run = until(lambda: (run := ptelab(*words, *tls, environment=often)).returncode != 2 and run)
            stranger = ptelab(*words, "--results", str(tmp_path / "other.jsonl"))
        finally:
            worker.terminate()
            worker.wait()
    finally:
        scheduler.terminate()
        scheduler.wait()

    assert run.returncode == 0, run.stderr
    assert [verdict for _, verdict in verdicts(tmp_path / "plan.jsonl")] == ["pass", "pass"]
    assert (stranger.returncode, stranger.stderr.count("\n")) == (2, 1)
    assert "no scheduler at tls://" in stranger.stderr


@STRESS
def test_a_task_without_an_end_is_a_finding_and_the_others_go_on(plan):
    run = ptelab("campaign", str(plan(ENDLESS + "limit = 2\n" + EXPLORE)), "--format", "markdown")

    assert run.returncode == 1
    assert "| no end within 2 s, soak | 1 | 0 |" in run.stdout
    assert "| pass | 2 | - |" in run.stdout


@STRESS
@pytest.mark.skipif(processors() < 2, reason="a worker that is left needs a processor")
def test_a_worker_that_is_killed_costs_its_task_alone_which_is_run_again_on_resume(plan):
    with Running(plan(ENDLESS + EXPLORE)) as running:
        until(lambda: running.task("soak"))
        victim = next(pid for pid in family(running.process.pid) if running.task("soak")[0] in children(pid))
        os.kill(victim, signal.SIGKILL)
        out, err = running.end()

    assert sorted(verdicts(running.file)) == [
        ("explore claim/two-installs --bound 0", "pass"),
        ("explore claim/two-installs --bound 1", "pass"),
        ("soak --seed 0", "lost"),
    ], err
    assert running.process.returncode == 1
    assert "worker lost, soak" in out

    with Running(running.file.with_suffix(".toml"), "--resume") as resumed:
        until(lambda: resumed.task("soak"))
        resumed.process.send_signal(signal.SIGTERM)
        assert "2 tasks done before" in resumed.end()[1]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=STRESS), signal.SIGTERM, pytest.param(signal.SIGKILL, marks=STRESS)]
)
def test_a_campaign_that_is_ended_leaves_nothing_but_its_results_and_goes_on_from_them(plan, number):
    with Running(plan(EXPLORE + ENDLESS)) as running:
        until(lambda: running.task("soak") and len(lines(running.file)) == 2)
        before = verdicts(running.file)
        running.process.send_signal(number)
        out, _ = running.end()

    assert running.process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert ("2 tasks in" in out and ", 1 left;" in out and "result  INTERRUPTED" in out) == (number != signal.SIGKILL)
    assert not [name for name in os.listdir("/dev/shm") if any(f"ptelab-{pid}-" in name for pid in running.everybody)]
    assert verdicts(running.file) == before

    (running.file.parent / "plan.toml").write_text(EXPLORE)
    resumed = ptelab("campaign", str(running.file.with_suffix(".toml")), "--resume")
    assert resumed.returncode == 0
    assert "2 tasks done before" in resumed.stderr


@STRESS
def test_an_exploration_in_shards_runs_what_the_whole_runs_also_when_it_was_interrupted(plan, tmp_path):
    text = '[[explore]]\nname = "claim/two-installs"\nbound = 2\n'
    with Running(plan(text + "shards = 50\n")) as running:
        until(lambda: len(lines(running.file)) > 3)
        running.process.send_signal(signal.SIGTERM)
        running.end()
    resumed = ptelab("campaign", str(tmp_path / "plan.toml"), "--resume")
    whole = ptelab("explore", "claim/two-installs", "--bound", "2")

    (count,) = re.findall(r"all (\d+) executions with at most 2", whole.stdout)
    assert resumed.returncode == 0, resumed.stderr
    assert f"pass (bound 2 complete: {count} executions), explore claim/two-installs" in resumed.stdout
    prefixes = [told["prefix"] for line in lines(running.file) for told in line["record"]["rows"][0]["shards"]]
    assert len(prefixes) == len(set(prefixes)) > 5


@STRESS
def test_a_violation_in_a_shard_ends_the_exploration_with_its_schedule(plan):
    run = ptelab("campaign", str(plan('[[explore]]\nname = "race/no-flush"\nbound = 2\nshards = 20\n')))

    assert run.returncode == 1
    assert (
        "tlb-hit-freed-frame, explore race/no-flush\nagain: ptelab explore race/no-flush --bound 2 --schedule"
        in run.stdout
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--scheduler", "127.0.0.1:1"], "no scheduler at 127.0.0.1:1: ", marks=STRESS),
        (["--scheduler", "nonsense://x"], "no scheduler at nonsense://x: "),
        (["--scheduler", "tls://127.0.0.1:1", "--tls-key", "/no"], "cannot read /no"),
        (["--scheduler", "tls://127.0.0.1:1"], "no scheduler at tls://127.0.0.1:1: TLS expects"),
        (["--tls-key", "/no"], "--tls-... is for --scheduler tls://HOST:PORT"),
        (["--results", "/no/where"], "cannot write /no/where: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_line(plan, options, said):
    run = ptelab("campaign", str(plan(EXPLORE)), *options)

    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert run.stderr.startswith(f"ptelab: {said}")


@pytest.mark.stress
def test_a_port_where_nobody_speaks_is_one_line(plan):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        run = ptelab("campaign", str(plan(EXPLORE)), "--scheduler", f"127.0.0.1:{mute.getsockname()[1]}")

    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "what is there gives no answer; known: HOST:PORT of dask scheduler" in run.stderr


def test_a_command_that_cannot_be_ends_the_campaign_with_its_line(plan):
    run = ptelab("campaign", str(plan('[[run]]\nscenario = "stress"\ncpus = 1\nmms = 2\n')))

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[-1] == (
        "ptelab: ptelab run stress --cpus 1 --mms 2: --mms 2 needs as many CPUs; known: 1 to --cpus 1"
    )


def test_more_processors_than_there_are_is_one_line(plan):
    run = ptelab("campaign", str(plan(EXPLORE + "processors = 4000\n")))

    assert run.stderr == f"ptelab: a task wants 4000 processors, and this machine has {processors()}\n"


def test_a_machine_is_shared_among_workers_that_can_take_the_largest_task(monkeypatch):
    monkeypatch.setattr("scenarios.campaign.farm.processors", lambda: 8)

    assert [local_workers(most) for most in (1, 2, 3, 8)] == [(8, 1), (4, 2), (2, 4), (1, 8)]


@pytest.fixture
def _quick_tasks(monkeypatch):
    """The workers find tests/quick_task.py, and warn of nothing that is an error here."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")


@STRESS
@pytest.mark.usefixtures("_quick_tasks")
@pytest.mark.filterwarnings("default")
def test_a_thousand_short_tasks_are_each_run_once_and_none_waits_for_another(tmp_path):
    results = Results(str(tmp_path / "r.jsonl"), False)
    campaign = Campaign([Task("quick_task", ("ok", "0", str(n)), n, 60, 1, "quick") for n in range(1000)], results)
    with opened(None, {}, 1) as farm, Progress("test") as progress:
        farm.check(1)
        campaign.run(farm, progress)
    results.close()

    made = lines(tmp_path / "r.jsonl")
    assert sorted(line["seed"] for line in made) == list(range(1000))
    assert {line["verdict"] for line in made} == {"pass"}
    assert [(row["title"], row["count"]) for row in campaign.verdicts.rows()] == [("pass", 1000)]
