"""Files that a command line names: `-` is stdin or stdout everywhere, or refused in one line.

Covers: benchmarks/command, benchmarks/judge
"""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import COMMAND, ENVIRONMENT, ptelab
from support import ROOT

from benchmarks import bench, judge, scale
from benchmarks.mutants import __main__ as mutants
from scenarios import cli
from scenarios.proofs.explore_all import _write
from scenarios.session.errors import UserError
from scenarios.session.files import input_file, output_file, stdout_is_taken
from scenarios.session.record import Record

FILE = re.compile(r"FILE|DIR|\.trace|^OLD$|^NEW$|RUN")  # metavars of what is a file


def commands(of, name):
    """Every command below a group, by its name."""
    if not isinstance(of, click.Group):
        return {name: of}
    context = click.Context(of)
    below = [commands(of.get_command(context, word), f"{name} {word}") for word in of.list_commands(context)]
    return {name: of for found in below for name, of in found.items()}


ALL = {
    **commands(cli.ptelab, "ptelab"),
    "ptelab run race/no-flush": cli.ptelab.commands["run"].get_command(None, "race/no-flush"),
    **{f"benchmarks {module.__name__}": module.main for module in (bench, judge, scale, mutants)},
}
FILES = [
    pytest.param(command, one, id=f"{name} {one.opts[0]}")
    for name, command in ALL.items()
    for one in command.params
    if FILE.search(one.make_metavar(click.Context(command)))
]


@pytest.mark.parametrize("name", ALL)
def test_the_help_of_every_command_fits(name):
    with click.Context(ALL[name], info_name=name, terminal_width=80) as context:
        said = ALL[name].get_help(context)

    assert [line for line in said.splitlines() if len(line) > 100] == []
    assert "..." not in ALL[name].get_short_help_str(200)[-3:]


def test_the_commands_name_files_in_many_places():
    assert len(FILES) > 70
    assert {param.id for param in FILES} >= {"ptelab soak --state", "ptelab findings --write", "ptelab compare old"}


@pytest.mark.parametrize(("command", "of"), FILES)
def test_a_dash_is_stdin_or_stdout_or_refused_in_one_line(command, of, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"what stdin gave")))
    with click.Context(command) as context:
        given = ("-",) if of.nargs == -1 else "-"
        try:
            value = of.callback(context, of, given)
        except UserError as error:
            message = str(error)
            assert "cannot be stdout; known: a " in message
            assert "\n" not in message
            return
        if stdout_is_taken():
            assert value in ("-", None)  # --html keeps its file in the context
            return
        (file,) = value if of.nargs == -1 else [value]
        assert Path(file).read_text() == "what stdin gave"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["soak", "--state", "-"], "--state cannot be stdout; known: a file, which is read first"),
        (["arena", "--write", "-"], "--write cannot be stdout; known: a file, which is read first"),
        (["races", "--tables", "-"], "--tables cannot be stdout; known: a file, which is read first"),
        (["report", "-", "--png", "-"], "--png cannot be stdout; known: a directory"),
        (
            ["explore", "all", "--write", "-", "--json", "-"],
            "--write - and --json - both want stdout",
        ),
        (
            ["advise", "1", "--prometheus", "-", "--format", "csv"],
            "--prometheus - and --format csv both want stdout",
        ),
        (["compare", "-", "-"], "OLD and NEW both want stdin; known: one of them"),
        (["report", "-", "-"], "RUN - is stdin, which can be read once; known: one -"),
        (["campaign", "-"], "a plan from stdin has no name for its results; known: --results FILE"),
        (["soak", "--state", "/nonexistent/file"], "cannot write /nonexistent/file: No such file or directory"),
    ],
)
def test_a_stream_that_cannot_be_had_is_one_line(arguments, said):
    run = subprocess.run(
        [*COMMAND, *arguments], input="[run]\nscenario = 'bad-input'\n", capture_output=True, text=True, env=ENVIRONMENT
    )

    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert said in run.stderr


def test_a_page_on_stdout_is_alone_there(capsys):
    command = click.Command("explore", params=[click.Option(["--write"], callback=output_file)])
    with command.make_context("explore", ["--write", "-"]):
        _write(record := Record("explore all", 0), "-")
        quiet = record.write(None)

    assert quiet
    assert capsys.readouterr().out.startswith("# The claims, and what was tried\n")


def test_without_a_dash_stdout_is_for_the_text(tmp_path):
    command = click.Command("explore", params=[click.Option(["--write"], callback=output_file)])
    with command.make_context("explore", ["--write", str(tmp_path / "claims.md")]):
        assert not Record("explore all", 0).write(None)
    assert not (tmp_path / "claims.md").exists()  # it was only looked whether it can be written


def test_stdin_is_taken_once_and_its_copy_goes_with_the_command(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    command = click.Command("compare", params=[click.Argument(["old"], callback=input_file)])
    with command.make_context("compare", ["-"]) as context:
        file = context.params["old"]
        assert Path(file).read_text() == "x"
    with pytest.raises(FileNotFoundError):
        Path(file).read_text()


def test_a_plan_comes_from_stdin_and_its_files_from_here():
    plan = '[[run]]\nscenario = "bad-input"\npolicy = "none"\n'

    run = subprocess.run(
        [*COMMAND, "campaign", "-", "--list"], input=plan, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT
    )

    assert (run.returncode, run.stdout) == (0, "ptelab run bad-input --policy none\n"), run.stderr


def test_a_trace_on_stdout_is_alone_there():
    run = ptelab("record", "-o", "-", "--program", "expr", "40", "+", "2")
    if "no tool can look" in run.stderr:
        pytest.skip("neither perf nor strace")

    assert run.returncode == 0, run.stderr
    assert "42" in run.stderr.splitlines()
    assert "42" not in run.stdout.splitlines()
    assert run.stdout.startswith("# ")


def test_the_figures_of_a_benchmark_on_stdout_are_alone_there():
    command = [sys.executable, "-m", "benchmarks.bench", "--only", "checks", "--repeat", "1", "--json", "-"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)

    assert list(json.loads(run.stdout)["figures"]) == ["--checks online over plain"], run.stderr
